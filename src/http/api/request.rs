//! The bodies that ask for a runner: JSON, parsed into an [`Ask`] with every fault reported at once.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::command::survives_windows;
use crate::http::idempotency::Canonical;
use crate::http::problem::{FieldError, Problem};
use crate::model::{Arch, GroupRef, Label, Method, NameAsk, Os, Target};
use crate::policy::Ask;

/// A request with the eleven fields that all three have in common, so that they cannot drift apart.
macro_rules! request {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$fdoc])* pub $field: $type,)*
            /// The runner's name: 1 to 64 of `A-Za-z0-9._-`. Either this or `runner_name_prefix`.
            #[serde(default)]
            #[schema(example = "ci-worker-001", min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$")]
            pub runner_name: Option<String>,
            /// A unique suffix (`-` and six of `a-z0-9`) is added.
            #[serde(default)]
            #[schema(min_length = 1, max_length = 50, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$")]
            pub runner_name_prefix: Option<String>,
            /// Custom labels; the system's and the team's required ones are added.
            #[serde(default)]
            #[schema(example = json!(["gpu"]), max_items = 100)]
            pub labels: Vec<String>,
            /// GitHub's id of the runner group. Either this or `runner_group`.
            #[serde(default)]
            #[schema(minimum = 1)]
            pub runner_group_id: Option<i64>,
            /// The runner group's name.
            #[serde(default)]
            pub runner_group: Option<String>,
            /// Needed by callers of several teams.
            #[serde(default)]
            pub team: Option<String>,
            /// The organisation to register with; the default is the broker's. Either this or `repository`.
            #[serde(default)]
            pub organization: Option<String>,
            /// `owner/name` of the repository to register with.
            #[serde(default)]
            pub repository: Option<String>,
            /// With `arch` and `self-hosted` the runner's system labels.
            #[serde(default = "linux")]
            #[schema(schema_with = os_schema)]
            pub os: Os,
            #[serde(default = "x64")]
            #[schema(schema_with = arch_schema)]
            pub arch: Arch,
            /// Relative to the runner's own folder.
            #[serde(default = "default_work_folder")]
            #[schema(example = "_work", min_length = 1, max_length = 255)]
            pub work_folder: String,
        }

        impl $name {
            /// The fields that all requests have.
            fn shared(&self) -> Shared<'_> {
                Shared {
                    runner_name: self.runner_name.as_deref(),
                    runner_name_prefix: self.runner_name_prefix.as_deref(),
                    labels: &self.labels,
                    runner_group_id: self.runner_group_id,
                    runner_group: self.runner_group.as_deref(),
                    team: self.team.as_deref(),
                    organization: self.organization.as_deref(),
                    repository: self.repository.as_deref(),
                    os: self.os,
                    arch: self.arch,
                    work_folder: &self.work_folder,
                }
            }
        }
    };
}

request! {
    /// A JIT runner to be. JIT runners are always ephemeral.
    JitRequest {}
}

request! {
    /// A runner to be that registers itself with a token.
    ProvisionRequest {
        /// The runner takes one job and is gone.
        #[serde(default = "yes")]
        ephemeral: bool,
        /// The runner does not update itself.
        #[serde(default)]
        disable_update: bool,
    }
}

request! {
    /// A provision to be decided but not done.
    ExplainRequest {
        #[schema(schema_with = method_schema)]
        method: Method,
        /// The runner takes one job and is gone.
        #[serde(default = "yes")]
        ephemeral: bool,
        /// The runner does not update itself.
        #[serde(default)]
        disable_update: bool,
    }
}

impl JitRequest {
    /// Checks the request. `Err`: every fault, by field.
    pub fn parse(&self) -> Result<Ask, Problem> {
        self.shared().parse(Method::Jit, true, false)
    }
}

impl ProvisionRequest {
    /// Checks the request. `Err`: every fault, by field.
    pub fn parse(&self) -> Result<Ask, Problem> {
        self.shared().parse(Method::RegistrationToken, self.ephemeral, self.disable_update)
    }
}

impl ExplainRequest {
    /// Checks the request. `Err`: every fault, by field.
    pub fn parse(&self) -> Result<Ask, Problem> {
        self.shared().parse(self.method, self.ephemeral, self.disable_update)
    }
}

impl Canonical for JitRequest {
    const REQUIRED: &'static [&'static str] = &[];
}

impl Canonical for ProvisionRequest {
    const REQUIRED: &'static [&'static str] = &[];
}

impl Canonical for ExplainRequest {
    const REQUIRED: &'static [&'static str] = &["method"];
}

/// The fields that all requests have.
struct Shared<'a> {
    runner_name: Option<&'a str>,
    runner_name_prefix: Option<&'a str>,
    labels: &'a [String],
    runner_group_id: Option<i64>,
    runner_group: Option<&'a str>,
    team: Option<&'a str>,
    organization: Option<&'a str>,
    repository: Option<&'a str>,
    os: Os,
    arch: Arch,
    work_folder: &'a str,
}

