//! Authentication of API calls. It wraps the whole scope, so it refuses by default; a handler names the role that it
//! needs in its signature.

use std::future::{Ready, ready};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpMessage, HttpRequest, ResponseError};
use ipnet::IpNet;

use super::State;
use super::connections::{Connection, Connections};
use super::problem::{Problem, REQUEST_ID};
use crate::auth;
use crate::broker::Error;
use crate::broker::people::caller::Origin;
use crate::model::Role;
use crate::visible::visible;

pub use crate::broker::people::caller::Caller;

/// Refuses requests without a token that the verifier accepts.
pub async fn authenticate(
    req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    match admit(req.request()).await {
        Ok(caller) => {
            req.extensions_mut().insert(caller);
            Ok(next.call(req).await?.map_into_boxed_body())
        }
        // A response, not an error: the outer middleware counts and logs it like any other.
        Err(problem) => Ok(req.into_response(problem.error_response())),
    }
}

async fn admit(req: &HttpRequest) -> Result<Caller, Problem> {
    let Some(state) = req.app_data::<Data<State>>() else { return Err(Problem::not_found(req.path())) };
    let origin = origin(req, &state.trusted_proxies);
    let unverified = bearer(req).ok_or_else(Problem::missing_token)?;
    match state.verifier.verify(unverified).await {
        Ok(verified) => {
            let caller = state.broker.admit(verified, origin)?;
            hold(req, &caller)?;
            Ok(caller)
        }
        Err(err) => {
            if let auth::Error::Invalid { known_issuer, .. } = &err {
                state.broker.note_refused_token(known_issuer.clone(), err.to_string(), &origin);
            }
            Err(err.into())
        }
    }
}

/// From now on the connection counts as the caller's, no longer as a stranger's. Anybody can have a valid token of a
/// public issuer, so that takes a rule that names them.
pub(super) fn hold(req: &HttpRequest, caller: &Caller) -> Result<(), Problem> {
    if caller.is_stranger() {
        return Ok(());
    }
    let connection = req.conn_data::<Arc<Connection>>().zip(req.app_data::<Data<Connections>>());
    let identity = &caller.identity;
    match connection {
        Some((held, all)) if !all.verified(held, &identity.issuer, &identity.subject) => {
            Err(Problem::too_many_connections())
        }
        _ => Ok(()),
    }
}

/// The token of the one `Authorization: Bearer …`; the scheme is compared without case (RFC 9110). Two
/// headers are refused: a proxy before us may have checked the other one.
pub fn bearer(req: &HttpRequest) -> Option<&str> {
    let mut values = req.headers().get_all(header::AUTHORIZATION);
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let value = value.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

pub(super) fn origin(req: &HttpRequest, trusted: &[IpNet]) -> Origin {
    // Auditors read these texts, so they must be printable and short.
    let printable = |text: &str| {
        visible(&text.chars().filter(|c| !c.is_control()).take(300).collect::<String>()).into_owned()
    };
    Origin {
        request_id: REQUEST_ID.try_with(Clone::clone).unwrap_or_default(),
        client_request_id: client_request_id(req),
        address: address(req, trusted).map(|ip| ip.to_string()),
        user_agent: req
            .headers()
            .get(header::USER_AGENT)
            .map(|value| printable(&String::from_utf8_lossy(value.as_bytes()))),
    }
}

/// The longest request id of a caller that is kept, in bytes.
const LONGEST_REQUEST_ID: usize = 128;

/// The id that a caller gave their request: visible ASCII, or none.
fn client_request_id(req: &HttpRequest) -> Option<String> {
    let id = req.headers().get("x-request-id")?.to_str().ok()?;
    let is_kept = (1..=LONGEST_REQUEST_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    is_kept.then(|| id.to_owned())
}

/// The client's address as our proxies report it.
pub fn address(req: &HttpRequest, trusted: &[IpNet]) -> Option<IpAddr> {
    let values = req.headers().get_all("x-forwarded-for").filter_map(|value| value.to_str().ok());
    let forwarded: Vec<&str> = values.flat_map(|value| value.split(',')).collect();
    Some(client_address(req.peer_addr()?.ip(), &forwarded, trusted))
}

/// The last address that is no trusted proxy, read from the peer backwards along `X-Forwarded-For`; if all are trusted,
/// the first of the header.
fn client_address(peer: IpAddr, forwarded: &[&str], trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|net| net.contains(ip));
    // An IPv6 socket shows IPv4 peers as ::ffff:…, which nobody writes into a list of networks.
    let mut address = peer.to_canonical();
    for hop in forwarded.iter().rev() {
        if !is_trusted(&address) {
            break;
        }
        // An unreadable entry ends the chain: nothing before it can be trusted.
        let Some(ip) = hop_address(hop.trim()) else { break };
        address = ip;
    }
    address
}

/// Some proxies add the port.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse().or_else(|_| hop.parse().map(|with_port: SocketAddr| with_port.ip()));
    address.ok().map(|ip: IpAddr| ip.to_canonical())
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Ready<Result<Caller, Problem>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(req.extensions().get::<Caller>().cloned().ok_or_else(Problem::missing_token))
    }
}

