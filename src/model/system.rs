//! What a runner's machine is.

use super::words::words;

words! {
    /// The runner's operating system; with [`Arch`] it makes the [system labels](super::system_labels).
    Os {
        /// `linux`
        Linux = "linux",
        /// `windows`
        Windows = "windows",
        /// `macos`
        MacOs = "macos",
    }
}
words! {
    /// The runner's processor.
    Arch {
        /// `x64`
        X64 = "x64",
        /// `arm64`
        Arm64 = "arm64",
        /// `arm`
        Arm = "arm",
    }
}
