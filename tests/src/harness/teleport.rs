//! Teleport on one machine: an auth service and a node, on loopback, of a cluster of their own. People log in to the node by
//! OpenSSH's client and a certificate that the auth service signs.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::{
    program::{Outcome, end, free_address, run, until},
    ssh::{forward_only, old_protocol},
    typed::Typed,
};

const DEADLINE: Duration = Duration::from_mins(1);
/// Where its packages have them.
const TELEPORT: &str = "/usr/local/bin/teleport";
const TCTL: &str = "/usr/local/bin/tctl";
/// The name of somebody in the cluster, which no user of the machine has.
const PERSON: &str = "of-the-cluster";
/// Releases before 13 know no other signatures than these of RSA's, which OpenSSH takes where it is told to.
const RSA: &str = "+ssh-rsa-cert-v01@openssh.com,ssh-rsa";

/// Both services, in one process. Dropping it ends them.
pub struct Teleport {
    daemon: Child,
    node: SocketAddr,
    user: String,
    folder: TempDir,
}

impl Teleport {
    /// Why it cannot run here, if it cannot.
    pub fn unavailable() -> Option<String> {
        [TELEPORT, TCTL].into_iter().find(|path| !Path::new(path).exists()).map(|path| format!("there is no {path}"))
    }

    /// Starts it, and has it let somebody in as that user; with a session of PAM's by that service, if there is one.
    pub fn start(user: &str, pam: Option<&str>) -> Self {
        let folder = TempDir::with_prefix("tp-").expect("a temporary folder");
        let [auth, node] = [(); 2].map(|()| free_address());
        let config = folder.path().join("teleport.yaml");
        fs::write(&config, configuration(folder.path(), auth, node, pam)).expect("the folder is ours");
        let log = File::create(folder.path().join("log")).expect("the folder is ours");
        let mut daemon = Command::new(TELEPORT);
        daemon.args(["start", "--config"]).arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let daemon = daemon.spawn().expect("it starts");
        let teleport = Self { daemon, node, user: user.to_owned(), folder };
        until("Teleport's users", DEADLINE, || {
            let added = teleport.tctl(&["users", "add", PERSON, "--roles=access", &format!("--logins={user}")]);
            added.status.success().then_some(())
        });
        let key = teleport.key();
        teleport.tctl(&["auth", "sign", "--user", PERSON, "--format=openssh", "--out", &key]).succeeded();
        until("Teleport's node", DEADLINE, || TcpStream::connect(node).ok());
        teleport
    }

    /// Logs in and runs a command.
    pub fn command(&self, command: &str) -> Outcome {
        run(self.client("/usr/bin/ssh", "-p").args(["-T", "127.0.0.1", command]), b"", DEADLINE)
    }

    /// Logs in to a terminal, and leaves it to be typed to.
    pub fn terminal(&self) -> Typed {
        Typed::start(self.client("/usr/bin/ssh", "-p").args(["-tt", "127.0.0.1"]))
    }

    /// Copies a file there, by the protocol before OpenSSH 9.0.
    pub fn scp(&self, from: &Path, to: &str) -> Outcome {
        run(
            old_protocol(&mut self.client("/usr/bin/scp", "-P")).arg(from).arg(format!("127.0.0.1:{to}")),
            b"",
            DEADLINE,
        )
    }

    /// Logs in for a forwarded port only, and goes.
    pub fn tunnel(&self) {
        forward_only(self.client("/usr/bin/ssh", "-p").args(["-T", "127.0.0.1"]));
    }

    fn client(&self, program: &str, port: &str) -> Command {
        let mut client = Command::new(program);
        client.args(["-F", "/dev/null", "-i", &self.key(), "-o"]).arg(format!("User={}", self.user)).args([
            "-oIdentitiesOnly=yes",
            "-oIdentityAgent=none",
            "-oBatchMode=yes",
            "-oStrictHostKeyChecking=no",
            "-oUserKnownHostsFile=/dev/null",
            "-oLogLevel=ERROR",
        ]);
        for option in ["PubkeyAcceptedKeyTypes", "HostKeyAlgorithms"] {
            client.arg(format!("-o{option}={RSA}"));
        }
        client.args([port, &self.node.port().to_string()]);
        client
    }

    fn key(&self) -> String {
        self.folder.path().join("key").display().to_string()
    }

    fn tctl(&self, arguments: &[&str]) -> Outcome {
        let config = self.folder.path().join("teleport.yaml");
        run(Command::new(TCTL).arg("--config").arg(config).args(arguments), b"", DEADLINE)
    }
}

impl Drop for Teleport {
    fn drop(&mut self) {
        end(&mut self.daemon, DEADLINE);
    }
}

/// The labels are commands that the node runs by itself, at its start and every minute.
fn configuration(folder: &Path, auth: SocketAddr, node: SocketAddr, pam: Option<&str>) -> String {
    let pam = pam.map(|service| format!("  pam: {{enabled: yes, service_name: {service}}}\n")).unwrap_or_default();
    format!(
        "version: v2
teleport:
  nodename: node
  data_dir: {}
  auth_servers: ['{auth}']
  auth_token: of-loopback-alone
  log: {{output: stderr, severity: INFO}}
auth_service:
  enabled: yes
  cluster_name: of-a-test
  listen_addr: {auth}
  tokens: ['node:of-loopback-alone']
  session_recording: 'off'
  authentication: {{type: local, second_factor: otp}}
proxy_service: {{enabled: no}}
ssh_service:
  enabled: yes
  listen_addr: {node}
  labels: {{of: test}}
  commands:
  - {{name: arch, command: [/bin/sh, -c, 'uname -m'], period: 1m0s}}
{pam}",
        folder.join("data").display()
    )
}
