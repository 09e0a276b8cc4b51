//! Finds the node's own shared libraries: the agent runs in its own image, but what it watches runs on the node.

use std::path::{Path, PathBuf};

/// Where distributions keep libraries: Debian's multiarch folders, the 64-bit folder of Fedora and SUSE, and the plain
/// one of Arch and Alpine.
#[cfg(target_arch = "x86_64")]
const FOLDERS: [&str; 6] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib64", "lib64", "usr/lib", "lib"];
#[cfg(target_arch = "aarch64")]
const FOLDERS: [&str; 6] =
    ["usr/lib/aarch64-linux-gnu", "lib/aarch64-linux-gnu", "usr/lib64", "lib64", "usr/lib", "lib"];

/// The path of a library by its soname, below the node's root; `None` where the node has none.
pub(super) fn find(host_root: &Path, sonames: &[&str]) -> Option<PathBuf> {
    FOLDERS
        .iter()
        .flat_map(|folder| sonames.iter().map(move |soname| host_root.join(folder).join(soname)))
        .find(|path| path.is_file())
}
