//! The calls that the broker makes, each with its method and the budget that GitHub counts it in.

use http::Method;

/// What is asked of GitHub, as metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    GenerateJitconfig,
    RegistrationToken,
    RemoveToken,
    GetRunner,
    ListRunners,
    DeleteRunner,
    ListRunnerGroups,
    FindInstallation,
    GetApp,
    GetHook,
    RateLimit,
    InstallationToken,
    GetInstallation,
    ListDeliveries,
    Redeliver,
    CancelRun,
}

impl Operation {
    /// The value of the metrics' label `operation`.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::GenerateJitconfig => "generate_jitconfig",
            Operation::RegistrationToken => "registration_token",
            Operation::RemoveToken => "remove_token",
            Operation::GetRunner => "get_runner",
            Operation::ListRunners => "list_runners",
            Operation::DeleteRunner => "delete_runner",
            Operation::ListRunnerGroups => "list_runner_groups",
            Operation::FindInstallation => "find_installation",
            Operation::GetApp => "get_app",
            Operation::GetHook => "get_hook",
            Operation::RateLimit => "rate_limit",
            Operation::InstallationToken => "installation_token",
            Operation::GetInstallation => "get_installation",
            Operation::ListDeliveries => "list_deliveries",
            Operation::Redeliver => "redeliver",
            Operation::CancelRun => "cancel_run",
        }
    }

    /// The HTTP method that GitHub documents for it.
    pub fn method(self) -> Method {
        match self {
            Operation::GenerateJitconfig
            | Operation::RegistrationToken
            | Operation::RemoveToken
            | Operation::InstallationToken
            | Operation::Redeliver
            | Operation::CancelRun => Method::POST,
            Operation::DeleteRunner => Method::DELETE,
            Operation::GetRunner
            | Operation::ListRunners
            | Operation::ListRunnerGroups
            | Operation::FindInstallation
            | Operation::GetApp
            | Operation::GetHook
            | Operation::RateLimit
            | Operation::GetInstallation
            | Operation::ListDeliveries => Method::GET,
        }
    }

    /// The budget that GitHub is likely to count it in, until an answer has told.
    pub fn usual_resource(self) -> &'static str {
        match self {
            Operation::GenerateJitconfig | Operation::RegistrationToken | Operation::RemoveToken => {
                "actions_runner_registration"
            }
            Operation::RateLimit => "rate_limit",
            _ => "core",
        }
    }

    /// Whether it costs nothing of an hour, so that it can be asked when nothing is left.
    pub fn is_free(self) -> bool {
        self == Operation::RateLimit
    }

    /// Whether it removes a runner: what is kept back of a budget is for these.
    pub fn is_delete(self) -> bool {
        self == Operation::DeleteRunner
    }
}
