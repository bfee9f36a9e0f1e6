//! Bad bodies: refused with the name of the field, before GitHub hears of anything.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Answer, World, answer};

const JIT: &str = "/api/v1/runners/jit";
const PROVISION: &str = "/api/v1/runners/provision";

async fn raw(world: &World, content_type: &str, body: impl Into<reqwest::Body>) -> Answer {
    let request = world.client().post(format!("{}{JIT}", world.url)).bearer_auth(world.token("blue"));
    answer(request.header("content-type", content_type).body(body)).await
}

/// Refused with this status; GitHub was not asked and no row was made.
async fn refused(path: &str, body: Value, fields: &[&str]) {
    let world = World::new().await;
    let answer = world.post(path, "blue", body).await;
    assert_eq!(answer.refusal(), (422, "INVALID_REQUEST"), "{}", answer.text);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let errors = answer.body["errors"].as_array().expect("errors");
    let named: Vec<&str> = errors.iter().map(|error| error["field"].as_str().unwrap()).collect();
    assert_eq!(named, fields, "{}", answer.text);
    assert!(errors.iter().all(|error| !error["message"].as_str().unwrap().is_empty()));
    untouched(&world).await;
}

async fn untouched(world: &World) {
    assert!(world.github.calls().is_empty());
    assert_eq!(world.sql("SELECT count(*) FROM runners").await, ["0"]);
}

fn with(fields: Value) -> Value {
    let mut body = json!({ "runner_name": "b1" });
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

macro_rules! refused {
    ($($name:ident: $body:expr => $($field:literal),+;)+) => { $(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            refused(JIT, $body, &[$($field),+]).await;
        }
    )+ };
}

