//! Who is refused whatever they call, as administrators change it.

use serde_json::json;

use super::edit::{Change, Draft, Edit};
use super::if_match::{IfMatch, version};
use super::tables::denial;
use crate::broker::events::Kind;
use crate::broker::people::caller::Caller;
use crate::broker::{Broker, Error};
use crate::model::sha256;
use crate::policy::DenyEntry;
use crate::store::policies;

/// The deny rules, those that have ended too.
#[derive(Clone, Debug)]
pub struct DenyRules {
    /// In the order of the policy.
    pub rules: Vec<DenyEntry>,
}

impl DenyRules {
    /// Of exactly these rules, for `IfMatch`.
    pub fn version(&self) -> String {
        version(&self.rules)
    }
}

/// What a rule is called by: the same for the same issuer, claims, comment and end.
pub fn denial_id(entry: &DenyEntry) -> String {
    let mut hash = sha256(json!(entry).to_string());
    hash.truncate(16);
    hash
}

impl Broker {
    /// The deny rules.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn denials(&self) -> Result<DenyRules, Error> {
        let mut conn = self.store.conn().await?;
        let rows = policies::denials(&mut conn).await?;
        let rules: Result<_, _> = rows.into_iter().map(denial).collect();
        Ok(DenyRules { rules: rules? })
    }

    /// Refuses the callers that this rule describes; a repeated call changes nothing. Administrators cannot refuse
    /// themselves.
    ///
    /// # Errors
    ///
    /// [`Error::PreconditionRequired`], [`Error::PreconditionFailed`], [`Error::Faulty`],
    /// [`Error::PolicyManagedByFile`], [`Error::Forbidden`], [`Error::AccessDenied`], [`Error::IdentityDeactivated`],
    /// [`Error::OwnDenial`] or [`Error::Store`].
    pub async fn add_denial(
        &self,
        admin: &Caller,
        seen: &IfMatch,
        added: DenyEntry,
    ) -> Result<DenyRules, Error> {
        let change = |draft: &mut Draft| {
            let rules = &mut draft.document.deny;
            seen.check(&version(rules))?;
            if !rules.contains(&added) {
                rules.push(added.clone());
            }
            Ok(None)
        };
        self.change_denials(admin, &change).await
    }

    /// Removes a rule by its [`denial_id`].
    ///
    /// # Errors
    ///
    /// [`Error::DenialNotFound`], [`Error::PreconditionRequired`], [`Error::PreconditionFailed`],
    /// [`Error::PolicyManagedByFile`], [`Error::Forbidden`], [`Error::AccessDenied`], [`Error::IdentityDeactivated`] or
    /// [`Error::Store`].
    pub async fn remove_denial(&self, admin: &Caller, seen: &IfMatch, id: &str) -> Result<DenyRules, Error> {
        let change = |draft: &mut Draft| {
            let rules = &mut draft.document.deny;
            seen.check(&version(rules))?;
            let before = rules.len();
            rules.retain(|rule| denial_id(rule) != id);
            if rules.len() == before { Err(Error::DenialNotFound) } else { Ok(None) }
        };
        self.change_denials(admin, &change).await
    }

    async fn change_denials(&self, admin: &Caller, change: Change<'_>) -> Result<DenyRules, Error> {
        let edited = self.edit_policy(Edit::by(admin, Kind::DenyRulesChanged), change).await?;
        self.refresh_after_edit().await;
        Ok(DenyRules { rules: edited.document.deny })
    }
}
