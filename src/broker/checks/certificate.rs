//! The certificate that HTTPS is served with, as its files are now.

use chrono::{DateTime, TimeDelta, Utc};
use url::Url;

use super::{Area, Check, Code};
use crate::certificate::{Files, Validity, names, validity};
use crate::config::Tls;

const AREA: Area = Area::Certificate;
const WHAT: &str = "Certificate";
/// So long before its end somebody should see to it.
const SOON: TimeDelta = TimeDelta::days(14);

pub(super) fn checks(tls: Option<&Tls>, public_url: &Url, now: DateTime<Utc>) -> Vec<Check> {
    let Some(tls) = tls else {
        let detail = "HTTPS_ENABLED=false: a proxy in front terminates TLS";
        return vec![Check::ok(AREA, WHAT, detail)];
    };
    let certified = match Files::read(tls).and_then(|files| files.certified(tls)) {
        Ok(certified) => certified,
        Err(broken) if broken.is_mismatch => {
            return vec![
                Check::fault(AREA, WHAT, Code::CertificateKey, broken.to_string())
                    .advise("put the key that the certificate was made for into HTTPS_KEY_FILE"),
            ];
        }
        Err(broken) => {
            return vec![
                Check::fault(AREA, WHAT, Code::CertificateUnusable, broken.to_string())
                    .advise("wanted are a certificate chain and its key, each as PEM, that serve may read"),
            ];
        }
    };
    let path = tls.cert_file.display();
    let Some(validity) = validity(&certified) else {
        let detail = format!("{path} holds something that is no certificate");
        return vec![
            Check::fault(AREA, WHAT, Code::CertificateUnusable, detail).advise("have it issued anew"),
        ];
    };
    let mut checks = vec![dates(&path.to_string(), validity, now)];
    checks.extend(name(public_url, |host| names(&certified, host)));
    checks
}

fn dates(path: &str, Validity { from, until }: Validity, now: DateTime<Utc>) -> Check {
    let day = "%Y-%m-%d %H:%M UTC";
    let renew = "renew it; the new files are taken over without a restart";
    let detail = format!("{path} is good from {} until {}", from.format(day), until.format(day));
    match until - now {
        left if left <= TimeDelta::zero() => {
            Check::fault(AREA, WHAT, Code::CertificateExpired, format!("expired: {detail}")).advise(renew)
        }
        _ if now < from => {
            Check::fault(AREA, WHAT, Code::CertificateNotYet, format!("not good yet: {detail}"))
                .advise("check this machine's clock, or wait")
        }
        left if left <= SOON => {
            let days = left.num_days();
            Check::warning(AREA, WHAT, Code::CertificateExpires, format!("{days} days are left: {detail}"))
                .advise(renew)
        }
        left => Check::ok(AREA, WHAT, format!("{} days are left: {detail}", left.num_days())),
    }
}

/// Whether it is for the host that people are told. A URL that nobody set names none.
fn name(public_url: &Url, is_named: impl FnOnce(&str) -> bool) -> Option<Check> {
    let what = "Name";
    let host = public_url.host_str().filter(|_| public_url.scheme() == "https")?;
    if ["0.0.0.0", "[::]"].contains(&host) {
        return None;
    }
    Some(match is_named(host) {
        true => Check::ok(AREA, what, format!("the certificate is {host}'s")),
        false => Check::warning(AREA, what, Code::CertificateName, format!("the certificate does not name {host}"))
            .advise("callers of PUBLIC_URL refuse it, unless a proxy in front has another: have it issued for that name"),
    })
}
