//! Which server a client of tmux or screen speaks to, by the arguments of both: the socket that each names, or else the one that
//! its user has by default (tmux(1), screen(1)).

use crate::event::Process;

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// To see and to type, until it ends.
    Attach,
    /// To have something done, and no more.
    Command,
}

/// Commands of tmux that have a server type or run something, by their names and short names.
const TMUX_COMMANDS: [(&str, &str); 12] = [
    ("send-keys", "send"),
    ("new-window", "neww"),
    ("split-window", "splitw"),
    ("respawn-pane", "respawnp"),
    ("respawn-window", "respawnw"),
    ("run-shell", "run"),
    ("if-shell", "if"),
    ("pipe-pane", "pipep"),
    ("paste-buffer", "pasteb"),
    ("display-popup", "popup"),
    ("source-file", "source"),
    ("set-hook", "set-hook"),
];

/// The multiplexer that a program is.
pub(super) fn program(name: &str) -> Option<&'static str> {
    ["tmux", "screen"].into_iter().find(|program| *program == name)
}

/// What a client wants of a server, if it wants anything that others could be blamed for.
pub(super) fn wish(program: &str, process: &Process) -> Option<Wish> {
    if program == "tmux" { Tmux::of(process).wish() } else { Screen::of(process).wish() }
}

/// Whether a client speaks to that server.
pub(super) fn reaches(client: &Process, server: &Process) -> bool {
    match server.executable_name() {
        "tmux" => Tmux::of(client).socket == Tmux::of(server).socket,
        _ => Screen::of(client).reaches(client, &Screen::of(server), server),
    }
}

struct Tmux<'a> {
    socket: String,
    /// The command and what follows it.
    command: Vec<&'a str>,
}

impl<'a> Tmux<'a> {
    fn of(process: &'a Process) -> Self {
        let mut arguments = process.args.iter().skip(1);
        let (mut label, mut path, mut command) = (None, None, Vec::new());
        while let Some(argument) = arguments.next() {
            let Some(options) = argument.strip_prefix('-').filter(|options| !options.is_empty()) else {
                command.push(argument);
                command.extend(arguments);
                break;
            };
            // The first option that takes a value ends the cluster: what follows it is the value, or the next argument.
            if let Some(at) = options.find(['c', 'f', 'L', 'S', 'T']) {
                let value = if at + 1 < options.len() { Some(&options[at + 1..]) } else { arguments.next() };
                match options.as_bytes().get(at) {
                    Some(b'L') => label = value,
                    Some(b'S') => path = value,
                    _ => {}
                }
            }
        }
        let socket = match path {
            Some(path) if path.starts_with('/') => path.to_owned(),
            Some(path) => format!("{}/{path}", process.working_directory),
            None => format!("/tmp/tmux-{}/{}", process.credentials.real_user.id, label.unwrap_or("default")),
        };
        Self { socket, command }
    }

    fn wish(&self) -> Option<Wish> {
        let Some(command) = self.command.first() else { return Some(Wish::Attach) };
        let flag = |flag: char| {
            self.command.iter().skip(1).any(|it| it.strip_prefix('-').is_some_and(|options| options.contains(flag)))
        };
        // tmux takes any beginning of a command's name that is no other's.
        if "attach-session".starts_with(command) {
            return Some(Wish::Attach);
        }
        if command.len() >= 3 && "new-session".starts_with(command) {
            return Some(if flag('d') && !flag('A') { Wish::Command } else { Wish::Attach });
        }
        let is = |(name, short): &(&str, &str)| command == short || command.len() >= 5 && name.starts_with(*command);
        TMUX_COMMANDS.iter().any(is).then_some(Wish::Command)
    }
}

struct Screen<'a> {
    /// The name that it has, or that is asked for: `[PID.]NAME`, with the user before where it is another's.
    name: Option<&'a str>,
    wish: Option<Wish>,
}

impl<'a> Screen<'a> {
    fn of(process: &'a Process) -> Self {
        let mut arguments = process.args.iter().skip(1).peekable();
        let (mut name, mut wish) = (None, None);
        while let Some(argument) = arguments.next() {
            let Some(options) = argument.strip_prefix('-').filter(|options| !options.is_empty()) else { break };
            for (at, option) in options.char_indices() {
                match option {
                    'r' | 'R' | 'x' => {
                        wish = Some(Wish::Attach);
                        name = arguments.next_if(|next| !next.starts_with('-')).or(name);
                    }
                    'X' => return Self { name, wish: Some(Wish::Command) },
                    'S' | 'c' | 'e' | 'h' | 'p' | 's' | 't' | 'T' => {
                        let value = if at + 1 < options.len() { Some(&options[at + 1..]) } else { arguments.next() };
                        if option == 'S' {
                            name = value;
                        }
                        break;
                    }
                    _ => {}
                }
            }
        }
        Self { name, wish }
    }

