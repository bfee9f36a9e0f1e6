//! The sealer: what becomes a leaf and when, what it publishes, what it proves.

mod order;
mod proofs;
mod restored;
mod tree;

use std::path::PathBuf;

use runner_broker::broker::audit::sealer::{Sealed, Sealer};
use runner_broker::seal::key::SigningKey;
use tempfile::TempDir;

use crate::support::{World, eventually};

/// A world whose checkpoints are signed, with the files of its keys.
pub struct Signed {
    pub world: World,
    pub folder: TempDir,
}

impl Signed {
    pub async fn new() -> Signed {
        let folder = tempfile::tempdir().expect("a folder");
        let pem = SigningKey::generate().expect("a key");
        std::fs::write(folder.path().join("audit.key"), &pem).expect("a file");
        let vkey = SigningKey::from_pem(&pem).expect("a key").verifier_key();
        std::fs::write(folder.path().join("audit.vkey"), format!("{vkey}\n")).expect("a file");
        let key = folder.path().join("audit.key");
        let world = World::with(|config| config.broker.audit_signing_key = Some(key)).await;
        Signed { world, folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn path_text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The checkpoint as the API has it, in a file.
    pub async fn save_checkpoint(&self, name: &str) -> String {
        let answer = self.world.get("/api/v1/audit/checkpoint", "blue").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        std::fs::write(self.path(name), answer.text).expect("a file");
        self.path_text(name)
    }
}

/// Adds `count` events dated now, as the service would; their types are e1, e2, …
pub async fn write(world: &World, count: usize) {
    let insert = format!(
        "INSERT INTO audit_log (timestamp, event_type, severity, success, user_identity, event_data)
         SELECT clock_timestamp(), 'e' || i, 'info', true, 'somebody', jsonb_build_object('n', i)
         FROM generate_series(1, {count}) i"
    );
    world.sql(&insert).await;
}

/// One pass by this world's leader; transactions of other tests on the same server may hold events back.
pub async fn pass(world: &World) -> Sealed {
    let lease = world.lease().await;
    world.broker.seal(&lease, &mut Sealer::at_rest()).await.expect("a pass")
}

/// Passes until nothing waits and the horizon is at the end.
pub async fn seal(world: &World) -> Sealed {
    let mut last = None;
    eventually("all is sealed", async || {
        let sealed = pass(world).await;
        let waiting = world
            .sql(
                "SELECT count(*) FROM audit_log l WHERE id > (SELECT horizon_id FROM audit_seal)
                 AND id < 1000000000",
            )
            .await;
        last = Some(sealed);
        waiting == ["0"]
    })
    .await;
    last.expect("a pass")
}
