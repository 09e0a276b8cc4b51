//! The node's image: an OCI image archive (OCI image-spec 1.0) made of the static binary alone, without a container engine.
//! The same binary always makes the same archive.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{
    build,
    command::{root, say},
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// What was made.
pub(crate) struct Made {
    /// The OCI archive.
    pub(crate) archive: PathBuf,
    /// The static agent in it.
    pub(crate) agent: PathBuf,
}

/// Builds the static agent and writes the archive.
pub(crate) fn write() -> Result<Made> {
    let agent = build::static_agent()?;
    let program = fs::read(&agent).with_context(|| agent.display().to_string())?;
    let archive = root().join("target/postern-image.tar");
    let bytes = image(&program);
    fs::write(&archive, &bytes).with_context(|| archive.display().to_string())?;
    say(&format!("image: {} ({:.1} MiB)", archive.display(), bytes.len() as f64 / f64::from(1 << 20)));
    Ok(Made { archive, agent })
}

/// The archive of an image whose one file is the agent.
fn image(program: &[u8]) -> Vec<u8> {
    let mut layer = Tar::default();
    layer.folder("tmp");
    layer.folder("var/lib/postern");
    layer.file("postern", program, 0o755);
    let layer = layer.finish();
    let version = env!("CARGO_PKG_VERSION");
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": ["/postern"],
            "Cmd": ["run"],
            "User": "0:0",
            "Labels": {
                "org.opencontainers.image.title": "postern",
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.licenses": "Apache-2.0 AND (MIT OR GPL-2.0-only)",
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    })
    .to_string()
    .into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config),
        "layers": [descriptor(LAYER, &layer)],
    })
    .to_string()
    .into_bytes();
    let mut entry = descriptor(MANIFEST, &manifest);
    entry["platform"] = json!({ "architecture": "amd64", "os": "linux" });
    entry["annotations"] = json!({
        "io.containerd.image.name": format!("localhost/postern:{version}"),
        "org.opencontainers.image.ref.name": version,
    });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] }).to_string();

    let mut archive = Tar::default();
    archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644);
    archive.file("index.json", index.as_bytes(), 0o644);
    for blob in [&config, &layer, &manifest] {
        archive.file(&format!("blobs/sha256/{}", hex(blob)), blob, 0o644);
    }
    archive.finish()
}

fn descriptor(media_type: &str, blob: &[u8]) -> serde_json::Value {
    json!({ "mediaType": media_type, "digest": digest(blob), "size": blob.len() })
}

fn digest(blob: &[u8]) -> String {
    format!("sha256:{}", hex(blob))
}

fn hex(blob: &[u8]) -> String {
    Sha256::digest(blob).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// A POSIX ustar archive (IEEE Std 1003.1, pax), without times and owners.
#[derive(Default)]
struct Tar(Vec<u8>);

const BLOCK: usize = 512;

impl Tar {
    fn folder(&mut self, name: &str) {
        // Folders above it come first, as unpacking needs them.
        let ends = name.match_indices('/').map(|(end, _)| end).chain([name.len()]);
        for end in ends {
            self.header(&format!("{}/", &name[..end]), 0, 0o755, b'5');
        }
    }

    fn file(&mut self, name: &str, content: &[u8], mode: u32) {
        self.header(name, content.len(), mode, b'0');
        self.0.extend_from_slice(content);
        self.pad();
    }

    fn header(&mut self, name: &str, size: usize, mode: u32, kind: u8) {
        let mut block = [0u8; BLOCK];
        let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, &format!("{mode:07o}"));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{size:011o}"));
        put(136, "00000000000");
        // The sum is taken with blanks in its own place.
        put(148, "        ");
        put(257, "ustar\0");
        put(263, "00");
        block[156] = kind;
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&block);
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK, 0);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_program_makes_the_same_image() {
        assert_eq!(image(b"program"), image(b"program"));
        assert_ne!(image(b"program"), image(b"another"));
    }

    #[test]
    fn tar_reads_the_archive() {
        let folder = std::env::temp_dir().join(format!("postern-xtask-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let archive = folder.join("image.tar");
        fs::write(&archive, image(b"program")).expect("written");
        let listed =
            crate::command::program("tar", ["tvf", &archive.display().to_string()]).quietly().expect("tar reads it");
        fs::remove_dir_all(&folder).expect("removed");
        assert!(listed.contains("oci-layout") && listed.matches("blobs/sha256/").count() == 3, "{listed}");
    }
}
