//! The console's verifier in node: what an event's page shows is proved by its proof, and nothing else is.

use std::path::Path;
use std::process::Stdio;

use reqwest::Method;
use runner_broker::broker::audit::sealer::Sealer;
use runner_broker::seal::key::SigningKey;
use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::browser::Browser;
use crate::support::{World, eventually};
use crate::tools::{here, machine_program};

/// The steps of the verifier, by their states.
async fn verify(node: &Path, fields: &Value, proof: &Value, vkeys: &str) -> Vec<(String, String)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/console/frame/assets/verify.js");
    let mut process = Command::new(node)
        .arg(here("verify.mjs"))
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("node");
    let asked = json!({ "fields": fields, "proof": proof, "vkeys": vkeys }).to_string();
    let mut stdin = process.stdin.take().expect("its input");
    stdin.write_all(asked.as_bytes()).await.expect("its input");
    drop(stdin);
    let output = process.wait_with_output().await.expect("its end");
    assert!(output.status.success(), "{output:?}");
    let steps: Vec<Value> = serde_json::from_slice(&output.stdout).expect("steps");
    let text = |step: &Value, name: &str| step[name].as_str().expect("text").to_owned();
    steps.iter().map(|step| (text(step, "state"), text(step, "detail"))).collect()
}

fn states(steps: &[(String, String)]) -> Vec<&str> {
    steps.iter().map(|(state, _)| state.as_str()).collect()
}

/// What the page's script would read of it.
fn shown(page: &str) -> Value {
    let mut fields = Map::new();
    for part in page.split("data-field=\"").skip(1) {
        let (name, rest) = part.split_once('"').expect("a name");
        let (tag, rest) = rest.split_once('>').expect("a tag");
        let (inner, _) = rest.split_once("</dd>").expect("its end");
        let inner = match inner.strip_prefix("<a ").and_then(|link| link.split_once('>')) {
            Some((_, text)) => text.trim_end_matches("</a>"),
            None => inner,
        };
        let text = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#13;", "\r"), ("&amp;", "&")]
            .iter()
            .fold(inner.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain));
        let value = match (tag.contains("data-null"), name) {
            (true, _) => Value::Null,
            (false, "success") => json!(text == "true"),
            (false, _) => json!(text),
        };
        fields.insert(name.to_owned(), value);
    }
    Value::Object(fields)
}

struct Setting {
    world: World,
    vkey: String,
    id: String,
    _folder: tempfile::TempDir,
}

/// A sealed event whose texts are as awkward as callers can make them.
async fn sealed() -> Setting {
    let folder = tempfile::tempdir().expect("a folder");
    let pem = SigningKey::generate().expect("a key");
    let path = folder.path().join("audit.key");
    std::fs::write(&path, &pem).expect("a file");
    let vkey = SigningKey::from_pem(&pem).expect("a key").verifier_key();
    let world = World::with(|config| config.broker.audit_signing_key = Some(path)).await;
    let headers = [("user-agent", "<b>\"a\" & 'b'</b> \\ \u{2028} ü€😀")];
    let token = world.token("blue");
    let ask = Some(json!({ "runner_name": "b1" }));
    world.call(Method::POST, "/api/v1/runners/jit", &token, &headers, ask).await;
    world
        .sql(
            "INSERT INTO audit_log (timestamp, event_type, severity, success, user_identity, team, event_data)
             SELECT now(), 'e' || i, 'info', true, E'a\\r\\n\\tb', 'blue', '{\"n\": 1.50}' FROM generate_series(1, 40) i",
        )
        .await;
    eventually("all is sealed", async || {
        let lease = world.lease().await;
        world.broker.seal(&lease, &mut Sealer::at_rest()).await.expect("a pass");
        let unsealed = "SELECT count(*) FROM audit_log WHERE id NOT IN (SELECT event_id FROM audit_tree)";
        world.sql(unsealed).await == ["0"]
    })
    .await;
    let id = world.sql("SELECT id FROM audit_log WHERE event_type = 'provisioned'").await.remove(0);
    Setting { world, vkey, id, _folder: folder }
}

