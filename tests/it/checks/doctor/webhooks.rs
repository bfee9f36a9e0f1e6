//! What can be wrong with the webhook.

use super::{Patient, hook};
use crate::support::{REPO, WEBHOOK_SECRET};

impl Patient {
    /// A delivery as GitHub sends it now, and what was answered.
    async fn delivery(&self) {
        self.world.github.queue_job(REPO, "build", &["self-hosted"]);
        self.settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_not_agreed_on_is_told_by_what_was_answered() {
    let patient = Patient::new().await;
    let github = &patient.world.github;
    let same = "set the same secret";
    github.set_webhook(&hook(&patient.world), "another");
    patient.delivery().await;
    patient.seen().fault("webhook_secret", "was answered with 401: the secrets differ", same);
    github.set_webhook(&hook(&patient.world), WEBHOOK_SECRET);
    patient.delivery().await;
    patient.seen().is_well();
    github.set_webhook(&hook(&patient.world), "");
    patient.seen().fault("webhook_secret", "nothing that GitHub sends is signed", same);
    patient.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_and_how_github_delivers_is_compared_with_what_is_wanted() {
    let mut patient = Patient::new().await;
    let here = hook(&patient.world);
    let set = format!("set the webhook's URL to {here}");
    let github = &patient.world.github;
    github.set_webhook("https://elsewhere.example.com/hook?key=hunter2", WEBHOOK_SECRET);
    let seen = patient.seen();
    seen.warning("webhook_url", "https://elsewhere.example.com/hook, not to", &set);
    patient.world.sql("UPDATE webhook_deliveries SET received_at = now() - interval '2 days'").await;
    patient.seen().fault("webhook_url", "https://elsewhere.example.com/hook, not to", &set);
    github.remove_webhook();
    patient.seen().fault("webhook_absent", "the App has no webhook", &set);

    github.set_webhook(&format!("{}/api/webhook", patient.world.url), WEBHOOK_SECRET);
    patient.seen().is_well();
    github.set_webhook_manner("json", true);
    patient.seen().warning("webhook_insecure", "does not look at the certificate", "SSL verification");
    github.set_webhook_manner("form", false);
    patient.delivery().await;
    patient.seen().fault("webhook_content_type", "\"form\"", "content type application/json");
    github.set_webhook_manner("json", false);
    patient.delivery().await;
    let after = patient.seen();
    after.warning("webhook_undelivered", "1 × 400", "sent again by itself");

    let off = patient.with("GITHUB_WEBHOOK_SECRET", "");
    off.warning("webhook_off", "GITHUB_WEBHOOK_SECRET is not set", "set it");
    patient.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_that_do_not_arrive_are_told_by_what_came_back() {
    let patient = Patient::new().await;
    for (status, said, advice) in [
        (0, "1 × no answer", "reached from the internet"),
        (502, "1 × 502", "see this service's log"),
        (404, "1 × 404", "has no such path"),
        (403, "1 × 403", "something in front"),
    ] {
        patient.world.github.note_delivery("workflow_job", status);
        patient.seen().fault("webhook_undelivered", said, advice);
    }
    patient.leave().await;
}
