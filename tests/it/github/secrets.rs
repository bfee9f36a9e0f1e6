//! No credential is shown by anything: not by a value's `Debug`, not by an error, not by a log line.

use std::io::Write;
use std::sync::{Arc, Mutex};

use runner_broker::dev::github::{Action, Canned, Fault};
use runner_broker::github::Error;
use runner_broker::model::Method;
use tracing_subscriber::fmt::MakeWriter;

use super::{World, grant, org, soon};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Lines;

    fn make_writer(&self) -> Lines {
        self.clone()
    }
}

#[tokio::test]
async fn no_log_line_no_debug_and_no_error_shows_a_credential() {
    let lines = Lines::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(lines.clone());
    let _here = tracing::subscriber::set_default(subscriber.finish());
    // Other tests' threads meet the same log lines at the same time and may have them noted as unwanted.
    World::new().jit("a").await.unwrap();
    tracing::callsite::rebuild_interest_cache();
    let world = World::new();
    let mut shown = String::new();
    let made = world.jit("a").await.unwrap();
    let registration = grant(Method::RegistrationToken, "octo-org", 1);
    let issued = world.github.registration_token(&registration, soon()).await.unwrap();
    let removal = world.github.remove_token(&org(), soon()).await.unwrap();
    shown += &format!("{made:?}{issued:?}{removal:?}{:?}{:?}", world.github, world.github.budgets());

    // A secret where an id should be: the decoder would quote it.
    let quoted =
        r#"{"runner": {"id": "ghs_quoted-by-the_decoder.x", "name": "a"}, "encoded_jit_config": ""}"#;
    let told = r#"{"message": "Bad token ghs_told_by-github.x", "errors": [{"message": "ghs_told_twice"}]}"#;
    for canned in [Canned::status(201).body(quoted), Canned::status(422).body(told)] {
        world.fail(Fault::new("POST", "generate-jitconfig", Action::Respond(canned)));
        let error: Error = world.jit("b").await.unwrap_err();
        shown += &format!("{error}{error:?}");
    }
    shown += &String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(shown.contains("asked GitHub"), "the log was heard");
    let secrets = world.fake.issued();
    assert!(secrets.len() >= 4);
    for secret in secrets.iter().map(String::as_str).chain(["ghs_", "eyJ", "Bearer", "PRIVATE KEY"]) {
        assert!(!shown.contains(secret), "{secret} is shown");
    }
}