async fn page_and_proof(browser: &Browser<'_>, id: &str) -> (Value, Value) {
    let page = browser.get(&format!("/audit/{id}")).await;
    assert_eq!(page.status, 200, "{}", page.text);
    let proof = browser.get(&format!("/audit/{id}/proof")).await;
    assert_eq!(proof.status, 200, "{}", proof.text);
    (shown(&page.text), proof.body)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_page_shows_of_an_event_is_what_its_proof_proves() {
    let Some(node) = machine_program("node") else { return };
    let Setting { world, vkey, id, _folder } = sealed().await;
    let browser = world.signed_in("blue").await;
    let others = world.sql("SELECT id FROM audit_log WHERE event_type IN ('e1', 'e40')").await;
    for id in others.iter().chain([&id]) {
        let (fields, proof) = page_and_proof(&browser, id).await;
        let bytes: Value = serde_json::from_str(proof["record"].as_str().expect("a record")).expect("JSON");
        assert_eq!(fields, bytes, "the page shows every field to the character");
        let steps = verify(&node, &fields, &proof, &vkey).await;
        assert_eq!(states(&steps), ["ok"; 5], "{steps:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_changed_of_an_event_its_proof_or_its_checkpoint_fails() {
    let Some(node) = machine_program("node") else { return };
    let Setting { world, vkey, id, _folder } = sealed().await;
    let (fields, proof) = page_and_proof(&world.signed_in("blue").await, &id).await;
    for (name, value) in fields.as_object().expect("fields") {
        let mut changed = fields.clone();
        changed[name] = match value {
            Value::Null => json!(""),
            Value::Bool(was) => json!(!was),
            _ => json!(format!("{} ", value.as_str().unwrap_or_default())),
        };
        let steps = verify(&node, &changed, &proof, &vkey).await;
        assert_eq!(states(&steps), ["ok", "fault"], "{name}: {steps:?}");
    }
    let broken = async |change: &dyn Fn(&mut Value)| {
        let mut proof = proof.clone();
        change(&mut proof);
        let steps = verify(&node, &fields, &proof, &vkey).await;
        states(&steps).last().copied().unwrap_or_default().to_owned()
    };
    assert_eq!(broken(&|proof| proof["hashes"][1] = proof["hashes"][0].clone()).await, "fault");
    assert_eq!(
        broken(&|proof| proof["leaf_index"] = json!(proof["leaf_index"].as_u64().unwrap() + 1)).await,
        "fault"
    );
    assert_eq!(broken(&|proof| drop(proof["hashes"].as_array_mut().unwrap().pop())).await, "fault");
    assert_eq!(broken(&|proof| proof["tree_size"] = json!(7)).await, "fault");
    let text = |proof: &Value| proof["checkpoint"].as_str().unwrap().to_owned();
    let resigned = |proof: &mut Value| {
        let mut note = text(proof);
        let at = note.len() - 20;
        let other = if note[at..].starts_with('A') { "B" } else { "A" };
        note.replace_range(at..=at, other);
        proof["checkpoint"] = json!(note);
    };
    assert_eq!(broken(&resigned).await, "fault");
    // Nobody's signature proves nothing, and is not taken for a proof.
    let unsigned = |proof: &mut Value| {
        let body = text(proof).split("\n\n").next().unwrap().to_owned() + "\n";
        proof["checkpoint"] = json!(body);
    };
    assert_eq!(broken(&unsigned).await, "warning");
    let other = SigningKey::from_pem(&SigningKey::generate().unwrap()).unwrap().verifier_key();
    let steps = verify(&node, &fields, &proof, &other).await;
    assert_eq!(states(&steps).last(), Some(&"fault"), "{steps:?}");
    // With the old key's line beside the new one's, as after a change of keys.
    let steps = verify(&node, &fields, &proof, &format!("{other}\n{vkey}\n")).await;
    assert_eq!(states(&steps), ["ok"; 5], "{steps:?}");
}
