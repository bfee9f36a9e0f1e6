//! How a call is made: its place in the quota, the time it may take, what is repeated and what is not.

use std::time::Duration;

use http::header::HeaderValue;
use http::{Method, StatusCode};
use metrics::{counter, histogram};
use tokio::time::Instant;
use tracing::{Instrument, debug};

use super::GitHub;
use super::answer::{Answer, limit};
use super::budget::Quota;
use super::deadline::Deadline;
use super::error::Error;
use super::operation::Operation;
use super::transport::Outgoing;
use crate::model::Backoff;
use crate::telemetry::{self, SPANS};

/// One call, ready to be sent any number of times.
pub(super) struct Call<'a> {
    /// What is asked.
    pub operation: Operation,
    /// Below the API's URL, with its query.
    pub path: String,
    /// JSON.
    pub body: Option<&'a [u8]>,
    /// Of the answer that the caller holds: if it is still the same, GitHub answers 304.
    pub etag: Option<&'a str>,
}

impl Call<'_> {
    /// Without a body.
    pub fn new(operation: Operation, path: String) -> Call<'static> {
        Call { operation, path, body: None, etag: None }
    }
}

/// Of a call that may be repeated.
const MAX_ATTEMPTS: u32 = 3;
/// After this long no further attempt is begun.
const RETRY_WINDOW: Duration = Duration::from_secs(4);
/// Between two attempts.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(1));

impl GitHub {
    /// Sends a call until an answer comes that is neither a failure of GitHub's nor a limit; only a GET or
    /// DELETE is sent more than once. The deadline is of all attempts together.
    pub(super) async fn send(
        &self,
        quota: &Quota,
        bearer: &HeaderValue,
        call: &Call<'_>,
        deadline: Deadline,
    ) -> Result<Answer, Error> {
        let attempts = if call.operation.method() == Method::POST { 1 } else { MAX_ATTEMPTS };
        let begun = Instant::now();
        let mut attempt = 1;
        loop {
            let span = telemetry::step(|| {
                tracing::info_span!(
                    target: SPANS, "GitHub", otel.kind = "client", operation = call.operation.as_str(), attempt
                )
            });
            let outcome = self.send_once(quota, bearer, call, deadline).instrument(span).await;
            let pause = BACKOFF.jittered(attempt);
            let again = matches!(outcome, Err(Error::Unavailable { .. }))
                && attempt < attempts
                && begun.elapsed() < RETRY_WINDOW
                && pause < deadline.remaining();
            if !again {
                return outcome;
            }
            attempt += 1;
            tokio::time::sleep(pause).await;
        }
    }

    async fn send_once(
        &self,
        quota: &Quota,
        bearer: &HeaderValue,
        call: &Call<'_>,
        deadline: Deadline,
    ) -> Result<Answer, Error> {
        let operation = call.operation;
        let admission = quota.admit(operation, || self.clock().now(), deadline).await?;
        let method = operation.method();
        let changes = method != Method::GET;
        let out = Outgoing { method, path: &call.path, body: call.body, etag: call.etag };
        let begun = Instant::now();
        let outcome = self.transport().exchange(&out, bearer, deadline).await;
        let now = self.clock().now();
        if let Ok(answer) = &outcome {
            quota.note(operation, answer, now);
            self.note_clock(answer.clock(), now);
        }
        drop(admission);

        let status = match &outcome {
            Ok(answer) => answer.status.as_str().to_owned(),
            Err(lost) if !lost.sent => "unsent".to_owned(),
            Err(lost) => if lost.timed_out { "timeout" } else { "dropped" }.to_owned(),
        };
        let took = begun.elapsed();
        debug!(operation = operation.as_str(), path = call.path, status, ?took, "asked GitHub");
        histogram!("github_request_duration_seconds", "operation" => operation.as_str()).record(took);
        counter!("github_requests_total", "operation" => operation.as_str(), "status" => status).increment(1);

        let answer =
            outcome.map_err(|lost| Error::Unavailable { maybe_done: changes && lost.sent, why: lost.why })?;
        if answer.status.is_server_error() || answer.status == StatusCode::REQUEST_TIMEOUT {
            let why = format!("it answered {}: {}", answer.status.as_u16(), answer.message());
            return Err(Error::Unavailable { maybe_done: changes, why });
        }
        if let Some(limit) = limit(&answer, now) {
            match limit.secondary {
                true => quota.pause(limit.until),
                false => quota.exhaust(operation, limit.until),
            }
            return Err(Error::RateLimited { until: limit.until });
        }
        Ok(answer)
    }
}
