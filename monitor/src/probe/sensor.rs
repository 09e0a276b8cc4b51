//! Sensors: groups of hooks that yield one kind of knowledge, and the ladder that each climbs.

use std::path::{Path, PathBuf};

use aya::{
    Btf, Ebpf,
    programs::{
        BtfTracePoint, Program, ProgramError, RawTracePoint, UProbe,
        uprobe::{UProbeAttachLocation, UProbeScope},
    },
};

use super::{ProbeError, ProbeSettings, kernel, library, stub};

/// One kind of knowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sensor {
    /// Which processes run: exec, fork and exit. Nothing works without it.
    Processes,
    /// Who logs in, and which process belongs to which login.
    Logins,
    /// With which key and from which port a login came.
    LoginDetails,
    /// What people change on the node. Of no kernel program: armed elsewhere.
    Files,
}

/// A sensor after its ladder was climbed.
#[derive(Clone, Debug)]
pub struct Armed {
    /// Which.
    pub sensor: Sensor,
    /// The rung that holds; `Err` says why none does.
    pub rung: Result<&'static str, String>,
}

impl Sensor {
    /// Those of kernel programs, in the order in which they are armed.
    pub const ALL: [Self; 3] = [Self::Processes, Self::Logins, Self::LoginDetails];

    /// The name under which users see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Processes => "processes",
            Self::Logins => "logins",
            Self::LoginDetails => "login-details",
            Self::Files => "files",
        }
    }

    /// What users miss without it.
    pub const fn without(self) -> &'static str {
        match self {
            Self::Processes => "nothing can be watched",
            Self::Logins => "logins are not seen, and processes carry no login",
            Self::LoginDetails => "logins lack method, key fingerprint and port",
            Self::Files => "sessions do not say which files they changed",
        }
    }

    /// Whether an agent without it is not ready. Kernels before 5.9 cannot tell of files, and the rest works there.
    pub const fn is_required(self) -> bool {
        !matches!(self, Self::Files)
    }

    pub(super) fn arm(self, ebpf: &mut Ebpf, types: &Btf, settings: &ProbeSettings) -> Result<Armed, ProbeError> {
        let host_root = &settings.host_root;
        let rung = match self {
            Self::Processes => Ok(arm_processes(ebpf, types, settings.typed_tracepoints)?),
            Self::Logins => attach_library(ebpf, host_root, &[LIBPAM], &PAM),
            Self::LoginDetails => arm_login_details(ebpf, host_root),
            Self::Files => Err("it has no kernel programs".to_owned()),
        };
        Ok(Armed { sensor: self, rung })
    }
}

/// Program, its untyped twin, and the tracepoint of both. Exit before fork before exec: no process is remembered whose end
/// is missed.
const TRACEPOINTS: [(&str, &str, &str); 3] = [
    ("process_exit", "process_exit_untyped", "sched_process_exit"),
    ("process_fork", "process_fork_untyped", "sched_process_fork"),
    ("process_exec", "process_exec_untyped", "sched_process_exec"),
];

/// The library by which login programs let people in.
pub(super) const LIBPAM: &str = "libpam.so.0";

/// Programs by the function of libpam that each is attached to.
const PAM: [(&str, &str); 7] = [
    ("pam_start", "pam_start"),
    ("pam_set_item", "pam_set_item"),
    ("pam_authenticate", "pam_authenticate"),
    ("pam_acct_mgmt", "pam_acct_mgmt"),
    ("pam_open_session_return", "pam_open_session"),
    ("pam_open_session", "pam_open_session"),
    ("pam_close_session", "pam_close_session"),
];

/// sshd, and since OpenSSH 9.8 the programs that do its work, where distributions keep them.
const SSHD: [&str; 8] = [
    "usr/sbin/sshd",
    "usr/local/sbin/sshd",
    "usr/lib/openssh/sshd-session",
    "usr/lib/openssh/sshd-auth",
    "usr/libexec/openssh/sshd-session",
    "usr/libexec/openssh/sshd-auth",
    "usr/lib/ssh/sshd-session",
    "usr/lib/ssh/sshd-auth",
];

/// Programs by the function of libc that each is attached to.
const SYSLOG: [(&str, &str); 2] = [("syslog_fortified", "__syslog_chk"), ("syslog", "syslog")];

