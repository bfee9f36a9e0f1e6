//! The App against the GitHub of `dev`: every rule about asking GitHub, and what a failure is told as.

mod budget;
mod failures;
mod lists;
mod secrets;
mod tokens;

use std::time::Duration;

use runner_broker::clock::Clock;
use runner_broker::config;
use runner_broker::dev::github::{Fault, GitHub as Fake, Settings};
use runner_broker::github::{Deadline, Error, GitHub, JitRunner};
use runner_broker::model::{Arch, GroupRef, Method, NameAsk, Os, Target};
use runner_broker::policy::{Ask, Defaults, Document, Grant, Usage, consider};
use serde_json::json;

/// A GitHub with `octo-org` and `octo-org/hello`, an App that asks it, and the clock of both.
struct World {
    fake: Fake,
    clock: Clock,
    github: GitHub,
}

impl World {
    fn new() -> World {
        World::with(Settings::default(), |_| ())
    }

    fn with(settings: Settings, change: impl FnOnce(&mut config::GitHub)) -> World {
        let clock = settings.clock.clone();
        let fake = Fake::start(settings).unwrap();
        fake.add_org("octo-org");
        fake.add_repo("octo-org/hello");
        let mut config = config(&fake);
        change(&mut config);
        let github = GitHub::new(&config, clock.clone()).unwrap();
        World { fake, clock, github }
    }

    /// As `new`, with a token that is too old to be refused for its youth.
    async fn warm() -> World {
        let world = World::new();
        world.warm_up().await;
        world
    }

    async fn warm_up(&self) {
        assert!(self.github.runner(&org(), 1, soon()).await.unwrap().is_none());
        self.clock.advance(chrono::TimeDelta::minutes(1));
        self.fake.clear_calls();
    }

    async fn jit(&self, name: &str) -> Result<JitRunner, Error> {
        self.github.generate_jitconfig(&grant(Method::Jit, "octo-org", 1), name, soon()).await
    }

    fn fail(&self, fault: Fault) -> &World {
        self.fake.fail(fault);
        self
    }

    /// How often GitHub saw such a call.
    fn asked(&self, method: &str, path: &str) -> usize {
        self.fake.calls().iter().filter(|call| call.method == method && call.path.contains(path)).count()
    }

    fn exists(&self, name: &str) -> bool {
        self.fake.runner("octo-org", name).is_some()
    }
}

fn config(fake: &Fake) -> config::GitHub {
    config::GitHub {
        app_id: fake.app_id(),
        private_key: fake.private_key_pem().into(),
        org: org(),
        installation_id: None,
        api_url: fake.url().parse().unwrap(),
        url: fake.url().parse().unwrap(),
        timeout: Duration::from_secs(10),
        webhook_secret: None,
    }
}

fn org() -> Target {
    "octo-org".parse().unwrap()
}

fn soon() -> Deadline {
    Deadline::within(Duration::from_secs(10))
}

fn millis(millis: u64) -> Deadline {
    Deadline::within(Duration::from_millis(millis))
}

/// What the policy makes of an ask for this target and group; the labels are the system's and `gpu`.
fn grant(method: Method, target: &str, group: i64) -> Grant {
    let toml = format!(
        "[[team]]\nname = \"ml\"\nallowed_labels = [\"gpu\"]\nmethods = [\"{method}\"]\ntargets = [\"{target}\"]\n\
         runner_groups = [{group}]\n[[team.member]]\nissuer = \"https://i.example\"\nclaims = {{ sub = \"me\" }}"
    );
    let defaults = Defaults { target: org(), group_id: 1 };
    let (_, rules) = Document::read(&toml, &defaults).unwrap_or_else(|faults| panic!("{faults:?}"));
    let ask = Ask {
        method,
        name: NameAsk::Exact("unused".parse().unwrap()),
        labels: ["gpu".parse().unwrap()].into(),
        team: None,
        target: Some(target.parse().unwrap()),
        group: Some(GroupRef::Id(group)),
        os: Os::Linux,
        arch: Arch::X64,
        ephemeral: true,
        disable_update: false,
        work_folder: "_work".into(),
    };
    let memberships = rules.memberships("https://i.example", json!({ "sub": "me" }).as_object().unwrap());
    let permit = consider(&memberships, &ask).unwrap();
    permit.place(&Default::default()).unwrap().grant(Usage::default()).unwrap()
}

#[tokio::test]
async fn a_jit_runner_is_made_as_granted_found_and_removed() {
    let world = World::new();
    let made = world.jit("CI-1").await.unwrap();
    let there = world.fake.runner("octo-org", "ci-1").unwrap();
    assert_eq!((made.runner.id, made.runner.name.as_str(), made.runner.online), (there.id, "CI-1", false));
    assert_eq!((made.runner.group_id, made.runner.version.as_deref()), (Some(1), None));
    assert_eq!(made.runner.labels.len(), 4);
    use secrecy::ExposeSecret;
    assert_eq!(world.fake.connect_jit(made.encoded_jit_config.expose_secret()).unwrap(), "CI-1");

    let seen = world.github.runner(&org(), made.runner.id, soon()).await.unwrap().unwrap();
    assert!(seen.online && !seen.busy && seen.version.is_some());
    assert_eq!(world.github.runner_named(&org(), "ci-1", soon()).await.unwrap().unwrap(), seen);
    use runner_broker::github::Removal::*;
    world.fake.start_job("octo-org", "CI-1").unwrap();
    assert_eq!(world.github.delete_runner(&org(), seen.id, soon()).await.unwrap(), Busy);
    world.fake.remove("octo-org", "CI-1").unwrap();
    assert_eq!(world.github.delete_runner(&org(), seen.id, soon()).await.unwrap(), NotThere);
    assert_eq!(world.github.runner(&org(), seen.id, soon()).await.unwrap(), None);
    assert_eq!(world.github.runner_named(&org(), "ci-1", soon()).await.unwrap(), None);
    let again = world.jit("CI-1").await.unwrap();
    assert_eq!(world.github.delete_runner(&org(), again.runner.id, soon()).await.unwrap(), Removed);
}

#[tokio::test]
async fn registration_and_remove_tokens_are_of_use_to_config_sh() {
    use secrecy::ExposeSecret;
    let world = World::new();
    for target in ["octo-org", "octo-org/hello"] {
        let grant = grant(Method::RegistrationToken, target, 1);
        let issued = world.github.registration_token(&grant, soon()).await.unwrap();
        assert!(issued.expires_at > world.clock.now());
        world.fake.register(target, "r", &["x"], true, issued.token.expose_secret()).unwrap();
        let issued = world.github.remove_token(&target.parse().unwrap(), soon()).await.unwrap();
        world.fake.unregister(target, "r", issued.token.expose_secret()).unwrap();
    }
}

#[tokio::test]
async fn an_enterprise_server_is_asked_under_its_prefix() {
    for slash in ["", "/"] {
        let world = World::with(Settings::default(), |config| {
            config.api_url =
                format!("{}/api/v3{slash}", config.api_url.as_str().trim_end_matches('/')).parse().unwrap();
        });
        world.jit("a").await.unwrap();
        assert!(world.exists("a"));
    }
}
