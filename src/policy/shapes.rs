//! What the values of a document look like, for its JSON Schema. Nothing here is stricter than the compiler.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::json;

use crate::model::Method;

/// As [`super::is_team_name`] has it.
pub(super) const TEAM_NAME: &str = r"^[A-Za-z0-9._-]([A-Za-z0-9._ -]{0,62}[A-Za-z0-9._-])?$";

/// As [`crate::model::Label`] is read: printable ASCII without a comma, and spaces around it.
pub(super) const LABEL: &str = r"^ *[!-+\x2d-~]([ -+\x2d-~]{0,254}[!-+\x2d-~])? *$";

/// A [`crate::model::Target`] in whose repository `*` stands for anything.
pub(super) const TARGET: &str = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,38}(/[A-Za-z0-9._*-]{1,100})?$";

/// Without control characters.
pub(super) const LINE: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

/// Without control characters but line ends and tabs.
pub(super) const LINES: &str = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]*$";

/// A date or a date and time of RFC 3339 (the reader uses it too).
pub(super) const UNTIL: &str = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2}))?$";

/// A claim's name, or a JSON Pointer: `~` is written `~0` and `/` is written `~1`.
const CLAIM: &str = r"^([^/\u0000][^\u0000]*|(/([^~/\u0000]|~[01])*)+)$";

pub(super) fn methods(_: &mut SchemaGenerator) -> Schema {
    let names: Vec<&str> = Method::ALL.iter().map(|method| method.as_str()).collect();
    json_schema!({ "type": "array", "minItems": 1, "items": { "enum": names } })
}

pub(super) fn groups(_: &mut SchemaGenerator) -> Schema {
    let id = json!({ "type": "integer", "minimum": 1, "description": "GitHub's id of the group" });
    let name =
        json!({ "type": "string", "minLength": 1, "pattern": LINE, "description": "The group's name" });
    json_schema!({ "type": "array", "minItems": 1, "items": { "anyOf": [id, name] } })
}

pub(super) fn limit(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "minimum": 0 })
}

pub(super) fn until(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": UNTIL })
}

pub(super) fn claims(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "minProperties": 1,
        "propertyNames": { "pattern": CLAIM },
        "additionalProperties": { "type": "string", "pattern": r"^[^\u0000]*$" },
    })
}
