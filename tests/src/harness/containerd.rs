//! A private containerd with the real runc: its own root, state and socket in a temporary folder, and one image made of the
//! machine's busybox. What it started ends with it.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::program::{self, Outcome, run};

/// The image that every container runs.
pub const IMAGE: &str = "localhost/busybox:test";

const DEADLINE: Duration = Duration::from_secs(30);
/// What a container does of which nothing more is asked, for longer than any test takes. A pod's sandbox does, too, and all that
/// shares its pid namespace ends with it.
pub const SLEEP: &[&str] = &["/bin/sleep", "1000000"];
/// The folder of the image's files.
const IMAGE_ROOT: &str = "rootfs";
const APPLETS: [&str; 8] = ["sh", "sleep", "true", "echo", "cat", "id", "ls", "touch"];

/// A running containerd. Containers are in its namespace `default`.
pub struct Containerd {
    child: Child,
    folder: TempDir,
    /// Whether its `ctr` can be told where runc keeps its state: since containerd 1.5.
    names_runc_root: bool,
}

impl Containerd {
    /// Why none can run here, if none can.
    pub fn unavailable() -> Option<String> {
        let programs = ["/usr/bin/containerd", "/usr/bin/ctr", "/usr/sbin/runc", "/bin/busybox"];
        programs.into_iter().find(|path| !Path::new(path).exists()).map(|path| format!("there is no {path}"))
    }

    /// Starts it, and gives it the image.
    pub fn start() -> Self {
        // Short, since a socket's path may have 108 bytes.
        let folder = TempDir::with_prefix("ctd-").expect("a temporary folder");
        let path = folder.path().display();
        // Some machines' root may not lower its OOM score, as kubelet's sandboxes want.
        let configuration = format!(
            "version = 2\nroot = '{path}/root'\nstate = '{path}/state'\n\
             [grpc]\naddress = '{path}/sock'\n\
             [plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = '{IMAGE}'\n\
             restrict_oom_score_adj = true\n\
             [plugins.'io.containerd.internal.v1.opt']\npath = '{path}/opt'\n"
        );
        let file = folder.path().join("config.toml");
        fs::write(&file, configuration).expect("a configuration");
        let log = File::create(folder.path().join("log")).expect("a log");
        let child = Command::new("/usr/bin/containerd")
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("containerd starts");
        let usage = run(Command::new("/usr/bin/ctr").args(["run", "--help"]), b"", DEADLINE).stdout;
        let containerd = Self { child, folder, names_runc_root: usage.contains("--runc-root") };
        program::until("containerd to answer", DEADLINE, || {
            containerd
                .socket()
                .exists()
                .then(|| containerd.ctr(&["version"]))
                .filter(|outcome| outcome.status.success())
        });
        let archive = busybox_image(containerd.folder.path());
        containerd.import("default", &archive);
        containerd.import("k8s.io", &archive);
        containerd
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("sock")
    }

    /// The files of the image.
    pub fn image_root(&self) -> PathBuf {
        self.folder.path().join(IMAGE_ROOT)
    }

    /// Imports an image archive into a namespace.
    pub fn import(&self, namespace: &str, archive: &Path) {
        let archive = archive.to_str().expect("text");
        self.ctr(&["--namespace", namespace, "image", "import", archive]).succeeded();
    }

    /// Runs `ctr` to its end.
    pub fn ctr(&self, arguments: &[&str]) -> Outcome {
        run(&mut self.ctr_command(arguments), b"", DEADLINE)
    }

    /// `ctr`, not yet run.
    pub fn ctr_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("/usr/bin/ctr");
        command.arg("--address").arg(self.socket()).args(arguments);
        command
    }

    /// Starts a container that sleeps, with more options of `ctr run`.
    pub fn run(&self, name: &str, options: &[&str]) {
        self.run_image(IMAGE, name, options, SLEEP);
    }

    /// Starts a container in the background.
    pub fn run_image(&self, image: &str, name: &str, options: &[&str], command: &[&str]) {
        let runc_options = self.runc_options();
        let runc_options: Vec<&str> = runc_options.split_whitespace().collect();
        let arguments = [&["run", "--detach"], &*runc_options, options, &[image, name], command].concat();
        self.ctr(&arguments).succeeded();
    }

    /// Runs a command in a container to its end.
    pub fn exec(&self, name: &str, command: &[&str]) -> Outcome {
        let id = format!("exec-{}", command.join("").len());
        self.ctr(&[&["task", "exec", "--exec-id", &id, name], command].concat())
    }

    /// runc's own state: in the temporary folder too, so that names are free whatever an earlier run has left. Where `ctr`
    /// cannot be told, it is where containerd's shim has it.
    pub fn runc_root(&self) -> String {
        if self.names_runc_root {
            self.folder.path().join("runc").display().to_string()
        } else {
            "/run/containerd/runc".to_owned()
        }
    }

    /// The options of `ctr run` that say so.
    pub fn runc_options(&self) -> String {
        if self.names_runc_root { format!("--runc-root {}", self.runc_root()) } else { String::new() }
    }

    fn end(&self, namespace: &str, id: &str) {
        // Ended already, perhaps.
        self.ctr(&["--namespace", namespace, "task", "delete", "--force", id]);
        self.ctr(&["--namespace", namespace, "container", "delete", id]);
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for namespace in ["default", "k8s.io"] {
            let listed = self.ctr(&["--namespace", namespace, "container", "list", "--quiet"]).stdout;
            for id in listed.lines() {
                self.end(namespace, id);
            }
        }
        // Shims leave by themselves when their last container is gone.
        program::end(&mut self.child, DEADLINE);
        unmount_below(self.folder.path());
    }
}

/// What a killed container leaves mounted would keep the folder from being removed.
fn unmount_below(folder: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let below = |path: &&str| Path::new(path).starts_with(folder);
    for path in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)).filter(below) {
        run(Command::new("/bin/umount").arg("--lazy").arg(path), b"", DEADLINE);
    }
}

/// An OCI archive whose one layer is busybox.
fn busybox_image(folder: &Path) -> PathBuf {
    let root = folder.join(IMAGE_ROOT);
    for name in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(root.join(name)).expect("a folder");
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox");
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).expect("a link");
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n").expect("users");
    let layer = folder.join("layer.tar");
    tar(&root, &layer, ".");
    let layer = fs::read(&layer).expect("a layer");
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Cmd": SLEEP, "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    });
    let oci = folder.join("oci");
    let config = blob(&oci, "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let layers = [blob(&oci, "application/vnd.oci.image.layer.v1.tar", &layer)];
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
    let mut manifest = blob(&oci, "application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
    manifest["annotations"] = json!({ "io.containerd.image.name": IMAGE });
    fs::write(oci.join("index.json"), json!({ "schemaVersion": 2, "manifests": [manifest] }).to_string())
        .expect("an index");
    fs::write(oci.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a layout");
    let archive = folder.join("image.tar");
    tar(&oci, &archive, ".");
    archive
}

pub(super) fn tar(folder: &Path, archive: &Path, what: &str) {
    run(Command::new("/bin/tar").arg("-C").arg(folder).arg("-cf").arg(archive).arg(what), b"", DEADLINE).succeeded();
}

fn blob(oci: &Path, media_type: &str, content: &[u8]) -> Value {
    let digest = digest(content);
    let folder = oci.join("blobs/sha256");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join(digest.trim_start_matches("sha256:")), content).expect("a blob");
    json!({ "mediaType": media_type, "digest": digest, "size": content.len() })
}

fn digest(content: &[u8]) -> String {
    Sha256::digest(content).iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}
