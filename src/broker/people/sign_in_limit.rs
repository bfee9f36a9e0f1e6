//! How often anybody may try to sign in. Counted in Postgres, for all replicas together: an attempt costs the
//! provider a question, and somebody who guesses should not get more tries from more replicas.
//!
//! Beginning and returning are counted apart, one row per address and step: otherwise anybody could have the
//! provider asked about invented codes. A session gives both back, so an office behind one address can sign in at
//! nine o'clock. Rows are deleted after 5 minutes.

use std::net::IpAddr;

use chrono::TimeDelta;
use ipnet::Ipv6Net;
use metrics::counter;

use super::caller::Origin;
use crate::broker::{Broker, Error};
use crate::store::sign_in_attempts;

/// So many attempts may fail, or not come back, within `ATTEMPTS_WITHIN`; what succeeds is not counted.
const MOST_ATTEMPTS: i32 = 20;
pub(in crate::broker) const ATTEMPTS_WITHIN: TimeDelta = TimeDelta::minutes(5);

/// What is counted, each by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Off to a provider.
    Begin,
    /// Back from there.
    Finish,
}

impl Step {
    fn as_str(self) -> &'static str {
        match self {
            Step::Begin => "begin",
            Step::Finish => "finish",
        }
    }
}

impl Broker {
    /// Counts an attempt from this origin, unless there were too many.
    ///
    /// # Errors
    ///
    /// [`Error::TooManySignIns`] or [`Error::Store`].
    pub async fn count_attempt(&self, step: Step, origin: &Origin) -> Result<(), Error> {
        let (now, network) = (self.clock.now(), network(origin));
        let (since, most) = (now - ATTEMPTS_WITHIN, MOST_ATTEMPTS + 1);
        let attempts = self
            .store
            .transaction::<_, Error, _>(async |conn| {
                Ok(sign_in_attempts::count(conn, &network, step.as_str(), now, since, most).await?)
            })
            .await?;
        match attempts.count > MOST_ATTEMPTS {
            false => Ok(()),
            true => Err(Error::TooManySignIns { until: attempts.began_at + ATTEMPTS_WITHIN }),
        }
    }
}

/// By provider, which is one of the configured, and outcome, which is `signed_in` or an error's code.
pub(in crate::broker) fn count(provider: &str, outcome: &'static str) {
    counter!("sign_ins_total", "provider" => provider.to_owned(), "outcome" => outcome).increment(1);
}

/// Whom an address stands for: anybody can have many IPv6 addresses, but hardly more than one /64.
pub(in crate::broker) fn network(origin: &Origin) -> String {
    let address = origin.address.as_deref().and_then(|text| text.parse::<IpAddr>().ok());
    match address {
        None => "unknown".into(),
        Some(IpAddr::V4(address)) => address.to_string(),
        Some(IpAddr::V6(address)) => match Ipv6Net::new(address, 64) {
            Ok(net) => net.trunc().to_string(),
            Err(_) => address.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_a_network_are_one_and_others_are_not() {
        let of = |address: &str| network(&Origin { address: Some(address.into()), ..Origin::default() });
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!((of("192.0.2.1").as_str(), of("?").as_str()), ("192.0.2.1", "unknown"));
    }
}