    fn wish(&self) -> Option<Wish> {
        self.wish
    }

    fn reaches(&self, client: &Process, other: &Screen<'_>, server: &Process) -> bool {
        let owner = &server.credentials.real_user;
        let (user, name) = match self.name.and_then(|name| name.split_once('/')) {
            Some((user, name)) => (Some(user), Some(name).filter(|name| !name.is_empty())),
            None => (None, self.name),
        };
        let same_user = match user {
            Some(user) => owner.name.as_deref() == Some(user),
            None => client.credentials.real_user.id == owner.id,
        };
        let named = name.is_none_or(|name| {
            let pid = server.key.tgid.to_string();
            let (number, rest) = name.split_once('.').unwrap_or((name, ""));
            number == pid
                || other.name.is_some_and(|own| own.starts_with(name) || !rest.is_empty() && own.starts_with(rest))
        });
        same_user && named
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{event::User, replay};

    fn process(pid: u32, uid: u32, args: &[&str]) -> Process {
        let program = args.first().copied().unwrap_or_default().to_lowercase();
        let mut process = replay::process(pid, &format!("/usr/bin/{program}"), args);
        process.working_directory = "/home/ops".into();
        Arc::make_mut(&mut process.credentials).real_user = User { id: uid, name: Some(format!("user{uid}").into()) };
        process
    }

    fn found(client: (u32, &[&str]), server: (u32, &[&str])) -> (bool, Option<Wish>) {
        let (client, server) = (process(2, client.0, client.1), process(7, server.0, server.1));
        (reaches(&client, &server), wish(client.executable_name(), &client))
    }

    #[test]
    fn a_client_of_tmux_reaches_the_server_at_its_socket() {
        use Wish::{Attach, Command};
        let server: (u32, &[&str]) = (1000, &["tmux", "new-session", "-d"]);
        for (uid, args, reached, wish) in [
            (1000, &["tmux", "attach"][..], true, Some(Attach)),
            (1000, &["tmux"], true, Some(Attach)),
            (1000, &["tmux", "a", "-t", "x"], true, Some(Attach)),
            (1000, &["tmux", "new", "-A", "-s", "x"], true, Some(Attach)),
            (1000, &["tmux", "new", "-d"], true, Some(Command)),
            (1000, &["tmux", "-u", "send-keys", "id", "Enter"], true, Some(Command)),
            (1000, &["tmux", "ls"], true, None),
            (1001, &["tmux", "attach"], false, Some(Attach)),
            (0, &["tmux", "-S", "/tmp/tmux-1000/default", "attach"], true, Some(Attach)),
            (0, &["tmux", "-2S/tmp/tmux-1000/default", "attach"], true, Some(Attach)),
            (1000, &["tmux", "-L", "other", "attach"], false, Some(Attach)),
            (1000, &["tmux", "-Ldefault", "attach"], true, Some(Attach)),
        ] {
            assert_eq!(found((uid, args), server), (reached, wish), "{args:?}");
        }
        let own: (u32, &[&str]) = (1000, &["tmux", "-S", "sock", "new", "-d"]);
        assert!(found((1001, &["tmux", "-S", "/home/ops/sock", "a"]), own).0);
    }

    #[test]
    fn a_client_of_screen_reaches_its_users_server_by_pid_or_name() {
        use Wish::{Attach, Command};
        let server: (u32, &[&str]) = (1000, &["SCREEN", "-dmS", "work"]);
        for (uid, args, reached, wish) in [
            (1000, &["screen", "-r"][..], true, Some(Attach)),
            (1000, &["screen", "-d", "-r", "work"], true, Some(Attach)),
            (1000, &["screen", "-x", "7.work"], true, Some(Attach)),
            (1000, &["screen", "-x", "8.other"], false, Some(Attach)),
            (1000, &["screen", "-S", "work", "-X", "stuff", "id"], true, Some(Command)),
            (1000, &["screen", "-ls"], true, None),
            (0, &["screen", "-x", "user1000/work"], true, Some(Attach)),
            (0, &["screen", "-x"], false, Some(Attach)),
        ] {
            assert_eq!(found((uid, args), server), (reached, wish), "{args:?}");
        }
    }

    proptest! {
        #[test]
        fn any_arguments_are_borne(args in proptest::collection::vec("[-a-zA-Z0-9./é]{0,12}", 0..8)) {
            for program in ["tmux", "screen"] {
                let args: Vec<&str> = std::iter::once(program).chain(args.iter().map(String::as_str)).collect();
                // Only that it returns.
                let _ = found((1, &args), (1, &args));
            }
        }
    }
}
