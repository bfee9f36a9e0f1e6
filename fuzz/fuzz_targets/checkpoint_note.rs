//! Checkpoints of the audit log, as somebody may hand them to `verify-audit-log`; and the keys to check them with.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use runner_broker::seal::key::{SigningKey, VerifierKey};
use runner_broker::seal::note;

static KEY: LazyLock<SigningKey> = LazyLock::new(|| {
    let pem = SigningKey::generate().expect("the system has randomness");
    SigningKey::from_pem(&pem).expect("a key of ours")
});
static VERIFIER: LazyLock<VerifierKey> = LazyLock::new(|| KEY.verifier().expect("a key of ours"));

fuzz_target!(|text: &str| {
    let _ = SigningKey::from_pem(text);
    let _ = VerifierKey::parse(text);
    note::signers(text);
    assert!(note::read(text, Some(&VERIFIER)).is_err(), "nobody else has signed with this key");
    assert!(!note::is_by(text, Some(&KEY)));

    let Ok(head) = note::read(text, None) else { return };
    // A time is kept to the microsecond.
    let bare = note::write(head, None).expect("what was read can be written");
    let head = note::read(&bare, None).expect("what was written can be read");
    assert_eq!(note::write(head, None).as_ref(), Ok(&bare));
    let signed = note::write(head, Some(&KEY)).expect("and signed");
    assert_eq!(note::read(&signed, Some(&VERIFIER)), Ok(head), "{signed}");
    let larger = signed.replacen(&format!("\n{}\n", head.size), &format!("\n{}\n", head.size ^ 1), 1);
    assert!(note::read(&larger, Some(&VERIFIER)).is_err(), "{larger}");
});