/// The ladder: typed tracepoints, whose programs read the kernel with plain loads, then raw ones, whose programs call for
/// each read.
fn arm_processes(ebpf: &mut Ebpf, types: &Btf, typed: bool) -> Result<&'static str, ProbeError> {
    let loaded = (typed && kernel::bears_null()).then(|| load_typed(ebpf, types));
    if let Some(Ok(())) = loaded {
        for (name, _, _) in TRACEPOINTS {
            let failed = |source| ProbeError::Attach { program: name, source };
            program::<BtfTracePoint>(ebpf, name)?.attach().map_err(failed)?;
        }
        return Ok("typed tracepoints");
    }
    if let Some(Err(refusal)) = loaded {
        tracing::info!(%refusal, "this kernel takes no typed tracepoints; raw ones cost more");
    }
    for (_, name, tracepoint) in TRACEPOINTS {
        let failed = |source| ProbeError::Attach { program: name, source };
        let program = program::<RawTracePoint>(ebpf, name)?;
        program.load().map_err(failed)?;
        program.attach(tracepoint).map_err(failed)?;
    }
    Ok("raw tracepoints")
}

fn load_typed(ebpf: &mut Ebpf, types: &Btf) -> Result<(), ProbeError> {
    for (name, _, tracepoint) in TRACEPOINTS {
        let failed = |source| ProbeError::Attach { program: name, source };
        program::<BtfTracePoint>(ebpf, name)?.load(tracepoint, types).map_err(failed)?;
    }
    Ok(())
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, ProbeError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or(ProbeError::Embedded(name))?;
    program.try_into().map_err(|source| ProbeError::Attach { program: name, source })
}

/// The ladder: sshd's own calls, then those of everybody.
fn arm_login_details(ebpf: &mut Ebpf, host_root: &Path) -> Result<&'static str, String> {
    let programs: Vec<PathBuf> = login_files(host_root).filter(|path| path.is_file()).collect();
    if programs.is_empty() {
        // Somebody may bring one later: the agent then starts anew.
        return Ok("no sshd to watch");
    }
    for program in &programs {
        if let Err(reason) = attach_stubs(ebpf, program) {
            tracing::info!(reason, "every process's calls of syslog are watched: that slows forks");
            return attach_library(ebpf, host_root, &["libc.so.6"], &SYSLOG).map(|_| "uprobes in libc");
        }
    }
    Ok("uprobes")
}

/// Where the programs may be whose own calls are watched.
pub(super) fn login_files(host_root: &Path) -> impl Iterator<Item = PathBuf> {
    SSHD.iter().map(|path| host_root.join(path))
}

/// See [`super::Probe::watch_login_programs`].
pub(super) fn watch_login_programs<'a>(ebpf: &mut Ebpf, programs: impl Iterator<Item = &'a Path>) -> Vec<String> {
    let elsewhere = |path: &&Path| !SSHD.iter().any(|usual| path.ends_with(usual));
    programs.filter(elsewhere).filter_map(|program| attach_stubs(ebpf, program).err()).collect()
}

/// Attaches to each call of a program that logs.
fn attach_stubs(ebpf: &mut Ebpf, path: &Path) -> Result<(), String> {
    let mut any = false;
    for (name, function) in SYSLOG {
        let offsets = stub::find(path, function).map_err(|error| format!("{} {error}", path.display()))?;
        for offset in offsets {
            any = true;
            attach_uprobe(ebpf, name, UProbeAttachLocation::AbsoluteOffset(offset), path).map_err(|error| {
                format!("cannot attach {name} at {offset:#x} of {}: {}", path.display(), chain(&error))
            })?;
        }
    }
    if any { Ok(()) } else { Err(format!("{} has no stub for syslog", path.display())) }
}

pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let errors = std::iter::successors(Some(error), |error| error.source());
    errors.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn attach_library(
    ebpf: &mut Ebpf,
    host_root: &Path,
    sonames: &[&str],
    programs: &[(&'static str, &str)],
) -> Result<&'static str, String> {
    let library = library::find(host_root, sonames)
        .ok_or_else(|| format!("the node has no {} below {}", sonames.join(" or "), host_root.display()))?;
    for &(name, function) in programs {
        attach_uprobe(ebpf, name, function.into(), &library).map_err(|error| {
            format!("cannot attach {name} to {function} of {}: {}", library.display(), chain(&error))
        })?;
    }
    Ok("uprobes")
}

fn attach_uprobe(
    ebpf: &mut Ebpf,
    name: &'static str,
    location: UProbeAttachLocation<'_>,
    path: &Path,
) -> Result<(), UprobeError> {
    let program = ebpf.program_mut(name).ok_or(UprobeError::Embedded)?;
    let program: &mut UProbe = program.try_into()?;
    match program.load() {
        // At more than one place.
        Ok(()) | Err(ProgramError::AlreadyLoaded) => {}
        Err(error) => return Err(error.into()),
    }
    program.attach(location, path, UProbeScope::AllProcesses)?;
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum UprobeError {
    #[error("the embedded eBPF object lacks it")]
    Embedded,
    #[error(transparent)]
    Program(#[from] ProgramError),
}
