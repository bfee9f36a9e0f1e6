//! What goes wrong between an App and its owners while nobody looks: settings, clocks, budgets.

use chrono::TimeDelta;

use super::GitHub;

impl GitHub {
    /// How webhooks are sent from now on: `json` or `form`, and whether the receiver's certificate is looked at.
    pub fn set_webhook_manner(&self, content_type: &str, is_insecure: bool) {
        if let Some(hook) = &mut self.shared.state().hooks.hook {
            hook.content_type = content_type.to_owned();
            hook.is_insecure = is_insecure;
        }
    }

    /// The App has no webhook any more.
    pub fn remove_webhook(&self) {
        self.shared.state().hooks.hook = None;
    }

    /// Lists a delivery as if it had been made now and answered so; 0: not at all.
    pub fn note_delivery(&self, event: &str, status: u16) {
        self.shared.state().note_delivery(event, status);
    }

    /// From now on GitHub's time is so far ahead of the clock that it was started with, and no longer moved
    /// with that.
    pub fn set_ahead(&self, ahead: TimeDelta) {
        self.shared.state().clock = self.shared.clock_ahead(ahead);
    }

    /// An installation has so much left of its hour: `core` or `actions_runner_registration`.
    pub fn leave(&self, owner: &str, resource: &str, remaining: u64) {
        let mut state = self.shared.state();
        let (now, id) = (state.clock.now(), state.installation(owner).map(|installation| installation.id));
        if let Some(id) = id {
            state.meter.leave_only(id, resource, remaining, now);
        }
    }

    /// How many attempts to deliver were answered, well or not.
    pub fn answered(&self) -> usize {
        self.shared.state().hooks.deliveries.iter().filter(|delivery| delivery.status_code != 0).count()
    }
}
