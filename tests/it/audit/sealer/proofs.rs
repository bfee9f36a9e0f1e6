//! What auditors get over HTTP, and who gets it.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use runner_broker::seal::Hash;
use runner_broker::seal::note;
use serde_json::Value;

use super::tree::{continues, leads_to};
use super::{Signed, seal, write};

fn hash(text: &Value) -> Hash {
    Hash(STANDARD.decode(text.as_str().expect("text")).expect("base64").try_into().expect("32 bytes"))
}

fn hashes(list: &Value) -> Vec<Hash> {
    list.as_array().expect("a list").iter().map(hash).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_proved_to_be_in_the_signed_checkpoint() {
    let signed = Signed::new().await;
    let world = &signed.world;
    world.jit("b1").await;
    write(world, 700).await;
    seal(world).await;
    let id = world.sql("SELECT id FROM audit_log WHERE event_type = 'provisioned'").await.remove(0);
    let proof = world.get(&format!("/api/v1/audit/{id}/proof"), "blue").await;
    assert_eq!(proof.status, 200, "{}", proof.text);
    let vkey = std::fs::read_to_string(signed.path("audit.vkey")).unwrap();
    let vkey = runner_broker::seal::key::VerifierKey::parse(&vkey).unwrap();
    let head = note::read(proof.str("checkpoint"), Some(&vkey)).expect("a signed checkpoint");
    assert_eq!(proof.body["tree_size"], head.size);
    let leaf = digest(&SHA256, &[&[0], proof.str("record").as_bytes()].concat());
    assert_eq!(leaf.as_ref(), hash(&proof.body["leaf_hash"]).0);
    let index = proof.body["leaf_index"].as_u64().unwrap();
    let root = leads_to(hash(&proof.body["leaf_hash"]), index, head.size, &hashes(&proof.body["hashes"]));
    assert_eq!(root, Some(head.root));
    let record: Value = serde_json::from_str(proof.str("record")).unwrap();
    assert_eq!(
        (record["id"].as_str(), record["event_type"].as_str()),
        (Some(id.as_str()), Some("provisioned"))
    );

    let (old, before) =
        (note::read(&world.get("/api/v1/audit/checkpoint", "blue").await.text, None).unwrap(), head.size);
    world.jit("b2").await;
    seal(world).await;
    for path in ["/api/v1/audit/checkpoint", "/api/v1/audit/consistency?from=1"] {
        assert_eq!(world.get(path, "stranger").await.refusal(), (403, "FORBIDDEN"), "{path}");
    }
    let text = world.get("/api/v1/audit/checkpoint", "blue").await;
    assert!(text.header("content-type").starts_with("text/plain"));
    let new = note::read(&text.text, Some(&vkey)).unwrap();
    let proof = world.get(&format!("/api/v1/audit/consistency?from={before}"), "blue").await;
    assert_eq!((proof.status, proof.body["to"].as_u64()), (200, Some(new.size)), "{}", proof.text);
    assert!(continues(before, old.root, new.size, new.root, &hashes(&proof.body["hashes"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_is_for_those_who_may_see_the_event_and_says_when_there_is_none_yet() {
    let signed = Signed::new().await;
    let world = &signed.world;
    let none = world.get("/api/v1/audit/checkpoint", "blue").await;
    assert_eq!(none.refusal(), (404, "NOT_FOUND"));
    world.jit("b1").await;
    let id = world.sql("SELECT id FROM audit_log WHERE event_type = 'provisioned'").await.remove(0);
    let path = format!("/api/v1/audit/{id}/proof");
    let early = world.get(&path, "blue").await;
    assert_eq!(early.refusal(), (404, "NOT_FOUND"));
    assert!(
        early.str("detail").contains("not sealed yet") && !early.header("retry-after").is_empty(),
        "{}",
        early.text
    );
    seal(world).await;
    assert_eq!(world.get(&path, "blue").await.status, 200);
    let stranger = world.get(&path, "red").await;
    assert_eq!(stranger.refusal(), (404, "NOT_FOUND"));
    assert!(stranger.str("detail").contains("not one of yours"));
    for path in ["/api/v1/audit/999999/proof", "/api/v1/audit/one/proof", "/api/v1/audit/-1/proof"] {
        assert_eq!(world.get(path, "blue").await.refusal(), (404, "NOT_FOUND"), "{path}");
    }
    for query in ["from=0", "from=2&to=1", "from=1&to=9999", "from=x", "", "from=18446744073709551615"] {
        let answer = world.get(&format!("/api/v1/audit/consistency?{query}"), "blue").await;
        assert_eq!(answer.refusal(), (422, "INVALID_REQUEST"), "{query}");
    }
    assert_eq!(world.get("/api/v1/audit/consistency?from=1&to=1", "blue").await.status, 200);
}
