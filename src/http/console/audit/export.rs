//! What is filtered of the audit log, as a file. It streams: some hundred events at a time are in memory.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION};
use actix_web::web::{Bytes, Data};
use actix_web::{HttpResponse, get};
use futures_util::{StreamExt, stream};

use crate::broker::Error;
use crate::broker::audit::csv::{csv_header, csv_rows};
use crate::broker::audit::export::{Export, Exported};
use crate::http::State;
use crate::http::api::query::AuditQuery;
use crate::http::console::frame::form::Asked;
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
    Asked(fields): Asked,
) -> Result<HttpResponse, PageError> {
    let format = Format::parse(fields.get("format"))?;
    let (filter, _, _) = fields.without("format").parse::<AuditQuery>()?.parse()?;
    let mut begun = Begun { export: Export::new(session.caller, filter), state, format, header: true };
    // What fails at once is a page that says so.
    let first = begun.next().await?;
    let rest = stream::try_unfold(begun, |mut begun| async move {
        let next =
            begun.next().await.inspect_err(|err| tracing::error!(error = %err, "an export broke off"))?;
        Ok::<_, Error>(next.map(|bytes| (bytes, begun)))
    });
    let file = stream::iter(first.map(Ok)).chain(rest);
    let (name, content_type) = format.name_and_type();
    Ok(HttpResponse::Ok()
        .content_type(content_type)
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((CONTENT_DISPOSITION, format!("attachment; filename=\"audit.{name}\"")))
        .body(actix_web::body::BodyStream::new(Box::pin(file))))
}

/// An export on its way.
struct Begun {
    export: Export,
    state: Data<State>,
    format: Format,
    /// The columns' names are still to be written.
    header: bool,
}

impl Begun {
    /// The next part of the file. `None`: that was all.
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
    // Into memory, where nothing fails.
    let begun = if header { csv_header(&mut text) } else { Ok(()) };
    let _ = begun.and_then(|()| csv_rows(&mut text, events.iter().map(|one| &one.event)));
    Bytes::from(text)
}
