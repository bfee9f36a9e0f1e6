//! Making a runner by hand.

use super::pages::{between, people, peopled};
use crate::browser::Browser;
use crate::support::{Answer, World};

const JIT: &[(&str, &str)] =
    &[("method", "jit"), ("name", "b1"), ("team", "blue"), ("os", "linux"), ("arch", "x64")];

async fn make(browser: &Browser<'_>, more: &[(&str, &str)]) -> Answer {
    let fields: Vec<_> =
        JIT.iter().filter(|(name, _)| more.iter().all(|(other, _)| other != name)).copied().collect();
    browser.submit("/runners/new", "/runners/new", &[&fields, more].concat()).await
}

fn unescaped(text: &str) -> String {
    text.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// The text to copy.
fn recipe(page: &str, id: &str) -> String {
    unescaped(between(page, &format!("<pre id=\"{id}\" tabindex=\"0\"><code>"), "</code>"))
}

#[actix_web::test]
async fn the_form_shows_what_may_be_asked_for() {
    let world = World::new().await;
    people(&world, "description = \"<i>Blue</i>\"\nrequired_labels = [\"blue-only\"]\nmax_runners = 7").await;
    let page = world.signed_in("blue").await.get("/runners/new").await;
    assert_eq!(page.status, 200, "{}", page.text);
    for shown in
        ["linux.*", "blue-only", "octo-org/*", "&lt;i&gt;Blue", ">7<", r#"value="registration_token""#]
    {
        assert!(page.text.contains(shown), "{shown}: {}", page.text);
    }
    assert!(!between(&page.text, "name=\"key\" value=\"", "\"").is_empty());
    for who in ["boss", "watch"] {
        let page = world.signed_in(who).await.get("/runners/new").await;
        assert!(page.status == 200 && page.text.contains("You are in no team"), "{}", page.text);
    }
}

#[actix_web::test]
async fn the_decision_is_shown_before_anything_is_done() {
    let world = peopled().await;
    let blue = world.signed_in("blue").await;
    let check = async |more: &[(&str, &str)]| {
        let fields: Vec<_> = JIT.iter().chain(more).copied().chain([("key", "k")]).collect();
        let page = blue.submit("/runners/new", "/runners/new/check", &fields).await;
        assert_eq!(page.status, 200, "{}", page.text);
        assert!(page.text.contains(r#"name="name" value="b1""#), "it is kept: {}", page.text);
        between(&page.text, "id=\"decision\"", "<div class=\"actions\"").to_owned()
    };
    let allowed = check(&[("labels", "Linux-x, docker")]).await;
    assert!(
        allowed.contains("Allowed") && allowed.contains("linux-x") && allowed.contains("self-hosted"),
        "{allowed}"
    );
    let refused = check(&[("labels", "gpu,<b>")]).await;
    assert!(refused.contains("Not allowed") && refused.contains("LABEL_POLICY_VIOLATION"), "{refused}");
    assert!(refused.contains("&lt;b&gt;") && !refused.contains("<b>"), "{refused}");
    let wrong = check(&[("target", "a/b/c"), ("labels", "ü")]).await;
    assert!(wrong.contains("labels[0]") && wrong.contains("repository"), "{wrong}");
    assert_eq!((world.posts(), world.sql("SELECT id FROM runners").await.len()), (0, 0));
}

#[actix_web::test]
async fn a_jit_runner_is_made_and_its_configuration_shown_once() {
    let world = peopled().await;
    let blue = world.signed_in("blue").await;
    let made = make(&blue, &[("key", "first"), ("labels", "linux-a")]).await;
    assert_eq!((made.status, made.header("cache-control")), (201, "no-store"), "{}", made.text);
    let shell = recipe(&made.text, "shell");
    let config = between(&shell, "ACTIONS_RUNNER_INPUT_JITCONFIG=", " ").to_owned();
    assert!(shell.ends_with(" ./run.sh") && config.len() > 20, "{shell}");
    let container = recipe(&made.text, "container");
    let words = shlex::split(&container).expect("a shell's line");
    assert_eq!(words[0], format!("ACTIONS_RUNNER_INPUT_JITCONFIG={config}"), "{container}");
    assert_eq!(words[1..6], ["docker", "run", "--rm", "-e", "ACTIONS_RUNNER_INPUT_JITCONFIG"], "{container}");
    let manifest = recipe(&made.text, "kubernetes");
    assert!(
        manifest.contains(&format!("credential: \"{config}\"")) && manifest.contains("kind: Job"),
        "{manifest}"
    );
    world.github.connect_jit(&config).expect("it is good");
    // Nowhere else, and never again.
    for path in ["/runners/b1", "/runners", "/runners/new"] {
        assert!(!blue.get(path).await.text.contains(&config), "{path}");
    }
    let log = world.sql("SELECT to_json(e) FROM audit_log e").await.concat();
    assert!(!log.contains(&config) && log.contains("provisioned"));
}

#[actix_web::test]
async fn a_double_click_makes_one_runner() {
    let world = peopled().await;
    let blue = world.signed_in("blue").await;
    let (first, second) = tokio::join!(
        make(&blue, &[("key", "same"), ("suffix", "true")]),
        make(&blue, &[("key", "same"), ("suffix", "true")])
    );
    let statuses = [first.status, second.status];
    assert!(statuses.contains(&201), "{statuses:?}: {} {}", first.text, second.text);
    assert!(statuses.iter().all(|status| [201, 409].contains(status)), "{statuses:?}");
    let again = make(&blue, &[("key", "same"), ("suffix", "true")]).await;
    assert_eq!(again.status, 201, "{}", again.text);
    let live = "SELECT name FROM runners WHERE status IN ('requested', 'pending', 'active')";
    assert_eq!((world.sql(live).await.len(), world.on_github().len()), (1, 1));
    // The key of one runner is none for another: the form comes back with a fresh one.
    let other = make(&blue, &[("key", "same"), ("name", "other")]).await;
    assert_eq!(other.status, 422, "{}", other.text);
    let key = between(&other.text, "name=\"key\" value=\"", "\"");
    assert!(!key.is_empty() && key != "same", "{}", other.text);
}

#[actix_web::test]
async fn what_is_refused_or_wrong_is_said_at_its_field_and_nothing_is_lost() {
    let world = peopled().await;
    world.jit("taken").await;
    let blue = world.signed_in("blue").await;
    for (more, status, said) in [
        (&[("name", "-x")][..], 422, "id=\"name-fault\""),
        (&[("name", "")], 422, "id=\"name-fault\""),
        (&[("labels", "ok,\u{fc}")], 422, "id=\"labels-fault\""),
        (&[("work_folder", "../x")], 422, "id=\"work_folder-fault\""),
        (&[("method", "magic")], 422, "one of jit, registration_token"),
        (&[("labels", "gpu")], 403, "LABEL_POLICY_VIOLATION"),
        (&[("team", "red")], 403, "TEAM"),
        (&[("target", "someone-else")], 403, "TARGET_NOT_ALLOWED"),
        (&[("name", "taken")], 409, "RUNNER_NAME_TAKEN"),
    ] {
        let answer = make(&blue, &[more, &[("key", "k"), ("runner_group", "")]].concat()).await;
        assert_eq!(answer.status, status, "{more:?}: {}", answer.text);
        assert!(answer.text.contains(said), "{more:?}: {said}: {}", answer.text);
        let (name, value) = more[0];
        if name == "labels" || name == "target" {
            assert!(
                answer.text.contains(&format!("name=\"{name}\"")) && answer.text.contains(value),
                "{more:?}"
            );
        }
    }
    assert_eq!(world.on_github(), ["taken"]);
}

#[actix_web::test]
async fn a_registration_is_quoted_for_every_shell() {
    let world = peopled().await;
    let blue = world.signed_in("blue").await;
    let registration = [
        ("method", "registration_token"),
        ("key", "k1"),
        ("labels", "linux-it's $(x)"),
        ("ephemeral", "true"),
    ];
    let made = make(&blue, &registration).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let shell = recipe(&made.text, "shell");
    let words = shlex::split(&shell).expect("a shell's line");
    let token =
        words.iter().position(|word| word == "--token").map(|at| words[at + 1].clone()).expect("a token");
    assert!(
        words.contains(&"linux-it's $(x)".to_owned()) && words.contains(&"--ephemeral".to_owned()),
        "{shell}"
    );
    let container = shlex::split(&recipe(&made.text, "container")).expect("a shell's line");
    assert_eq!(container[0], format!("ACTIONS_RUNNER_INPUT_TOKEN={token}"));
    let script = container.last().expect("a script");
    let inner = shlex::split(script).expect("a shell's line");
    assert!(inner.contains(&"linux-it's $(x)".to_owned()) && !script.contains(&token), "{script}");
    let manifest = recipe(&made.text, "kubernetes");
    let command = between(&manifest, "command: ", "\n");
    let command: Vec<String> = serde_json::from_str(command).expect("a list");
    assert_eq!(command, ["bash", "-c", script.as_str()]);

    let windows =
        make(&blue, &[("method", "registration_token"), ("key", "k2"), ("name", "w1"), ("os", "windows")])
            .await;
    assert_eq!(windows.status, 201, "{}", windows.text);
    assert!(recipe(&windows.text, "shell").starts_with(r".\config.cmd --unattended"), "{}", windows.text);
    assert!(!windows.text.contains("docker run"), "{}", windows.text);
}
