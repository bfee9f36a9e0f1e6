//! The JSON Schema of a policy, for editors: what [`Document`]'s types and docstrings say, with what the compiler
//! checks as far as a schema can. It never refuses a policy that the reader accepts.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::document::Document;

/// It names the schema wherever a broker serves it.
const ID: &str = "urn:runner-broker:policy";

/// The schema (draft 2020-12) of a policy document, as indented JSON that ends with a line end.
pub fn schema() -> String {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Document>();
    schema.insert("$id".to_owned(), ID.into());
    let mut schema = schema.to_value();
    join_lines(&mut schema);
    format!("{schema:#}\n")
}

/// A docstring's lines are those of the source; a description has none.
fn join_lines(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = text.replace('\n', " ");
            }
            fields.values_mut().for_each(join_lines);
        }
        Value::Array(items) => items.iter_mut().for_each(join_lines),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
