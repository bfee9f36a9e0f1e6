//! A caller's identity.

/// Who is calling. Issuer and subject together are the identity; the display name is only for people's eyes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The `iss` of the caller's token, compared to the last character.
    pub issuer: String,
    /// The `sub` of the caller's token, compared to the last character.
    pub subject: String,
    /// A name, an e-mail address or the subject. Callers can often choose it, so nothing is decided by it.
    pub display_name: String,
}
