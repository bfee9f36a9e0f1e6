//! What an owner does with the App: install, grant, suspend, select repositories.

use super::GitHub;
use crate::model::Target;

impl GitHub {
    /// The installation that serves a target. `None`: not installed there.
    pub fn installation_id(&self, target: &str) -> Option<u64> {
        let target: Target = target.parse().ok()?;
        self.shared.state().installation(target.owner()).map(|installation| installation.id)
    }

    /// What the owner grants from now on, instead of what they did: `("administration", "write")`, ….
    pub fn set_permissions(&self, owner: &str, permissions: &[(&str, &str)]) {
        if let Some(installation) = self.shared.state().installation_mut(owner) {
            let pairs = permissions.iter().chain(&[("metadata", "read")]);
            installation.permissions = pairs.map(|&(name, level)| (name.into(), level.into())).collect();
        }
    }

    /// The owner suspends the installation.
    pub fn suspend(&self, owner: &str) {
        let mut state = self.shared.state();
        let now = state.clock.now();
        let Some(installation) = state.installation_mut(owner) else { return };
        installation.suspended_at = Some(now);
        let id = installation.id;
        state.emit_installation("suspend", owner, id);
    }

    /// The owner lifts the suspension.
    pub fn unsuspend(&self, owner: &str) {
        let mut state = self.shared.state();
        let Some(installation) = state.installation_mut(owner) else { return };
        installation.suspended_at = None;
        let id = installation.id;
        state.emit_installation("unsuspend", owner, id);
    }

    /// Takes the App away; its tokens die with it.
    pub fn uninstall(&self, owner: &str) {
        let mut state = self.shared.state();
        let account = state.accounts.get_mut(&owner.to_lowercase());
        if let Some(id) = account.and_then(|account| account.installation.take()) {
            state.installations.remove(&id);
            state.tokens.retain(|_, token| token.installation != id);
            state.emit_installation("deleted", owner, id);
        }
    }

    /// Installs the App again, under a new id. `None`: no such account.
    pub fn install(&self, owner: &str) -> Option<u64> {
        let mut state = self.shared.state();
        let id = state.install(owner)?;
        state.emit_installation("created", owner, id);
        Some(id)
    }

    /// Takes a repository out of the installation's selection, or puts it back.
    pub fn select(&self, repository: &str, is_selected: bool) {
        if let Ok(target @ Target::Repository { .. }) = repository.parse() {
            self.shared.state().select(&target, is_selected);
        }
    }
}