impl Shared<'_> {
    fn parse(&self, method: Method, ephemeral: bool, disable_update: bool) -> Result<Ask, Problem> {
        let mut errors = Vec::new();
        let name = self.name(&mut errors);
        let labels = self.labels(&mut errors);
        let group = self.group(&mut errors);
        let target = self.target(&mut errors);
        if self.team.is_some_and(|team| !is_plain(team)) {
            errors.push(FieldError::new("team", "1 to 256 characters without control characters"));
        }
        if !is_inside(self.work_folder) {
            let message =
                "1 to 255 characters, a relative path without '..', backslash or control characters";
            errors.push(FieldError::new("work_folder", message));
        }
        self.fit_for_windows(&mut errors);
        match name {
            Some(name) if errors.is_empty() => Ok(Ask {
                method,
                name,
                labels,
                team: self.team.map(str::to_owned),
                target,
                group,
                os: self.os,
                arch: self.arch,
                ephemeral,
                disable_update,
                work_folder: self.work_folder.to_owned(),
            }),
            _ => Err(Problem::invalid(errors)),
        }
    }

    /// Every text of a command for Windows must survive PowerShell and `cmd.exe`.
    fn fit_for_windows(&self, errors: &mut Vec<FieldError>) {
        let labels =
            self.labels.iter().enumerate().map(|(index, label)| (format!("labels[{index}]"), label.as_str()));
        let group = self.runner_group.map(|group| ("runner_group".to_owned(), group));
        let folder = [("work_folder".to_owned(), self.work_folder)];
        for (field, text) in labels.chain(group).chain(folder).filter(|_| self.os == Os::Windows) {
            if !survives_windows(text) {
                let message = "for Windows only ASCII without any of \" % & | < > ^ ! `";
                errors.push(FieldError::new(field, message));
            }
        }
    }

    fn name(&self, errors: &mut Vec<FieldError>) -> Option<NameAsk> {
        let (field, parsed) = match (self.runner_name, self.runner_name_prefix) {
            (Some(name), None) => ("runner_name", name.parse().map(NameAsk::Exact)),
            (None, Some(prefix)) => ("runner_name_prefix", prefix.parse().map(NameAsk::Prefix)),
            _ => {
                errors.push(FieldError::new("runner_name", "give either runner_name or runner_name_prefix"));
                return None;
            }
        };
        parsed.map_err(|err| errors.push(FieldError::new(field, err))).ok()
    }

    /// The limit counts repeated labels too.
    fn labels(&self, errors: &mut Vec<FieldError>) -> BTreeSet<Label> {
        if self.labels.len() > Label::MOST {
            errors.push(FieldError::new("labels", format!("at most {} labels", Label::MOST)));
            return BTreeSet::new();
        }
        let mut labels = BTreeSet::new();
        for (index, text) in self.labels.iter().enumerate() {
            match text.parse::<Label>() {
                Ok(label) => drop(labels.insert(label)),
                Err(err) => errors.push(FieldError::new(format!("labels[{index}]"), err)),
            }
        }
        labels
    }

    fn group(&self, errors: &mut Vec<FieldError>) -> Option<GroupRef> {
        match (self.runner_group_id, self.runner_group) {
            (None, None) => None,
            (Some(id), None) if id > 0 => Some(GroupRef::Id(id)),
            (Some(_), None) => {
                errors.push(FieldError::new("runner_group_id", "a positive number"));
                None
            }
            (None, Some(name)) if is_plain(name) => Some(GroupRef::Name(name.to_owned())),
            (None, Some(_)) => {
                errors
                    .push(FieldError::new("runner_group", "1 to 256 characters without control characters"));
                None
            }
            (Some(_), Some(_)) => {
                errors.push(FieldError::new("runner_group", "give either runner_group_id or runner_group"));
                None
            }
        }
    }

    fn target(&self, errors: &mut Vec<FieldError>) -> Option<Target> {
        let (field, text, wants_repository) = match (self.organization, self.repository) {
            (None, None) => return None,
            (Some(organization), None) => ("organization", organization, false),
            (None, Some(repository)) => ("repository", repository, true),
            (Some(_), Some(_)) => {
                errors.push(FieldError::new("repository", "give either organization or repository"));
                return None;
            }
        };
        match text.parse() {
            Ok(target) if matches!(target, Target::Repository { .. }) == wants_repository => Some(target),
            Ok(_) if wants_repository => {
                errors.push(FieldError::new(field, "owner/name of a repository"));
                None
            }
            Ok(_) => {
                errors.push(FieldError::new(
                    field,
                    "the name of an organisation; a repository goes into 'repository'",
                ));
                None
            }
            Err(err) => {
                errors.push(FieldError::new(field, err));
                None
            }
        }
    }
}

/// Whether a text fits into a log and into Postgres, which does not store NUL.
fn is_plain(name: &str) -> bool {
    (1..=256).contains(&name.chars().count()) && !name.chars().any(char::is_control)
}

/// A relative path that stays inside the runner's folder on every system.
fn is_inside(folder: &str) -> bool {
    (1..=255).contains(&folder.len())
        && !folder.chars().any(|c| c.is_control() || c == '\\' || c == ':')
        && !folder.starts_with(['/', '~', '-'])
        && folder.split('/').all(|part| part != "..")
}

fn linux() -> Os {
    Os::Linux
}

fn x64() -> Arch {
    Arch::X64
}

fn yes() -> bool {
    true
}

fn default_work_folder() -> String {
    "_work".into()
}

/// The schema of one of the model's enumerations, with its default.
pub fn one_of(
    words: impl IntoIterator<Item = &'static str>,
    default: Option<&'static str>,
) -> utoipa::openapi::Object {
    utoipa::openapi::ObjectBuilder::new()
        .schema_type(utoipa::openapi::Type::String)
        .enum_values(Some(words))
        .default(default.map(Into::into))
        .build()
}

fn os_schema() -> utoipa::openapi::Object {
    one_of(Os::ALL.iter().map(|os| os.as_str()), Some("linux"))
}

fn arch_schema() -> utoipa::openapi::Object {
    one_of(Arch::ALL.iter().map(|arch| arch.as_str()), Some("x64"))
}

pub fn method_schema() -> utoipa::openapi::Object {
    one_of(Method::ALL.iter().map(|method| method.as_str()), None)
}
