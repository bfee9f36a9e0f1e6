//! What is asked for, and what comes back: the contract's bodies.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Error;

/// How the runner gets its credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `POST /api/v1/runners/jit`: a configuration for `run.sh`.
    Jit,
    /// `POST /api/v1/runners/provision`: a token for `config.sh`.
    Registration,
}

/// What is asked of the broker: the body, as the contract has it.
pub struct RunnerRequest {
    /// Which of the two calls.
    pub method: Method,
    /// JSON as it is sent.
    pub body: Map<String, Value>,
}

impl RunnerRequest {
    /// Under the broker's base URL.
    pub fn path(&self) -> &'static str {
        match self.method {
            Method::Jit => "api/v1/runners/jit",
            Method::Registration => "api/v1/runners/provision",
        }
    }

    /// Whether the runner is meant for one job.
    pub fn ephemeral(&self) -> bool {
        self.body.get("ephemeral").and_then(Value::as_bool).unwrap_or(true)
    }
}

/// A runner that was made, with what starts it.
pub struct IssuedRunner {
    /// The broker's id, a UUID.
    pub runner_id: String,
    /// As GitHub has it.
    pub runner_name: String,
    /// The whole answer, on one line.
    pub json: SecretString,
    /// For a shell in the runner's folder.
    pub command: SecretString,
    /// The JIT configuration or the registration token.
    pub credential: SecretString,
}

impl IssuedRunner {
    /// Reads a 201's body. An error says nothing of what is in it.
    pub fn parse(method: Method, text: &SecretString) -> Result<IssuedRunner, Error> {
        #[derive(Deserialize)]
        struct Body {
            runner_id: String,
            runner_name: String,
            #[serde(alias = "encoded_jit_config", alias = "registration_token")]
            credential: String,
            #[serde(alias = "run_command", alias = "configuration_command")]
            command: String,
        }
        let missing = match method {
            Method::Jit => "a JIT runner",
            Method::Registration => "a registration",
        };
        let wrong =
            |_| Error::Failed(format!("the answer is not {missing} of a broker's: is --url the right one?"));
        let body: Body = serde_json::from_str(text.expose_secret()).map_err(wrong)?;
        let value: Value = serde_json::from_str(text.expose_secret()).map_err(wrong)?;
        // Its id goes into paths.
        if uuid::Uuid::try_parse(&body.runner_id).is_err() {
            return Err(Error::Failed("the answer names no runner: is --url the right one?".into()));
        }
        Ok(IssuedRunner {
            runner_id: body.runner_id,
            runner_name: super::plain(&body.runner_name),
            json: value.to_string().into(),
            command: body.command.into(),
            credential: body.credential.into(),
        })
    }
}