/// Proof that some rule of the policy names the caller.
pub struct Named;

impl FromRequest for Named {
    type Error = Problem;
    type Future = Ready<Result<Named, Problem>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(admitted_if(req, |caller| !caller.is_stranger()).map(|_| Named))
    }
}

/// A caller who may change everything.
pub struct Admin(pub Caller);

/// A caller who may read everything: an auditor, or an admin.
pub struct Auditor(pub Caller);

/// The caller, if they have one of these roles. If not, the refusal is recorded.
fn with_role(req: &HttpRequest, roles: &[Role]) -> Result<Caller, Problem> {
    admitted_if(req, |caller| roles.iter().any(|role| caller.has(*role)))
}

fn admitted_if(req: &HttpRequest, may: impl Fn(&Caller) -> bool) -> Result<Caller, Problem> {
    let caller = req.extensions().get::<Caller>().cloned().ok_or_else(Problem::missing_token)?;
    if may(&caller) {
        return Ok(caller);
    }
    if let Some(state) = req.app_data::<Data<State>>() {
        state.broker.note_forbidden(&caller);
    }
    Err(Error::Forbidden.into())
}

impl FromRequest for Admin {
    type Error = Problem;
    type Future = Ready<Result<Admin, Problem>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(with_role(req, &[Role::Admin]).map(Admin))
    }
}

impl FromRequest for Auditor {
    type Error = Problem;
    type Future = Ready<Result<Auditor, Problem>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(with_role(req, &[Role::Admin, Role::Auditor]).map(Auditor))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 10.0.0.0/8 and fd00::/8 are trusted.
    fn trusted() -> Vec<IpNet> {
        vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]
    }

    /// An address, whether it is trusted, and how a header may spell it.
    fn hop() -> impl Strategy<Value = (IpAddr, bool, String)> {
        let address = (any::<bool>(), any::<bool>(), any::<u16>()).prop_map(|(is_trusted, is_v6, last)| {
            let text = match (is_trusted, is_v6) {
                (true, false) => format!("10.1.{}.{}", last >> 8, last & 255),
                (false, false) => format!("203.0.{}.{}", last >> 8, last & 255),
                (true, true) => format!("fd00::{last:x}"),
                (false, true) => format!("2001:db8::{last:x}"),
            };
            (text.parse::<IpAddr>().unwrap(), is_trusted)
        });
        (address, 0..4).prop_map(|((ip, is_trusted), spelling)| {
            let text = match (ip, spelling) {
                (IpAddr::V4(ip), 1) => format!("{ip}:4711"),
                (IpAddr::V4(ip), 2) => format!(" ::ffff:{ip} "),
                (IpAddr::V6(ip), 1) => format!("[{ip}]:4711"),
                (IpAddr::V6(ip), 2) => format!(" [{ip}] "),
                _ => ip.to_string(),
            };
            (ip, is_trusted, text)
        })
    }

    proptest! {
        #[test]
        fn the_last_address_that_is_no_trusted_proxy_is_the_clients(
            peer in hop(), forwarded in prop::collection::vec(hop(), 0..6)
        ) {
            let texts: Vec<&str> = forwarded.iter().map(|(_, _, text)| text.as_str()).collect();
            let chain: Vec<_> = forwarded.iter().chain([&peer]).collect();
            let expected = chain.iter().rev().find(|(_, is_trusted, _)| !is_trusted).unwrap_or(&chain[0]).0;
            prop_assert_eq!(client_address(peer.0, &texts, &trusted()), expected);
        }

        #[test]
        fn nothing_that_a_client_sends_itself_changes_its_address(
            sent in prop::collection::vec(r"\PC{0,20}|10\.0\.0\.1|203\.0\.113\.9", 0..4),
            client in hop().prop_filter("a client is no proxy of ours", |(_, is_trusted, _)| !is_trusted),
            proxies in prop::collection::vec(hop().prop_filter("a proxy of ours", |hop| hop.1), 1..4),
        ) {
            let (peer, inner) = proxies.split_last().unwrap();
            let mut texts: Vec<&str> = sent.iter().map(String::as_str).collect();
            texts.push(&client.2);
            texts.extend(inner.iter().map(|(_, _, text)| text.as_str()));
            prop_assert_eq!(client_address(peer.0, &texts, &trusted()), client.0);
        }

        #[test]
        fn nothing_before_an_unreadable_entry_is_believed(
            before in prop::collection::vec(hop(), 0..3), proxies in prop::collection::vec(hop(), 0..3), peer in hop()
        ) {
            let mut texts: Vec<&str> = before.iter().map(|(_, _, text)| text.as_str()).collect();
            texts.push("unknown");
            texts.extend(proxies.iter().map(|(_, _, text)| text.as_str()));
            let readable: Vec<&str> = texts[before.len() + 1..].to_vec();
            let expected = client_address(peer.0, &readable, &trusted());
            prop_assert_eq!(client_address(peer.0, &texts, &trusted()), expected);
        }
    }
}
