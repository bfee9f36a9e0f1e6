//! Who is an administrator and who an auditor, as administrators change it.

use super::edit::{Draft, Edit, role_version};
use super::if_match::IfMatch;
use super::tables::member;
use super::teams::member_id;
use crate::broker::events::Kind;
use crate::broker::people::caller::Caller;
use crate::broker::{Broker, Error};
use crate::model::Role;
use crate::policy::Member;
use crate::store::policies;

/// Those who have a role.
#[derive(Clone, Debug)]
pub struct RoleMembers {
    /// The role.
    pub role: Role,
    /// Those who have it, in the order of the policy.
    pub members: Vec<Member>,
}

impl RoleMembers {
    /// Of exactly these members, for `IfMatch`.
    pub fn version(&self) -> String {
        role_version(&self.members)
    }
}

impl Broker {
    /// Those who have a role.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn role_members(&self, role: Role) -> Result<RoleMembers, Error> {
        let mut conn = self.store.conn().await?;
        let rows = policies::with_role(&mut conn, role.as_str()).await?;
        let members: Result<_, _> = rows.into_iter().map(|row| member(row.issuer, row.claims)).collect();
        Ok(RoleMembers { role, members: members? })
    }

    /// Gives the role to the callers that this member describes; a repeated call changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::PreconditionRequired`], [`Error::PreconditionFailed`], [`Error::Faulty`],
    /// [`Error::PolicyManagedByFile`], [`Error::Forbidden`], [`Error::IdentityDeactivated`], [`Error::OwnRole`] or
    /// [`Error::Store`].
    pub async fn add_role_member(
        &self,
        admin: &Caller,
        role: Role,
        seen: &IfMatch,
        added: Member,
    ) -> Result<RoleMembers, Error> {
        let change = |draft: &mut Draft| {
            let members = draft.role(role);
            seen.check(&role_version(members))?;
            if !members.contains(&added) {
                members.push(added.clone());
            }
            Ok(None)
        };
        self.change_role(admin, role, &change).await
    }

    /// Takes the role away. Administrators cannot take it from themselves.
    ///
    /// # Errors
    ///
    /// [`Error::MemberNotFound`], [`Error::PreconditionRequired`], [`Error::PreconditionFailed`],
    /// [`Error::PolicyManagedByFile`], [`Error::Forbidden`], [`Error::IdentityDeactivated`], [`Error::OwnRole`] or
    /// [`Error::Store`].
    pub async fn remove_role_member(
        &self,
        admin: &Caller,
        role: Role,
        seen: &IfMatch,
        id: &str,
    ) -> Result<RoleMembers, Error> {
        let change = |draft: &mut Draft| {
            let members = draft.role(role);
            seen.check(&role_version(members))?;
            let before = members.len();
            members.retain(|member| member_id(member) != id);
            if members.len() == before { Err(Error::MemberNotFound) } else { Ok(None) }
        };
        self.change_role(admin, role, &change).await
    }

    async fn change_role(
        &self,
        admin: &Caller,
        role: Role,
        change: super::edit::Change<'_>,
    ) -> Result<RoleMembers, Error> {
        let edited = self.edit_policy(Edit::by(admin, Kind::RoleMembersChanged), change).await?;
        self.refresh_after_edit().await;
        let members = match role {
            Role::Admin => edited.document.admin,
            Role::Auditor => edited.document.auditor,
        };
        Ok(RoleMembers { role, members })
    }
}
