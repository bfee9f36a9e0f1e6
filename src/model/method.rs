//! How a runner is registered.

use super::words::words;

words! {
    /// How a runner gets its credential.
    Method {
        /// A just-in-time configuration: name, labels and group are fixed, and the runner takes one job.
        Jit = "jit",
        /// A registration token, with which the runner names itself.
        RegistrationToken = "registration_token",
    }
}
