//! The capabilities that the agent needs: which are missing, said before anything fails for want of them, and which are
//! given up once the kernel programs are attached.

use std::{
    fmt, io,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    thread::{CapabilitySet, CapabilitySets},
};

/// A capability that `postern run` needs, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Its name (capabilities(7)).
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    capability: CapabilitySet,
    /// Any of these does as well.
    instead: CapabilitySet,
}

const REQUIREMENTS: [Requirement; 4] = [
    Requirement {
        name: "CAP_BPF",
        purpose: "to load the kernel programs and their maps",
        capability: CapabilitySet::BPF,
        instead: CapabilitySet::SYS_ADMIN,
    },
    Requirement {
        name: "CAP_PERFMON",
        purpose: "to attach them, and to let them read what they trace",
        capability: CapabilitySet::PERFMON,
        instead: CapabilitySet::SYS_ADMIN,
    },
    Requirement {
        name: "CAP_SYS_PTRACE",
        purpose: "to read the processes and the root of the node in /proc",
        capability: CapabilitySet::SYS_PTRACE,
        instead: CapabilitySet::empty(),
    },
    Requirement {
        name: "CAP_DAC_READ_SEARCH",
        purpose: "to find the node's programs and libraries whatever their folders' modes",
        capability: CapabilitySet::DAC_READ_SEARCH,
        instead: CapabilitySet::DAC_OVERRIDE,
    },
];

/// Since the repair of CVE-2025-38466 (Linux commit ba677dbe77af: in 6.16, and in 5.10.240, 5.15.189, 6.1.146, 6.6.99,
/// 6.12.39 and later ones of each), `perf_event_open(2)` wants `CAP_SYS_ADMIN` for uprobes. Older kernels take
/// `CAP_PERFMON`, and a release does not tell which of the two a distribution's kernel is; so its absence is no error
/// until attaching fails.
const FOR_LOGINS: Requirement = Requirement {
    name: "CAP_SYS_ADMIN",
    purpose: "to see logins, for kernels since mid 2025 want it before they attach to libpam, and which files people change",
    capability: CapabilitySet::SYS_ADMIN,
    instead: CapabilitySet::empty(),
};

/// What stays after attaching. /proc is read for as long as the agent runs. The hooks' counters are read with `bpf(2)`,
/// which asked for `CAP_BPF` whatever the command until Linux 5.19, where `kernel.unprivileged_bpf_disabled` is set;
/// without `CAP_PERFMON` it traces nothing.
const KEPT: CapabilitySet = CapabilitySet::SYS_PTRACE.union(CapabilitySet::DAC_READ_SEARCH).union(CapabilitySet::BPF);

/// Needed, and kept, by an agent that is to end sessions (`access.on_violation: terminate`).
const FOR_TERMINATING: Requirement = Requirement {
    name: "CAP_KILL",
    purpose: "to end sessions that no access rule allows, as access.on_violation asks",
    capability: CapabilitySet::KILL,
    instead: CapabilitySet::empty(),
};

/// Capabilities that are missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Missing(
    /// Each of them; not empty.
    pub Vec<Requirement>,
);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("missing privileges: ")?;
        for (index, Requirement { name, purpose, .. }) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{name} ({purpose})")?;
        }
        f.write_str("; run as root, or grant them")
    }
}

/// How long threads that have ended may take to be gone.
const THREADS_GONE: Duration = Duration::from_secs(1);

/// Why [`check`] failed.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// Capabilities are missing.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// They cannot be read, or not be given up.
    #[error("capabilities cannot be {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Capabilities belong to threads, and only this thread's can be given up.
    #[error("capabilities can only be given up while there is one thread, and there are {0}")]
    Threads(usize),
}

/// Fails where this thread lacks a capability that `postern run` needs, and names each. `terminates` is whether it is to end
/// sessions.
pub fn check(terminates: bool) -> Result<(), PrivilegeError> {
    let sets = rustix::thread::capabilities(None).map_err(system("read"))?;
    let mut missing = missing(sets.effective);
    missing.extend(Some(FOR_TERMINATING).filter(|it| terminates && !sets.effective.contains(it.capability)));
    if missing.is_empty() { Ok(()) } else { Err(Missing(missing).into()) }
}

/// The capability that most kernels want for the login sensors, where this thread lacks it. Without it, what attaching
/// says decides; where that is refused, this is why.
pub fn lacking_for_logins() -> Result<Option<Requirement>, PrivilegeError> {
    let sets = rustix::thread::capabilities(None).map_err(system("read"))?;
    Ok((!sets.effective.contains(FOR_LOGINS.capability)).then_some(FOR_LOGINS))
}

/// What the process that marks file systems keeps (`files/marker.rs`): `fanotify_mark(2)` asks for the one each time, and
/// directories of others may be closed without the other.
const FOR_MARKING: CapabilitySet = CapabilitySet::SYS_ADMIN.union(CapabilitySet::DAC_READ_SEARCH);

/// Gives up all but what marking file systems takes, as in [`drop_after_attach`].
pub fn keep_for_marking() -> Result<Dropped, PrivilegeError> {
    restrict_this_thread(FOR_MARKING)
}

fn missing(effective: CapabilitySet) -> Vec<Requirement> {
    let lacks = |needed: &Requirement| !effective.intersects(needed.capability | needed.instead);
    REQUIREMENTS.into_iter().filter(lacks).collect()
}

