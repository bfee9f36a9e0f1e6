//! What the reader of webhooks does with bodies and signatures that are not as GitHub documents them.

use super::*;

#[test]
fn githubs_documented_example_of_a_signature_holds() {
    let key = WebhookKey::new(&SecretString::from("It's a Secret to Everybody"));
    let digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    assert!(key.verify(&format!("sha256={digest}"), b"Hello, World!"));
    assert!(!key.verify(&format!("sha256={digest}"), b"Hello, World"));
    assert!(!key.verify(digest, b"Hello, World!"), "without its algorithm");
    assert!(!key.verify(&format!("sha1={digest}"), b"Hello, World!"));
    assert!(!key.verify(&format!("sha256={}", &digest[..62]), b"Hello, World!"), "cut short");
    assert!(!key.verify("sha256=", b"Hello, World!"));
    let other = WebhookKey::new(&SecretString::from("It's a secret to everybody"));
    assert!(!other.verify(&format!("sha256={digest}"), b"Hello, World!"));
}

#[test]
fn a_time_is_seconds_or_iso_8601_or_nothing() {
    let read = |text: &str| serde_json::from_str::<Moment>(text).map(|moment| moment.0);
    let expected = "2019-05-15T15:19:51Z".parse().ok();
    assert_eq!(read("1557933591").unwrap(), expected);
    assert_eq!(read("\"2019-05-15T11:19:51.000-04:00\"").unwrap(), expected);
    assert_eq!(read("null").unwrap(), None);
    assert_eq!(read("9223372036854775807").unwrap(), None);
    assert!(read("\"yesterday\"").is_err());
}

#[test]
fn what_is_no_json_is_told_from_what_is_another_shape() {
    for event in ["workflow_job", "installation", "installation_repositories", "ping", "star"] {
        assert!(read(event, b"payload=%7B%7D").is_err(), "{event}");
        assert!(read(event, br#"{"action": 7, "#).is_err(), "{event}");
        assert!(read(event, b"").is_err(), "{event}");
    }
    assert!(matches!(read("workflow_job", b"{}").unwrap(), Webhook::Unreadable { .. }));
    assert!(matches!(read("workflow_job", br#"{"action": 7}"#).unwrap(), Webhook::Unreadable { .. }));
    assert_eq!(read("ping", b"{}").unwrap(), Webhook::Ping);
    assert_eq!(read("star", b"[]").unwrap(), Webhook::Unused);
}

#[test]
fn json_that_is_no_text_is_unreadable_and_not_a_failure() {
    for body in [&br#""\ud800""#[..], br#"{"action": "\ud800", "installation": 1}"#, b"[1e999]"] {
        let known = read("workflow_job", body).unwrap();
        assert!(matches!(known, Webhook::Unreadable { .. }), "{known:?}");
    }
}

#[test]
fn no_text_that_is_kept_has_a_nul() {
    let account = r#""installation": {"id": 1, "account": {"login": "o\u0000"}}"#;
    let job = r#"{"id": 1, "run_id": 1, "name": "\u0000", "labels": ["\u0000"]}"#;
    let name = r#"{"full_name": "o/r\u0000"}"#;
    for (event, body) in [
        ("workflow_job", format!(r#"{{"action": "queued", "workflow_job": {job}, "repository": {name}}}"#)),
        ("installation", format!(r#"{{"action": "created", {account}}}"#)),
        (
            "installation_repositories",
            format!(r#"{{"action": "added", {account}, "repositories_added": [{name}]}}"#),
        ),
    ] {
        let known = read(event, body.as_bytes()).unwrap();
        assert!(!matches!(known, Webhook::Unreadable { .. }), "{known:?}");
        assert!(!serde_json::to_string(&known).unwrap().contains("u0000"), "{known:?}");
    }
}
