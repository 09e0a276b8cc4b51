//! Servers that let people in without PAM: no login is told of there, and who came in is known by the shape of what such a
//! server does; from where, by what it puts into the environment of their first program. What opens this way is marked `likely`,
//! unless it was sshd's and that has logged whom it let in. One that does ask PAM to open the session, but does not say from where
//! somebody comes, says that in the same place: that their session is open is told with their first program.

use std::{net::SocketAddr, sync::Arc};

use postern_ebpf::abi::{ProcessKey, SSH_SERVERS};

use super::{
    Pipeline,
    entries::{Arrival, Entries, OpenLogin, Placed, source},
};
use crate::{
    event::{Body, Confidence, Door, Enrichment, Entry, EntryType, Login, Process},
    process::{Decoder, to_tick},
};

/// A program that forks, and whose child executes what somebody asked for.
struct Server {
    program: &'static str,
    door: Door,
    first: First,
}

/// Which of the programs that a server executes is somebody's first: most have helpers of their own.
#[derive(Clone, Copy)]
enum First {
    /// Each.
    Any,
    /// What leads a session of its own.
    SessionLeader,
    /// What leads a process group of its own, as a session's leader does, or runs as another user than the server.
    GroupLeaderOrOther,
    /// What is called a shell by its whole path: helpers are no shells, or are called by their names.
    Shell,
    /// What the server executes once it has executed itself anew with this for its first argument.
    Anew(&'static str),
}

/// As data, so that one more is one more line. OpenSSH comes here with `UsePAM no`, or where libpam could not be watched; the
/// program that asks for a user's keys (`AuthorizedKeysCommand`) is one of its helpers. tailscaled has `ip` and others set up its
/// network, and Teleport adds users by `useradd`.
///
/// The agents of clouds run what somebody asked the cloud's API for. Amazon's worker for documents takes an inventory of packages by
/// helpers, and the one for sessions asks `id` who somebody is; a command of a session that is to run as root on no terminal passes for
/// such a question. google-guest-agent's script runner, which had another name before 2025, runs what is in the machine's metadata, and
/// the extensions that waagent starts what `az vm run-command` and `az vm extension set` say; these decrypt by `openssl`, and ask `ps`.
const SERVERS: [Server; 14] = [
    Server { program: "sshd", door: EntryType::Sshd, first: First::SessionLeader },
    Server { program: "sshd-session", door: EntryType::Sshd, first: First::SessionLeader },
    Server { program: "dropbear", door: EntryType::Sshd, first: First::Any },
    Server { program: "tinysshd", door: EntryType::Sshd, first: First::Any },
    Server { program: "teleport", door: EntryType::Sshd, first: First::Anew("exec") },
    Server { program: "tailscaled", door: EntryType::Sshd, first: First::Anew("be-child") },
    Server { program: "ssm-session-worker", door: EntryType::Ssm, first: First::GroupLeaderOrOther },
    Server { program: "ssm-document-worker", door: EntryType::Ssm, first: First::GroupLeaderOrOther },
    Server { program: "gce_metadata_script_runner", door: EntryType::CloudAgent, first: First::Any },
    Server { program: "google_metadata_script_runner", door: EntryType::CloudAgent, first: First::Any },
    Server { program: "run-command-extension", door: EntryType::CloudAgent, first: First::Shell },
    Server { program: "immediate-run-command-handler", door: EntryType::CloudAgent, first: First::Shell },
    Server { program: "run-command-handler", door: EntryType::CloudAgent, first: First::Shell },
    Server { program: "custom-script-extension", door: EntryType::CloudAgent, first: First::Shell },
];

/// What Azure has at the end of their names on other processors.
const ARM64: &str = "-arm64";

/// How long the first program of an open session is waited for, in nanoseconds. Whoever only forwards a port has none.
pub(super) const UNTOLD_NS: u64 = 1_000_000_000;

/// How the names of the programs begin that OpenSSH's server is made of.
const OPENSSH: &str = "sshd";

/// The shells of [`First::Shell`].
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

impl First {
    fn is(self, arrival: &Arrival<'_>, previous: &Process) -> bool {
        let process = arrival.process;
        match self {
            Self::Any => true,
            Self::SessionLeader => arrival.leads_session,
            Self::GroupLeaderOrOther => {
                arrival.leads_group || process.credentials.real_user.id != previous.credentials.real_user.id
            }
            Self::Shell => process.args.iter().next().is_some_and(|name| SHELLS.contains(&name)),
            Self::Anew(argument) => previous.args.iter().nth(1) == Some(argument),
        }
    }
}

/// The server that let somebody in whose first program this is.
fn server(arrival: &Arrival<'_>) -> Option<&'static Server> {
    let previous = &arrival.previous?.process;
    let (own, before) = (arrival.process.executable_name(), previous.executable_name());
    let program = before.strip_suffix(ARM64).unwrap_or(before);
    let server = SERVERS.iter().find(|server| server.program == program)?;
    let is_its_own = own == before || before.starts_with(OPENSSH) && own.starts_with(OPENSSH);
    // tailscaled has it let somebody in on a terminal, and PAM tells of that.
    let is_by_pam = own == "login";
    (!is_its_own && !is_by_pam && server.first.is(arrival, previous)).then_some(server)
}

/// Whether the kernel side is to look for a first program below this one.
pub(super) fn is_ssh_server(process: &Process) -> bool {
    SSH_SERVERS.contains(&process.executable_name())
}

/// Whether it is a server that says from where somebody comes to their first program alone. `login`, which tailscaled executes, tells
/// PAM.
fn says_late(process: &Process) -> bool {
    let is_anew = |server: &Server| matches!(server.first, First::Anew(_));
    SERVERS.iter().any(|server| server.program == process.executable_name() && is_anew(server))
}

impl Pipeline {
    /// PAM has opened somebody's session.
    pub(super) fn opened(&mut self, process: ProcessKey, now_ns: u64) {
        let Some(login) = self.entries.opened(process) else { return };
        self.terminate(login.session.as_ref(), process);
        let is_late = self.processes.get(process).is_some_and(|known| says_late(&known.process));
        match self.entries.open.get_mut(&to_tick(process)).filter(|_| is_late && login.source.ip.is_none()) {
            Some(open) => open.untold = true,
            None => self.tell_opened(login, process, now_ns),
        }
    }

    /// Tells that a session is open. Whether all is known of the login: what the login program says of it comes before, or not at all.
    pub(super) fn tell_opened(&mut self, login: Arc<Login>, process: ProcessKey, now_ns: u64) {
        let enrichment = if login.method.is_some() { Enrichment::Complete } else { Enrichment::Partial };
        self.session_event(Body::SessionOpened(login), process, enrichment, now_ns);
    }

    /// Tells of those that have waited so long for their first program.
    pub(super) fn tell_untold(&mut self, waited_ns: u64, now_ns: u64) {
        let is_due = |open: &OpenLogin| open.untold && now_ns.saturating_sub(open.since_ns) >= waited_ns;
        let due: Vec<_> = self.entries.open.iter().filter(|(_, open)| is_due(open)).map(|(key, _)| *key).collect();
        for process in due {
            self.tell_if_untold(process, now_ns);
        }
    }

    /// Tells of it if nobody was told: there is no more waiting for its first program.
    pub(super) fn tell_if_untold(&mut self, process: ProcessKey, now_ns: u64) {
        let open = self.entries.open.get_mut(&to_tick(process));
        if let Some(login) = open.and_then(|open| open.first_program(None)) {
            self.tell_opened(login, process, now_ns);
        }
    }
}

impl OpenLogin {
    /// Its first program is executed, or there will be none. Yields the login if nobody was told of it yet.
    pub(super) fn first_program(&mut self, client: Option<SocketAddr>) -> Option<Arc<Login>> {
        std::mem::take(&mut self.untold).then(|| {
            if let Some(client) = client {
                self.login = Arc::new(Login { source: source(client), ..Login::clone(&self.login) });
            }
            Arc::clone(&self.login)
        })
    }
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
        let server = server(arrival)?;
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
