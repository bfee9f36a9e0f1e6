//! GitHub's OpenAPI description, as JSON schemas for the answers.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::Validator;
use serde_json::{Value, json};

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let text = include_str!("../../../fixtures/github-rest-api.json");
    let mut document = serde_json::from_str(text).unwrap();
    without_nullable(&mut document);
    document
});
static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// Panics if GitHub would not have answered so: undocumented errors must be basic errors.
pub fn check(method: &str, path: &str, status: u16, body: &[u8]) {
    let what = format!("{method} {path} {status}");
    let Some(schema) = schema(method, path, status) else {
        assert!(body.is_empty(), "{what} has no body in GitHub's description");
        return;
    };
    let body: Value = serde_json::from_slice(body).unwrap_or_else(|err| panic!("{what}: {err}"));
    let key = schema.to_string();
    let known = VALIDATORS.lock().unwrap().get(&key).cloned();
    let validator = known.unwrap_or_else(|| {
        // The schema's references are to the whole document, so it stands at the document's root.
        let mut root = DOCUMENT.clone();
        root["allOf"] = json!([schema]);
        let made = Arc::new(jsonschema::draft4::new(&root).unwrap());
        VALIDATORS.lock().unwrap().insert(key, made.clone());
        made
    });
    let faults: Vec<String> =
        validator.iter_errors(&body).map(|err| format!("{}: {err}", err.instance_path)).collect();
    assert!(faults.is_empty(), "{what}: {faults:#?}\n{body:#}");
}

/// What the body of an answer must be; `None`: empty.
fn schema(method: &str, path: &str, status: u16) -> Option<Value> {
    let path = path.split('?').next().unwrap_or_default();
    let path = path.strip_prefix("/api/v3").unwrap_or(path);
    let operation = operation(path).map(|item| &item[method.to_lowercase()]).filter(|op| op.is_object());
    let response = match operation.map(|op| &op["responses"][status.to_string()]) {
        Some(response) if response.is_object() => resolve(response),
        // Documented or not, every operation answers 304 to a fitting If-None-Match.
        _ if status == 304 => return None,
        _ => {
            assert!(status >= 400, "{method} {path} never answers {status}");
            return Some(json!({ "$ref": "#/components/schemas/basic-error" }));
        }
    };
    let schema = &response["content"]["application/json"]["schema"];
    schema.is_object().then(|| schema.clone())
}

fn operation(path: &str) -> Option<&'static Value> {
    let segments: Vec<&str> = path.split('/').collect();
    let fits = |template: &str| {
        let template: Vec<&str> = template.split('/').collect();
        template.len() == segments.len()
            && template.iter().zip(&segments).all(|(t, s)| t == s || t.starts_with('{'))
    };
    let paths = DOCUMENT["paths"].as_object().unwrap().iter().filter(|(template, _)| fits(template));
    // The most literal one: `…/runners/registration-token` is also `…/runners/{runner_id}`.
    paths.min_by_key(|(template, _)| template.matches('{').count()).map(|(_, item)| item)
}

fn resolve(response: &'static Value) -> &'static Value {
    match response["$ref"].as_str() {
        Some(to) => DOCUMENT.pointer(to.trim_start_matches('#')).unwrap(),
        None => response,
    }
}

/// OpenAPI 3.0 says `nullable`, JSON Schema says `type: [.., "null"]`.
fn without_nullable(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(without_nullable),
        Value::Object(fields) => {
            fields.values_mut().for_each(without_nullable);
            if fields.get("nullable") == Some(&Value::Bool(true)) {
                fields.remove("nullable");
                let schema = std::mem::take(fields);
                *value = json!({ "anyOf": [schema, { "type": "null" }] });
            }
        }
        _ => {}
    }
}
