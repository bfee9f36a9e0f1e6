//! The filtered events of the audit log as a file. It is streamed: a few hundred events at a time are in memory.
//!
//! Reads 500 events at a time, holds no connection while the browser is slow, and ends at 100,000 events. The whole
//! log with its seal is `export-audit-log`'s.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION};
use actix_web::web::{Bytes, Data};
use actix_web::{HttpResponse, get};
use futures_util::{StreamExt, stream};

use crate::broker::Error;
use crate::broker::audit::csv::{csv_header, csv_rows};
use crate::broker::audit::export::{Export, Exported};
use crate::http::State;
use crate::http::api::query::AuditQuery;
use crate::http::console::frame::form::PageQuery;
use crate::http::console::frame::page::PageError;
use crate::http::console::frame::session::SignedIn;
use crate::http::problem::{FieldError, Problem};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    JsonLines,
    Csv,
}

impl Format {
    fn parse(text: Option<&str>) -> Result<Format, Problem> {
        match text {
            None | Some("jsonl") => Ok(Format::JsonLines),
            Some("csv") => Ok(Format::Csv),
            Some(_) => Err(Problem::invalid(vec![FieldError::new("format", "jsonl or csv")])),
        }
    }

    fn name_and_type(self) -> (&'static str, &'static str) {
        match self {
            Format::JsonLines => ("jsonl", "application/jsonl; charset=utf-8"),
            Format::Csv => ("csv", "text/csv; charset=utf-8"),
        }
    }
}

#[get("/audit/export")]
pub async fn export(
    SignedIn(session): SignedIn,
    state: Data<State>,
    PageQuery(fields): PageQuery,
) -> Result<HttpResponse, PageError> {
    let format = Format::parse(fields.get("format"))?;
    let (filter, _, _) = fields.without("format").parse::<AuditQuery>()?.parse()?;
    let mut running = Running { export: Export::new(session.caller, filter), state, format, header: true };
    // An error before the first event is answered as an error page.
    let first = running.next().await?;
    let rest = stream::try_unfold(running, |mut running| async move {
        let next = running
            .next()
            .await
            .inspect_err(|err| tracing::error!(error = %err, "an export was interrupted"))?;
        Ok::<_, Error>(next.map(|bytes| (bytes, running)))
    });
    let file = stream::iter(first.map(Ok)).chain(rest);
    let (name, content_type) = format.name_and_type();
    Ok(HttpResponse::Ok()
        .content_type(content_type)
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((CONTENT_DISPOSITION, format!("attachment; filename=\"audit.{name}\"")))
        .body(actix_web::body::BodyStream::new(Box::pin(file))))
}

/// An export that is being sent.
struct Running {
    export: Export,
    state: Data<State>,
    format: Format,
    /// The header line has not been sent yet.
    header: bool,
}

impl Running {
    /// The next part of the file. `None`: the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let events = self.state.broker.export(&mut self.export).await?;
        let header = std::mem::take(&mut self.header) && self.format == Format::Csv;
        if events.is_empty() && !header {
            return Ok(None);
        }
        Ok(Some(match self.format {
            Format::JsonLines => lines(&events),
            Format::Csv => csv(&events, header),
        }))
    }
}

fn lines(events: &[Exported]) -> Bytes {
    Bytes::from(events.iter().map(|event| format!("{}\n", event.line)).collect::<String>())
}

fn csv(events: &[Exported], header: bool) -> Bytes {
    let mut text = Vec::new();
    // Writing to memory does not fail.
    let header = if header { csv_header(&mut text) } else { Ok(()) };
    let _ = header.and_then(|()| csv_rows(&mut text, events.iter().map(|one| &one.event)));
    Bytes::from(text)
}
