//! A runner's life as its machine leads it: `config.sh`, `run.sh`, a job, and the end.

use super::keys;
use super::records::{Purpose, RunnerState, Scope};
use super::state::State;
use crate::model::Target;

/// The version that connected runners report.
pub const RUNNER_VERSION: &str = "2.335.0";

/// Why GitHub would not do it, with the status that a runner would see.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {message}")]
pub struct Refused {
    pub status: u16,
    pub message: String,
}

fn refused(status: u16, message: impl Into<String>) -> Refused {
    Refused { status, message: message.into() }
}

fn no_runner(name: &str) -> Refused {
    refused(404, format!("no runner '{name}' here"))
}

/// The scope's key; `target` is an organisation or `owner/name`.
pub(super) fn parse(target: &str) -> Result<Target, Refused> {
    target.parse().map_err(|_| refused(404, format!("'{target}' is no organisation and no repository")))
}

impl State {
    fn at(&mut self, target: &str) -> Result<&mut Scope, Refused> {
        let key = parse(target)?;
        self.scopes.get_mut(&key).ok_or_else(|| refused(404, format!("GitHub knows no '{target}'")))
    }

    fn runner(&mut self, target: &str, name: &str) -> Result<&mut RunnerState, Refused> {
        self.at(target)?.named_mut(name).ok_or_else(|| no_runner(name))
    }

    fn redeem(&self, token: &str, target: &str, purpose: Purpose) -> Result<(), Refused> {
        let target = parse(target)?;
        let found = self.runner_tokens.get(token).filter(|found| found.purpose == purpose);
        match found {
            Some(found) if found.expires_at <= self.clock.now() => Err(refused(401, "the token has expired")),
            Some(found) if found.target == target => Ok(()),
            _ => Err(refused(404, "the token is not for this")),
        }
    }

    /// `config.sh`: adds the system labels, keeps the case of the others.
    pub fn register(
        &mut self,
        target: &str,
        name: &str,
        labels: &[impl AsRef<str>],
        ephemeral: bool,
        token: &str,
    ) -> Result<i64, Refused> {
        self.redeem(token, target, Purpose::Register)?;
        self.plant(target, name, labels, ephemeral)
    }

    /// What `register` does once the token is accepted.
    pub fn plant(
        &mut self,
        target: &str,
        name: &str,
        labels: &[impl AsRef<str>],
        ephemeral: bool,
    ) -> Result<i64, Refused> {
        if self.at(target)?.named(name).is_some() {
            return Err(refused(409, format!("a runner '{name}' exists already")));
        }
        let mut all: Vec<String> = ["self-hosted", "Linux", "X64"].map(str::to_owned).into();
        for label in labels.iter().map(AsRef::as_ref) {
            if !all.iter().any(|other| other.eq_ignore_ascii_case(label)) {
                all.push(label.to_owned());
            }
        }
        let mut runner = self.new_runner(name, 1, all);
        runner.jit = false;
        runner.ephemeral = ephemeral;
        runner.os = "Linux".into();
        runner.version = Some(RUNNER_VERSION.into());
        let id = runner.id;
        self.at(target)?.insert(runner);
        Ok(id)
    }

    /// As `plant`, `count` times under the names `prefix-0`, `prefix-1`, …; their ids.
    pub fn plant_many(
        &mut self,
        target: &str,
        prefix: &str,
        count: usize,
        labels: &[impl AsRef<str>],
    ) -> Result<Vec<i64>, Refused> {
        (0..count).map(|i| self.plant(target, &format!("{prefix}-{i}"), labels, false)).collect()
    }

    /// `config.sh remove`.
    pub fn unregister(&mut self, target: &str, name: &str, token: &str) -> Result<(), Refused> {
        self.redeem(token, target, Purpose::Remove)?;
        self.vanish(target, name)
    }

    /// `run.sh`: the runner is online.
    pub fn connect(&mut self, target: &str, name: &str) -> Result<(), Refused> {
        come_online(self.runner(target, name)?);
        Ok(())
    }

    /// `run.sh --jitconfig`: the runner whose config this is, is online. Answers its name.
    pub fn connect_jit(&mut self, encoded: &str) -> Result<String, Refused> {
        let (id, client_id) =
            keys::decode_jit(encoded).ok_or_else(|| refused(400, "this is no JIT config"))?;
        let runner = self
            .scopes
            .values_mut()
            .find_map(|scope| scope.runners.get_mut(&id))
            .filter(|runner| runner.client_id == client_id)
            .ok_or_else(|| refused(401, "the runner of this JIT config is gone"))?;
        come_online(runner);
        Ok(runner.name.clone())
    }

    /// The machine is gone; a job that it ran seems to run on.
    pub fn disconnect(&mut self, target: &str, name: &str) -> Result<(), Refused> {
        self.runner(target, name)?.online = false;
        Ok(())
    }

    pub fn start_job(&mut self, target: &str, name: &str) -> Result<(), Refused> {
        let runner = self.runner(target, name)?;
        if !runner.online || runner.busy {
            return Err(refused(409, format!("runner '{name}' is not waiting for a job")));
        }
        runner.busy = true;
        Ok(())
    }

    /// The job is over; an ephemeral runner vanishes with it.
    pub fn finish_job(&mut self, target: &str, name: &str) -> Result<(), Refused> {
        let runner = self.runner(target, name)?;
        if !runner.busy {
            return Err(refused(409, format!("runner '{name}' runs no job")));
        }
        runner.busy = false;
        match runner.ephemeral {
            true => self.vanish(target, name),
            false => Ok(()),
        }
    }

    /// As if somebody had removed it by hand, busy or not.
    pub fn vanish(&mut self, target: &str, name: &str) -> Result<(), Refused> {
        let id = self.runner(target, name)?.id;
        self.at(target)?.remove(id);
        Ok(())
    }

    /// What GitHub shows from now on, the system's labels included.
    pub fn set_labels(
        &mut self,
        target: &str,
        name: &str,
        labels: &[impl AsRef<str>],
    ) -> Result<(), Refused> {
        self.runner(target, name)?.labels = labels.iter().map(|label| label.as_ref().to_owned()).collect();
        Ok(())
    }
}

fn come_online(runner: &mut RunnerState) {
    runner.online = true;
    runner.os = "Linux".into();
    runner.version = Some(RUNNER_VERSION.into());
}
