//! Servers that let people in without PAM: no login is told of there, and who came in is known by the shape of what such a
//! server does; from where, by what it puts into the environment of their first program. What opens this way is marked `likely`,
//! unless it was sshd's and that has logged whom it let in.

use std::sync::Arc;

use postern_ebpf::abi::SSH_SERVERS;

use super::entries::{Arrival, Entries, Placed, source};
use crate::{
    event::{Confidence, Door, Entry, EntryType, Login, Process},
    process::{Decoder, to_tick},
};

/// A program that forks, and whose child executes what somebody asked for.
struct Server {
    program: &'static str,
    door: Door,
    first: First,
}

/// Which of the programs that a server executes is somebody's first: it may have helpers of its own.
#[derive(Clone, Copy)]
enum First {
    /// Each.
    Any,
    /// What leads a session of its own.
    Leader,
    /// That, and what runs as another user than the server.
    LeaderOrOther,
}

/// As data, so that one more is one more line. OpenSSH comes here with `UsePAM no`, or where libpam could not be watched; the
/// program that asks for a user's keys (`AuthorizedKeysCommand`) is one of its helpers. Amazon's worker for sessions asks `id` who
/// somebody is, as root, before it runs their shell on a terminal of its own, or as them their command on none; a command on none
/// that is to run as root passes for such a question.
///
/// The agents of clouds run what somebody asked the cloud's API for: google-guest-agent's script runner what is in the machine's
/// metadata, and two extensions that waagent starts what `az vm run-command` and `az vm extension set` say, each by a shell.
const SERVERS: [Server; 11] = [
    Server { program: "sshd", door: EntryType::Sshd, first: First::Leader },
    Server { program: "sshd-session", door: EntryType::Sshd, first: First::Leader },
    Server { program: "dropbear", door: EntryType::Sshd, first: First::Any },
    Server { program: "tinysshd", door: EntryType::Sshd, first: First::Any },
    Server { program: "teleport", door: EntryType::Sshd, first: First::Any },
    Server { program: "tailscaled", door: EntryType::Sshd, first: First::Any },
    Server { program: "ssm-session-worker", door: EntryType::Ssm, first: First::LeaderOrOther },
    Server { program: "ssm-document-worker", door: EntryType::Ssm, first: First::Any },
    Server { program: "google_metadata_script_runner", door: EntryType::CloudAgent, first: First::Any },
    Server { program: "run-command-extension", door: EntryType::CloudAgent, first: First::Any },
    Server { program: "custom-script-extension", door: EntryType::CloudAgent, first: First::Any },
];

/// How the names of the programs begin that OpenSSH's server is made of.
const OPENSSH: &str = "sshd";

/// The server that let somebody in whose first program this is.
fn server(process: &Process, previous: &Process, leads_session: bool) -> Option<&'static Server> {
    let (own, before) = (process.executable_name(), previous.executable_name());
    let server = SERVERS.iter().find(|server| server.program == before)?;
    let is_its_own = own == before || before.starts_with(OPENSSH) && own.starts_with(OPENSSH);
    let is_first = match server.first {
        First::Any => true,
        First::Leader => leads_session,
        First::LeaderOrOther => leads_session || process.credentials.real_user.id != previous.credentials.real_user.id,
    };
    (!is_its_own && is_first).then_some(server)
}

/// Whether the kernel side is to look for a first program below this one.
pub(super) fn is_ssh_server(process: &Process) -> bool {
    SSH_SERVERS.contains(&process.executable_name())
}

impl Entries {
    /// The first program under a server that lets people in without PAM.
    pub(super) fn place_remote(
        &mut self,
        decoder: &Decoder,
        arrival: &Arrival<'_>,
        inherited: Option<&Placed>,
        now_ns: u64,
    ) -> Option<Placed> {
        let process = arrival.process;
        let server = server(process, &arrival.previous?.process, arrival.leads_session)?;
        if arrival.mark.entered_by().is_some() || inherited.is_some_and(|it| it.entry.session().is_some()) {
            return None;
        }
        let user = &process.credentials.real_user;
        let shape = Login {
            door: server.door,
            user: user.name.clone().unwrap_or_else(|| user.id.to_string().into()),
            user_known: Some(true),
            source: arrival.client.map(source).unwrap_or_default(),
            service: server.program.into(),
            ..Login::default()
        };
        let accepted = arrival.accepted.filter(|_| server.program.starts_with(OPENSSH));
        let (login, confidence) = match accepted {
            Some(accepted) => (joined(accepted, shape), Confidence::Certain),
            None => (shape, Confidence::Likely),
        };
        self.open_login(decoder, process.key, login, confidence, None, now_ns);
        let open = self.open.get_mut(&to_tick(process.key))?;
        (open.opened, open.marked, open.leader) = (true, false, Some(process.key));
        self.changed = true;
        let (own_session, source_ip) = (open.login.session.clone(), open.login.source.ip);
        let entry = Entry { source_ip, own_session, ..Entry::new(server.door, process.key) };
        Some(Placed { opened: Some(Arc::clone(&open.login)), ..Placed::leading(entry, process) })
    }
}

/// A login as sshd told of it; what its line left open, since it can be read in two ways, as its shape tells of it.
fn joined(accepted: &Login, shape: Login) -> Login {
    let user = if accepted.user.is_empty() { shape.user } else { Arc::clone(&accepted.user) };
    let source = if accepted.source.ip.is_some() { accepted.source.clone() } else { shape.source };
    Login { door: shape.door, user, source, ..accepted.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_side_knows_every_ssh_server() {
        let names: Vec<&str> =
            SERVERS.iter().filter(|server| server.door == EntryType::Sshd).map(|server| server.program).collect();
        assert_eq!(names, SSH_SERVERS);
    }
}
