//! What the kernel side remembers of each process, inherited through fork without user space.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::ProcessKey;

/// Which kind of program opened a PAM session, told by its service name.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginClass {
    /// None.
    None = 0,
    /// `sshd`.
    Sshd = 1,
    /// `login`, on the console or a serial line.
    Console = 2,
    /// `cron` or `crond`.
    Cron = 3,
    /// `atd`.
    At = 4,
    /// `su`, `sudo`, `runuser` and their like: they change the user within an entry.
    UserChange = 5,
    /// Any other service.
    Other = 6,
}

impl LoginClass {
    /// Those whose sessions make an entry.
    pub const ENTRIES: [Self; 4] = [Self::Sshd, Self::Console, Self::Cron, Self::At];
}

/// How a process tree came to be on this node, as far as the kernel side knows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct EntryMark {
    /// The process that opened the PAM session which this process descends from; none without a login.
    pub login: ProcessKey,
    /// The first process that executed a program under that login.
    pub leader: ProcessKey,
    /// A [`LoginClass`].
    pub class: u32,
    /// 1 for one of the [`SSH_SERVERS`] and what it forks, until that executes something else.
    pub server: u32,
}

/// What the programs of SSH servers are called that may let somebody in without PAM. They say from where in the environment of
/// that person's first program.
pub const SSH_SERVERS: [&str; 6] = ["sshd", "sshd-session", "dropbear", "tinysshd", "teleport", "tailscaled"];

impl EntryMark {
    /// The class of the login, where that makes an entry.
    pub fn entered_by(&self) -> Option<LoginClass> {
        LoginClass::ENTRIES.into_iter().find(|&class| class as u32 == self.class)
    }
}

/// What is known of one process, and its children inherit: the value of the maps `TASKS`, `NEW_TASKS` and `FORKED`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct TaskState {
    /// The process whose exec gave this one its program: itself, or an ancestor.
    pub image: ProcessKey,
    /// Inherited.
    pub entry: EntryMark,
    /// The process's thread group id; 0 in a place of `NEW_TASKS` that is free.
    pub tgid: u32,
    /// 1 if this process's own exec was recorded (or it was there before the agent): its exit is recorded too.
    pub reported: u16,
    /// 1 once it has forked: from then on others may run the program of its image when it has ended.
    pub forked: u16,
}

impl TaskState {
    /// How many places `NEW_TASKS` has: a power of two, and more than are alive at once of those that started last.
    pub const PLACES: u32 = 16_384;

    /// Where in `NEW_TASKS` a process is, unless another one is there.
    pub const fn place(tgid: u32) -> u32 {
        tgid % Self::PLACES
    }
}

/// What a process that runs goes on with: told of those that run another's program, or are under a login.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Inheritance {
    /// [`TaskState::image`].
    pub image: ProcessKey,
    /// [`EntryMark::login`].
    pub login: ProcessKey,
}
