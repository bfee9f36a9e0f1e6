//! What is refused: by the broker, told in its words; by the client, before a token goes where it should not.

use rcgen::{CertifiedKey, generate_simple_self_signed};
use runner_broker::config::Tls;

use super::between::{Act, Between};
use super::{as_blue, assert_no_secret, request};
use crate::support::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_in_the_brokers_words() {
    let world = World::new().await;
    let denied = as_blue(&world, &world.url, &["jit", "--name", "a1", "--label", "gpu"]).await;
    assert_eq!((denied.code, denied.out.as_str()), (1, ""));
    let words = "Refused by policy (403 LABEL_POLICY_VIOLATION): Labels ['gpu'] not permitted by policy\n  request id: ";
    assert!(denied.err.starts_with(&format!("runner-broker: {words}")), "{}", denied.err);
    let invalid = as_blue(&world, &world.url, &["jit", "--name", "a1", "--work-folder", "../x"]).await;
    assert_eq!(invalid.code, 1);
    assert!(invalid.err.contains("(422 INVALID_REQUEST)"), "{}", invalid.err);
    assert!(invalid.err.contains("\n  work_folder: 1 to 255 characters, a relative path"), "{}", invalid.err);
    assert_no_secret(&world, &format!("{}{}", denied.err, invalid.err));

    let stranger = world.token("nobody");
    let args = ["jit", "--name", "a1", "--url", &world.url, "--token", &stranger];
    let ended = request(&args, &[]).await;
    assert!(ended.code == 1 && ended.err.contains("403 NO_TEAM"), "{}", ended.err);
    assert!(!ended.err.contains(&stranger));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_wrote_cannot_command_a_terminal_or_a_ci_system() {
    let problem = serde_json::json!({ "title": "T\u{1b}[2J", "status": 403, "detail": "x\n::set-env name=A::b",
        "error_code": "X\r", "request_id": "1\n", "errors": [{ "field": "a\n", "message": "\u{7}b" }] });
    let between = Between::start("", vec![Act::Answer(403, "", problem.to_string())]).await;
    let ended = request(&["jit", "--name", "a1", "--url", &between.url, "--token", "t"], &[]).await;
    assert_eq!(ended.code, 1);
    assert!(!ended.err.contains(['\u{1b}', '\u{7}', '\r']) && !ended.err.contains("\n::"), "{:?}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_goes_over_https_or_to_this_machine() {
    for url in [
        "http://broker.example.com",
        "http://10.1.2.3:8000",
        "ftp://127.0.0.1",
        "http://127.0.0.1.example.com",
    ] {
        let ended =
            request(&["jit", "--name", "a1", "--url", url, "--token", "t", "--timeout", "1"], &[]).await;
        assert!(ended.code == 2 && ended.err.contains("over https"), "{url}: {}", ended.err);
    }
    // What GitHub's environment says is no exception.
    let environment = [
        ("GITHUB_ACTIONS", "true"),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", "http://github.example.com/token"),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "t"),
    ];
    let ended =
        request(&["jit", "--name", "a1", "--url", "https://127.0.0.1:1", "--timeout", "1"], &environment)
            .await;
    assert!(ended.code == 2 && ended.err.contains("ACTIONS_ID_TOKEN_REQUEST_URL is http:"), "{}", ended.err);
    for url in
        ["https://user:hunter2@x.example.com", "https://x.example.com/?a=b", "https://x.example.com/#a", "x"]
    {
        let ended = request(&["jit", "--name", "a1", "--url", url, "--token", "t"], &[]).await;
        assert!(ended.code == 2 && !ended.err.contains("hunter2"), "{url}: {}", ended.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_redirect_nor_a_proxy_takes_the_token_elsewhere() {
    let elsewhere = Between::start("", vec![]).await;
    let location: &'static str = format!("location: {}/\r\n", elsewhere.url).leak();
    let between = Between::start("", vec![Act::Answer(307, location, String::new())]).await;
    let args = ["jit", "--name", "a1", "--url", &between.url, "--token", "t"];
    let ended = request(&args, &[("HTTP_PROXY", &elsewhere.url), ("ALL_PROXY", &elsewhere.url)]).await;
    assert!(ended.code == 1 && ended.err.contains("redirects are not followed"), "{}", ended.err);
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_somebody_else_is_said_to_be_one() {
    let page = || "<html>Sign in to the Wi-Fi</html>".to_owned();
    for (act, why) in [
        (Act::Answer(200, "content-type: text/html\r\n", page()), "not a JIT runner of a broker's"),
        (Act::Answer(404, "content-type: text/html\r\n", page()), "answered 404 without a broker's words"),
        (
            Act::Answer(
                201,
                "",
                r#"{"runner_id":"../x","runner_name":"a","encoded_jit_config":"c","run_command":"r"}"#.into(),
            ),
            "names no runner",
        ),
    ] {
        let between = Between::start("", vec![act]).await;
        let ended = request(&["jit", "--name", "a1", "--url", &between.url, "--token", "t"], &[]).await;
        assert!(ended.code == 1 && ended.err.contains(why), "{why}: {}", ended.err);
        assert!(!ended.err.contains("Wi-Fi"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_trusted_by_the_system_or_by_the_ca_file_and_no_other_is_asked_twice() {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let tls = Tls { cert_file: folder.path().join("tls.crt"), key_file: folder.path().join("tls.key") };
    std::fs::write(&tls.cert_file, cert.pem()).unwrap();
    std::fs::write(&tls.key_file, signing_key.serialize_pem()).unwrap();
    let ca = tls.cert_file.display().to_string();
    let world = World::with(|config| config.http.tls = Some(tls.clone())).await;
    let (token, base) = (world.token("blue"), ["jit", "--name-prefix", "a", "--url", &world.url]);

    let distrusted = request(&base, &[("RUNNER_BROKER_TOKEN", &token)]).await;
    assert_eq!(distrusted.code, 1);
    assert!(
        distrusted.err.contains("certificate") && !distrusted.err.contains("again"),
        "{}",
        distrusted.err
    );
    let by_option =
        request(&[&base[..], &["--ca-file", &ca]].concat(), &[("RUNNER_BROKER_TOKEN", &token)]).await;
    assert_eq!(by_option.code, 0, "{}", by_option.err);
    let by_system = request(&base, &[("RUNNER_BROKER_TOKEN", &token), ("SSL_CERT_FILE", &ca)]).await;
    assert_eq!(by_system.code, 0, "{}", by_system.err);
    let key = tls.key_file.display().to_string();
    let no_certificate =
        request(&[&base[..], &["--ca-file", &key]].concat(), &[("RUNNER_BROKER_TOKEN", &token)]).await;
    assert!(no_certificate.code == 2 && no_certificate.err.contains(&key), "{}", no_certificate.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_called_wrongly_asks_nobody() {
    let between = Between::start("", vec![]).await;
    let base = ["--url", between.url.as_str(), "--token", "t"];
    let calls: &[&[&str]] = &[
        &["jit"],
        &["jit", "--name", "a", "--name-prefix", "b"],
        &["jit", "--name", "-a"],
        &["jit", "--name", "a", "--label", "a,b"],
        &["jit", "--name", "a", "--os", "beos"],
        &["jit", "--name", "a", "--organization", "o", "--repository", "o/r"],
        &["jit", "--name", "a", "--repository", "o"],
        &["jit", "--name", "a", "--no-ephemeral"],
        &["jit", "--name", "a", "--timeout", "0"],
        &["jit", "--name", "a", "--timeout", "5y"],
        &["jit", "--name", "a", "--idempotency-key", "a b"],
        &["jit", "--name", "a", "--grace", "5s"],
        &["jit", "--name", "a", "--print", "xml"],
        &["jit", "--name", "a", "--print", "json", "--exec", "/bin/true"],
        &["jit", "--name", "a", "--exec", "/nowhere/run.sh"],
        &["jit", "--name", "a", "--exec", "/etc/passwd"],
        // No config.sh beside it.
        &["registration", "--name", "a", "--exec", "/bin/true"],
        &["jit", "--name", "a", "--os", "windows", "--exec", "/bin/true"],
    ];
    for call in calls {
        let (kind, rest) = call.split_first().unwrap();
        let ended = request(&[&[*kind], &base[..], rest].concat(), &[]).await;
        assert!(ended.code == 2 && ended.out.is_empty() && !ended.err.is_empty(), "{call:?}: {}", ended.err);
    }
    assert!(between.seen().is_empty());
}