refused! {
    an_unknown_field_is_named: with(json!({ "runnername": "b1" })) => "runnername";
    a_field_of_the_other_flow_is_unknown_to_this_one: with(json!({ "ephemeral": true })) => "ephemeral";
    a_name_that_is_no_text_is_refused: json!({ "runner_name": 7 }) => "runner_name";
    labels_that_are_no_list_are_refused: with(json!({ "labels": "linux" })) => "labels";
    a_label_that_is_no_text_is_named_by_its_place: with(json!({ "labels": ["linux", 7] })) => "labels[1]";
    a_label_that_is_a_list_is_refused: with(json!({ "labels": ["linux", [[[]]]] })) => "labels[1]";
    a_group_id_that_is_a_fraction_is_refused: with(json!({ "runner_group_id": 1.5 })) => "runner_group_id";
    a_group_id_of_nothing_is_refused: with(json!({ "runner_group_id": 0 })) => "runner_group_id";
    a_group_id_beyond_all_numbers_is_refused:
        with(json!({ "runner_group_id": 9_223_372_036_854_775_808_u64 })) => "runner_group_id";
    an_unknown_system_is_refused: with(json!({ "os": "beos" })) => "os";
    an_unknown_processor_is_refused: with(json!({ "arch": "X64" })) => "arch";
    a_request_without_a_name_is_refused: json!({}) => "runner_name";
    a_name_and_a_prefix_together_are_refused: with(json!({ "runner_name_prefix": "b" })) => "runner_name";
    an_empty_name_is_refused: json!({ "runner_name": "" }) => "runner_name";
    a_name_with_shell_characters_is_refused: json!({ "runner_name": "$(reboot)" }) => "runner_name";
    a_name_that_leaves_its_url_is_refused: json!({ "runner_name": "../../orgs" }) => "runner_name";
    a_name_shaped_like_an_id_is_refused:
        json!({ "runner_name": "0198c0de-0000-7000-8000-000000000000" }) => "runner_name";
    a_name_of_65_characters_is_refused: json!({ "runner_name": "n".repeat(65) }) => "runner_name";
    a_prefix_of_51_characters_is_refused: json!({ "runner_name_prefix": "n".repeat(51) }) => "runner_name_prefix";
    a_control_character_in_a_name_is_refused: json!({ "runner_name": "b\u{0}1" }) => "runner_name";
    a_control_character_in_a_label_is_refused: with(json!({ "labels": ["linux", "a\nb"] })) => "labels[1]";
    a_comma_in_a_label_is_refused: with(json!({ "labels": ["linux,root"] })) => "labels[0]";
    a_label_that_is_not_ascii_is_refused: with(json!({ "labels": ["linux", "docker", "lınux"] })) => "labels[2]";
    an_empty_label_is_refused: with(json!({ "labels": [""] })) => "labels[0]";
    a_label_of_257_characters_is_refused: with(json!({ "labels": ["l".repeat(257)] })) => "labels[0]";
    two_hundred_labels_are_refused: with(json!({ "labels": vec!["linux"; 200] })) => "labels";
    a_work_folder_above_is_refused: with(json!({ "work_folder": "../_work" })) => "work_folder";
    a_work_folder_that_climbs_later_is_refused: with(json!({ "work_folder": "a/../../b" })) => "work_folder";
    an_absolute_work_folder_is_refused: with(json!({ "work_folder": "/etc" })) => "work_folder";
    a_work_folder_with_a_drive_is_refused: with(json!({ "work_folder": "C:work" })) => "work_folder";
    a_work_folder_with_a_backslash_is_refused: with(json!({ "work_folder": "..\\work" })) => "work_folder";
    a_work_folder_that_is_an_option_is_refused: with(json!({ "work_folder": "--url" })) => "work_folder";
    an_empty_work_folder_is_refused: with(json!({ "work_folder": "" })) => "work_folder";
    an_organisation_that_leaves_its_url_is_refused: with(json!({ "organization": "a?b" })) => "organization";
    a_repository_as_organisation_is_refused: with(json!({ "organization": "octo-org/octo-repo" })) => "organization";
    an_organisation_as_repository_is_refused: with(json!({ "repository": "octo-org" })) => "repository";
    a_repository_that_climbs_is_refused: with(json!({ "repository": "octo-org/.." })) => "repository";
    an_organisation_and_a_repository_are_refused:
        with(json!({ "organization": "octo-org", "repository": "octo-org/octo-repo" })) => "repository";
    a_group_given_twice_is_refused: with(json!({ "runner_group_id": 1, "runner_group": "Default" })) => "runner_group";
    a_group_without_a_name_is_refused: with(json!({ "runner_group": "" })) => "runner_group";
    a_control_character_in_a_group_is_refused: with(json!({ "runner_group": "a\u{0}" })) => "runner_group";
    a_control_character_in_a_team_is_refused: with(json!({ "team": "blue\u{0}" })) => "team";
    an_endless_team_is_refused: with(json!({ "team": "b".repeat(10_000) })) => "team";
    every_fault_is_named_at_once:
        json!({ "runner_name": "a b", "labels": ["linux", "a,b", "é"], "runner_group": "", "work_folder": ".." })
        => "runner_name", "labels[1]", "labels[2]", "runner_group", "work_folder";
    a_list_instead_of_an_object_is_refused: json!(["b1"]) => "body";
    a_text_instead_of_an_object_is_refused: json!("b1") => "body";
    nothing_instead_of_an_object_is_refused: Value::Null => "body";
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registration_flow_refuses_the_same_and_its_own() {
    refused(PROVISION, with(json!({ "ephemeral": "yes" })), &["ephemeral"]).await;
    refused("/api/v1/runners", with(json!({ "work_folder": ".." })), &["work_folder"]).await;
    refused("/api/v1/policy/explain", with(json!({})), &["method"]).await;
    refused("/api/v1/policy/explain", with(json!({ "method": "magic" })), &["method"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_json_is_a_400() {
    let world = World::new().await;
    let deep = format!("{{\"labels\": {}", "[".repeat(60_000));
    let bodies = ["", "{", "runner_name=b1", "{\"runner_name\": \"b1\"} x", "{\"runner_name\": \"\\ud800\"}"];
    for body in bodies.into_iter().map(str::to_owned).chain(["[".repeat(60_000)]) {
        let answer = raw(&world, "application/json", body.clone()).await;
        assert_eq!(answer.refusal(), (400, "INVALID_REQUEST"), "{body:.40}: {}", answer.text);
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    // Nobody looks deeper than the first thing that is wrong.
    let answer = raw(&world, "application/json", deep).await;
    assert_eq!((answer.status, &answer.body["errors"][0]["field"]), (422, &json!("labels[0]")));
    let answer = raw(&world, "application/json", b"{\"runner_name\": \"\xff\"}".to_vec()).await;
    assert_eq!(answer.refusal(), (400, "INVALID_REQUEST"));
    untouched(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_given_twice_is_refused() {
    let world = World::new().await;
    let answer = raw(&world, "application/json", r#"{"runner_name": "b1", "runner_name": "b2"}"#).await;
    assert_eq!((answer.status, &answer.body["errors"][0]["field"]), (422, &json!("runner_name")));
    untouched(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_content_type_is_a_415() {
    let world = World::new().await;
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""] {
        let answer = raw(&world, content_type, r#"{"runner_name": "b1"}"#).await;
        assert_eq!(answer.refusal(), (415, "INVALID_REQUEST"), "{content_type}");
    }
    let headers = [("content-encoding", "gzip"), ("content-type", "application/json")];
    let body = Some(json!({ "runner_name": "b1" }));
    let answer = world.call(Method::POST, JIT, &world.token("blue"), &headers[..1], body.clone()).await;
    assert_eq!(answer.refusal(), (415, "INVALID_REQUEST"));
    untouched(&world).await;
    let answer = raw(&world, "Application/JSON; charset=utf-8", r#"{"runner_name": "b1"}"#).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_five_megabytes_is_a_413() {
    let world = World::new().await;
    let body = serde_json::to_vec(&with(json!({ "team": "x".repeat(5 << 20) }))).unwrap();
    assert_eq!(raw(&world, "application/json", body).await.refusal(), (413, "INVALID_REQUEST"));
    untouched(&world).await;
}

/// Sends a head and some of the body, no more, and reads what is answered to that.
async fn half_sent(world: &World, token: &str, head: &str, body: &[u8]) -> String {
    let address = world.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {JIT} HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\n{head}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = vec![0; 64 * 1024];
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut answer)).await;
    let read = read.expect("an answer before the body is whole").unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_is_refused_before_it_is_sent() {
    let world = World::new().await;
    let token = world.token("blue");
    let announced = half_sent(&world, &token, "Content-Length: 5242880", b"{").await;
    assert!(announced.starts_with("HTTP/1.1 413 "), "{announced}");
    let chunk = format!("20000\r\n{}\r\n", " ".repeat(0x20000));
    let unannounced = half_sent(&world, &token, "Transfer-Encoding: chunked", chunk.as_bytes()).await;
    assert!(unannounced.starts_with("HTTP/1.1 413 "), "{unannounced}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_body_is_not_waited_for() {
    let world = World::new().await;
    let answer = half_sent(&world, "none", "Content-Length: 5242880", b"{").await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_query_names_its_field() {
    let world = World::new().await;
    let cases = [
        ("/api/v1/runners?limit=0", "limit"),
        ("/api/v1/runners?limit=201", "limit"),
        ("/api/v1/runners?limit=many", "limit"),
        ("/api/v1/runners?status=asleep", "status"),
        ("/api/v1/runners?cursor=7", "cursor"),
        ("/api/v1/runners?ephemeral=maybe", "ephemeral"),
        ("/api/v1/runners?q=%00", "q"),
        ("/api/v1/runners?colour=blue", "colour"),
        ("/api/v1/runners?team=a&team=b", "team"),
        ("/api/v1/audit?since=yesterday", "since"),
        ("/api/v1/audit?until=2026-02-30", "until"),
        ("/api/v1/audit?cursor=-", "cursor"),
        ("/api/v1/audit?success=maybe", "success"),
    ];
    for (path, field) in cases {
        let answer = world.get(path, "blue").await;
        assert_eq!(answer.refusal(), (422, "INVALID_REQUEST"), "{path}: {}", answer.text);
        assert_eq!(answer.body["errors"][0]["field"], field, "{path}: {}", answer.text);
    }
    let bad = world.delete("/api/v1/runners/b1?force_when_idle=perhaps", "blue").await;
    assert_eq!((bad.status, &bad.body["errors"][0]["field"]), (422, &json!("force_when_idle")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_that_is_none_is_refused() {
    let world = World::new().await;
    for key in ["", &"k".repeat(256), "clé"] {
        let answer = world.jit_with_key(json!({ "runner_name": "b1" }), key).await;
        assert_eq!(answer.refusal(), (422, "INVALID_REQUEST"), "{key}");
        assert_eq!(answer.body["errors"][0]["field"], "Idempotency-Key");
    }
    untouched(&world).await;
}
