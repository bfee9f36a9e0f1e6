//! Authentication around the whole scope, so that it refuses by default; handlers name what they need in
//! their signature.

use std::future::{Ready, ready};
use std::net::{IpAddr, SocketAddr};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpMessage, HttpRequest, ResponseError};
use ipnet::IpNet;

use super::State;
use super::problem::{Problem, REQUEST_ID};
use crate::auth;
use crate::broker::Error;
use crate::broker::people::caller::Origin;
use crate::model::Role;

pub use crate::broker::people::caller::Caller;

/// Lets nobody in without a token that the verifier accepts.
pub async fn authenticate(
    req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    match admit(req.request()).await {
        Ok(caller) => {
            req.extensions_mut().insert(caller);
            Ok(next.call(req).await?.map_into_boxed_body())
        }
        // A response, not an error: the middleware outside counts and logs it like any other.
        Err(problem) => Ok(req.into_response(problem.error_response())),
    }
}

async fn admit(req: &HttpRequest) -> Result<Caller, Problem> {
    let Some(state) = req.app_data::<Data<State>>() else { return Err(Problem::not_found(req.path())) };
    let origin = origin(req, &state.trusted_proxies);
    let unverified = bearer(req).ok_or_else(Problem::missing_token)?;
    match state.verifier.verify(unverified).await {
        Ok(verified) => Ok(state.broker.admit(verified, origin)?),
        Err(err) => {
            if let auth::Error::Invalid { known_issuer, .. } = &err {
                state.broker.note_refused_token(known_issuer.clone(), err.to_string(), &origin);
            }
            Err(err.into())
        }
    }
}

/// The token of the one `Authorization: Bearer …`; the scheme is compared without case (RFC 9110). Of two,
/// something before us may have looked at the other.
pub fn bearer(req: &HttpRequest) -> Option<&str> {
    let mut values = req.headers().get_all(header::AUTHORIZATION);
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let value = value.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

pub(super) fn origin(req: &HttpRequest, trusted: &[IpNet]) -> Origin {
    // Whatever a caller writes here ends up in front of an auditor.
    let printable = |text: &str| text.chars().filter(|c| !c.is_control()).take(300).collect::<String>();
    Origin {
        request_id: REQUEST_ID.try_with(Clone::clone).unwrap_or_default(),
        address: address(req, trusted).map(|ip| ip.to_string()),
        user_agent: req
            .headers()
            .get(header::USER_AGENT)
            .map(|value| printable(&String::from_utf8_lossy(value.as_bytes()))),
    }
}

/// The address of whoever connected or, behind trusted proxies, of the last one that is none of them.
pub fn address(req: &HttpRequest, trusted: &[IpNet]) -> Option<IpAddr> {
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|net| net.contains(ip));
    // A socket for IPv6 sees IPv4 as ::ffff:…, which no one writes into a list of networks.
    let peer = req.peer_addr()?.ip().to_canonical();
    if !is_trusted(&peer) {
        return Some(peer);
    }
    let forwarded: Vec<&str> = req
        .headers()
        .get_all("x-forwarded-for")
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    let mut address = peer;
    for hop in forwarded.iter().rev() {
        // What cannot be read ends the chain: nothing before it can be believed.
        let Some(ip) = hop_address(hop.trim()) else { break };
        address = ip;
        if !is_trusted(&ip) {
            break;
        }
    }
    Some(address)
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

/// A caller who may change what concerns everybody.
pub struct Admin(pub Caller);

/// That the caller may read everything: he is an auditor, or an admin.
pub struct Auditor;

/// A caller who may read everything: an auditor, or an admin.
pub struct Reader(pub Caller);

/// The caller, if he has one of these roles. If not, that is noted like any refusal at the door.
fn with_role(req: &HttpRequest, roles: &[Role]) -> Result<Caller, Problem> {
    let caller = req.extensions().get::<Caller>().cloned().ok_or_else(Problem::missing_token)?;
    if roles.iter().any(|role| caller.has(*role)) {
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

impl FromRequest for Reader {
    type Error = Problem;
    type Future = Ready<Result<Reader, Problem>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(with_role(req, &[Role::Admin, Role::Auditor]).map(Reader))
    }
}

impl FromRequest for Auditor {
    type Error = Problem;
    type Future = Ready<Result<Auditor, Problem>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(with_role(req, &[Role::Admin, Role::Auditor]).map(|_| Auditor))
    }
}
