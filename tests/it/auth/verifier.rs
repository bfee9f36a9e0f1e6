//! The verifier against an issuer that rotates, fails and mints bad tokens.

mod accepted;
mod keys;
mod published;
mod refused;
mod unreachable;

use std::time::Duration;

use runner_broker::auth::{Error, Verifier};
use runner_broker::clock::Clock;
use runner_broker::config;
use runner_broker::dev::issuer::{Issuer, Running, Settings};

const AUDIENCE: &str = "runner-broker";
const UNKNOWN_KEY: &str = "the token is not signed by a key that its issuer publishes";

/// An issuer of its own for each test, and a verifier that knows only its address.
struct World {
    clock: Clock,
    issuer: Running,
    verifier: Verifier,
}

impl World {
    fn new() -> World {
        let clock = Clock::default();
        let issuer = issuer(&clock);
        let verifier = verifier(&[&issuer], &clock);
        World { clock, issuer, verifier }
    }

    /// As after the first background round.
    async fn ready() -> World {
        let world = World::new();
        world.verifier.refresh().await;
        assert!(world.verifier.ready(), "{:?}", world.verifier.issuers());
        world
    }

    fn pass(&self, seconds: i64) {
        self.clock.advance(chrono::TimeDelta::seconds(seconds));
    }

    /// The subject, or why not.
    async fn verify(&self, token: &str) -> Result<String, Error> {
        Ok(self.verifier.verify(token).await?.identity.subject)
    }
}

fn issuer(clock: &Clock) -> Running {
    let settings = Settings { port: 0, audience: AUDIENCE.into(), clock: clock.clone() };
    Issuer::start(settings).expect("a free port on loopback")
}

fn trusting(issuer: &Issuer) -> config::Issuer {
    config::Issuer { issuer: issuer.url().into(), audience: AUDIENCE.into(), jwks_url: None }
}

fn verifier(issuers: &[&Issuer], clock: &Clock) -> Verifier {
    configured(issuers.iter().map(|issuer| trusting(issuer)).collect(), clock)
}

fn configured(issuers: Vec<config::Issuer>, clock: &Clock) -> Verifier {
    let oidc = config::Oidc { issuers, leeway: Duration::from_secs(60) };
    Verifier::new(&oidc, clock.clone()).expect("the HTTP client")
}

/// Why the token was refused; anything but a refusal fails the test.
fn why(answer: Result<String, Error>) -> &'static str {
    match answer {
        Err(Error::Invalid { why, .. }) => why,
        other => panic!("not refused: {other:?}"),
    }
}

fn is_unavailable(answer: Result<String, Error>) -> bool {
    matches!(answer, Err(Error::IssuerUnavailable { .. }))
}
