//! GitLab: an OpenID provider whose groups and addresses are in its userinfo rather than in its ID token.

use std::time::Duration;

use super::code::Registration;
use super::openid::OpenId;
use crate::auth::fetch::Client;
use crate::clock::Clock;

/// Asks for the user's info whatever the ID token says: it may have some groups, but never all.
pub fn provider(
    issuer: &str,
    registration: Registration,
    client: Client,
    leeway: Duration,
    clock: Clock,
) -> OpenId {
    OpenId::new(issuer, registration, client, leeway, clock).always_asking_for_info()
}