/// What [`drop_after_attach`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// What is left, effective and permitted.
    pub kept: CapabilitySet,
    /// Whether the bounding set was cut too. That takes `CAP_SETPCAP`, which a container seldom has; without it a program
    /// that the agent executed is still held by `no_new_privs`.
    pub bounding: bool,
}

/// Gives up every capability but those that reading /proc and the counters takes, for good, and sets `no_new_privs`.
///
/// Linux keeps capabilities by thread and lets no thread change another's (capset(2)); threads inherit those of the one
/// that starts them. So this is to be called on the main thread, when everything is attached and before the first other
/// thread is started: no runtime with workers, no [`crate::admin::Admin`]. It fails where there are other threads
/// already, since they would keep everything.
///
/// An agent that ends sessions keeps `CAP_KILL` as well.
pub fn drop_after_attach(terminates: bool) -> Result<Dropped, PrivilegeError> {
    // A thread that was waited for is gone from this list a moment later.
    let until = Instant::now() + THREADS_GONE;
    loop {
        let threads = std::fs::read_dir("/proc/self/task")
            .map_err(|source| PrivilegeError::System { what: "given up, for the threads cannot be counted", source })?
            .count();
        if threads == 1 {
            break;
        }
        if Instant::now() >= until {
            return Err(PrivilegeError::Threads(threads));
        }
        std::thread::yield_now();
    }
    restrict_this_thread(if terminates { KEPT | FOR_TERMINATING.capability } else { KEPT })
}

fn restrict_this_thread(keep: CapabilitySet) -> Result<Dropped, PrivilegeError> {
    let sets = rustix::thread::capabilities(None).map_err(system("read"))?;
    // Where `CAP_SYS_ADMIN` was granted in place of `CAP_BPF`, it goes nonetheless: before Linux 5.19 the counters are
    // then out of reach, and reading them says so.
    let kept = sets.permitted & keep;
    let bounding = cut_bounding_set(keep)?;
    // The order matters: the ambient set could not grow afterwards anyway, the bounding set needs what goes next.
    rustix::thread::clear_ambient_capability_set().map_err(system("given up"))?;
    let left = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, left).map_err(system("given up"))?;
    rustix::thread::set_no_new_privs(true).map_err(system("given up"))?;
    Ok(Dropped { kept, bounding })
}

/// Cuts the bounding set to `keep`, where that is allowed.
fn cut_bounding_set(keep: CapabilitySet) -> Result<bool, PrivilegeError> {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match rustix::thread::capability_is_in_bounding_set(capability) {
            // Beyond the last capability that this kernel knows.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(system("read")(error)),
            Ok(false) => {}
            Ok(true) if keep.contains(capability) => {}
            Ok(true) => match rustix::thread::remove_capability_from_bounding_set(capability) {
                Ok(()) => {}
                Err(Errno::PERM) => return Ok(false),
                Err(error) => return Err(system("given up")(error)),
            },
        }
    }
    Ok(true)
}

fn system(what: &'static str) -> impl Fn(Errno) -> PrivilegeError {
    move |errno| PrivilegeError::System { what, source: errno.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_capability_is_named_with_its_purpose() {
        let names = |set| missing(set).iter().map(|needed| needed.name).collect::<Vec<_>>();
        assert_eq!(names(CapabilitySet::all()), [""; 0]);
        assert_eq!(names(CapabilitySet::BPF | CapabilitySet::SYS_PTRACE), ["CAP_PERFMON", "CAP_DAC_READ_SEARCH"]);
        assert_eq!(names(CapabilitySet::SYS_ADMIN), ["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]);
        assert_eq!(names(CapabilitySet::empty()).len(), 4);
        let shown =
            Missing(missing(CapabilitySet::all() - CapabilitySet::PERFMON - CapabilitySet::SYS_ADMIN)).to_string();
        assert!(shown.starts_with("missing privileges: CAP_PERFMON (to attach"), "{shown}");
    }

    /// On a thread of its own, since what it gives up does not come back.
    #[test]
    fn what_is_given_up_is_gone_for_good() {
        let thread = std::thread::spawn(|| {
            let before = rustix::thread::capabilities(None).expect("capabilities");
            let dropped = restrict_this_thread(KEPT).expect("dropped");
            let after = rustix::thread::capabilities(None).expect("capabilities");
            assert_eq!(dropped.kept, before.permitted & KEPT);
            assert_eq!((after.effective, after.permitted), (dropped.kept, dropped.kept));
            assert!(after.inheritable.is_empty());
            assert!(rustix::thread::no_new_privs().expect("a flag"));
            assert!(rustix::thread::set_capabilities(None, before).is_err() || before.permitted == dropped.kept);
            let bound = rustix::thread::capability_is_in_bounding_set(CapabilitySet::NET_RAW).expect("a flag");
            assert!(!(dropped.bounding && bound));
            assert_eq!(lacking_for_logins().expect("capabilities"), Some(FOR_LOGINS));
            // A thread started now has no more.
            let child = std::thread::spawn(|| rustix::thread::capabilities(None).expect("capabilities").permitted);
            assert_eq!(child.join().expect("a thread"), dropped.kept);
        });
        thread.join().expect("the thread's assertions hold");
    }

    #[test]
    fn nothing_is_given_up_while_other_threads_would_keep_it() {
        let before = rustix::thread::capabilities(None).expect("capabilities");
        // The test harness itself is the other thread.
        assert!(matches!(drop_after_attach(false), Err(PrivilegeError::Threads(_))));
        assert_eq!(rustix::thread::capabilities(None).expect("capabilities"), before);
    }
}
