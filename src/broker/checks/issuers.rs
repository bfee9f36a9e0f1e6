//! Identity providers: whether their keys are there, and whether their clock is ours.

use std::time::Duration;

use super::{Area, Check, Code};
use crate::auth::{FetchError, IssuerStatus};

const AREA: Area = Area::Issuers;
/// A difference of clocks that is worth telling, in seconds.
const SKEW: i64 = 10;
/// What a difference that is told to the second, and the way of an answer, may add.
const IMPRECISE: i64 = 2;

/// Two checks for each issuer; `leeway` is what a token's times may differ from our clock.
pub(super) fn checks(issuers: &[IssuerStatus], leeway: Duration) -> Vec<Check> {
    issuers.iter().flat_map(|of| [Some(keys(of)), clock(of, leeway)]).flatten().collect()
}

fn keys(of: &IssuerStatus) -> Check {
    let fetched =
        of.fetched_at.map_or("never".to_owned(), |at| at.format("%Y-%m-%d %H:%M:%S UTC").to_string());
    let detail = format!("{} keys, fetched {fetched}", of.keys);
    let (code, advice) = remedy(of);
    match (of.usable, &of.failure) {
        (true, None) => Check::ok(AREA, &of.issuer, detail),
        (true, Some(failure)) => {
            Check::warning(AREA, &of.issuer, code, format!("{detail}; the last attempt failed: {failure}"))
                .advise(format!("its last keys serve for 24 hours; {advice}"))
        }
        (false, failure) => {
            let why = failure.as_deref().unwrap_or(match of.fetched_at {
                Some(_) => "it publishes no key that can be used",
                None => "its keys have not been fetched yet",
            });
            Check::fault(AREA, &of.issuer, code, format!("{detail}: {why}"))
                .advise(format!("nobody with a token of this issuer is let in: {advice}"))
        }
    }
}

fn remedy(of: &IssuerStatus) -> (Code, String) {
    let reach = "check that it can be reached from here (name, firewall, proxy, its certificate)";
    let document = "check that the URL is the issuer's own, to which /.well-known/openid-configuration is added, \
                    and OIDC_JWKS_URL if that is set";
    match of.cause.as_deref() {
        None if of.fetched_at.is_some() && of.keys == 0 => (
            Code::IssuerWithoutKeys,
            "its key set has no RSA key of 2048 bits or more, P-256, P-384 or Ed25519 key for signatures; check its \
             jwks_uri, or OIDC_JWKS_URL if that is set"
                .to_owned(),
        ),
        Some(FetchError::OtherIssuer(name)) => (
            Code::IssuerMismatch,
            format!(
                "write it in OIDC_ISSUER (or OIDC_EXTRA_ISSUERS) as the provider does, to the last character: {name}"
            ),
        ),
        Some(FetchError::Malformed { .. } | FetchError::TooLarge { .. } | FetchError::NotAUrl(_)) => {
            (Code::IssuerMalformed, document.to_owned())
        }
        Some(FetchError::Insecure(_)) => {
            (Code::IssuerMalformed, "let it publish its keys under https".to_owned())
        }
        Some(FetchError::Status { status: 300..500, .. }) => {
            (Code::IssuerUnreachable, format!("it answers, but not so; {document}"))
        }
        _ => (Code::IssuerUnreachable, reach.to_owned()),
    }
}

fn clock(of: &IssuerStatus, leeway: Duration) -> Option<Check> {
    let ahead = of.ahead?.num_seconds();
    let what = format!("Clock of {}", of.issuer);
    let apart = apart(ahead, "the issuer's");
    let allowed = leeway.as_secs() as i64;
    let effect = match ahead > 0 {
        true => "tokens count as expired before they are",
        false => "new tokens are refused as not valid yet",
    };
    let advice = "set this machine's clock by NTP; if it is right the provider's is wrong";
    Some(match ahead.abs() {
        0..=SKEW => Check::ok(AREA, what, apart),
        off if off > allowed + IMPRECISE => {
            let detail = format!("{apart}, and OIDC_LEEWAY_SECONDS allows {allowed} s: {effect}");
            Check::fault(AREA, what, Code::IssuerClock, detail).advise(advice)
        }
        _ => Check::warning(AREA, what, Code::IssuerClock, apart).advise(advice),
    })
}

/// How our clock stands to another one.
pub(super) fn apart(ahead: i64, whose: &str) -> String {
    match ahead {
        -1..=1 => format!("this machine's clock agrees with {whose}"),
        2.. => format!("this machine's clock is {ahead} s ahead of {whose}"),
        _ => format!("this machine's clock is {} s behind {whose}", -ahead),
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::super::Health;
    use super::*;

    fn state_at(ahead: i64, leeway: u64) -> Health {
        let of = IssuerStatus {
            issuer: "https://login.example.com".into(),
            usable: true,
            keys: 1,
            fetched_at: None,
            failure: None,
            cause: None,
            ahead: Some(TimeDelta::seconds(ahead)),
        };
        clock(&of, Duration::from_secs(leeway)).unwrap().state
    }

    #[test]
    fn a_clock_is_at_fault_once_tokens_are_refused_for_it() {
        for ahead in [0, 10, -10] {
            assert_eq!(state_at(ahead, 60), Health::Ok);
        }
        for ahead in [11, -11, 62, -62] {
            assert_eq!(state_at(ahead, 60), Health::Warning);
        }
        for ahead in [63, -63] {
            assert_eq!(state_at(ahead, 60), Health::Fault);
        }
        assert_eq!(state_at(11, 0), Health::Fault);
    }
}
