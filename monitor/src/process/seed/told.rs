//! What ran before the agent as the kernel side tells it: all but the arguments, which stand in each process's own memory and
//! are read from /proc. A tenth of what it takes to read everything there.

use std::{fs::File, io, os::fd::AsFd as _, path::Path};

use postern_ebpf::abi::ExecFlags;

use super::{Scan, Seed, SeedProcess, shared_out};
use crate::{
    process::to_tick,
    record::{self, Exec, until_zero},
};

/// Takes exec records without arguments, one behind the other at multiples of eight bytes, and completes them from `proc_root`.
/// The error is that of opening it.
pub fn told(records: &[u8], proc_root: &Path) -> io::Result<Seed> {
    let root = File::open(proc_root)?;
    let (mut processes, failures) = processes(records);
    let mut whole = shared_out(&mut processes, |scan, processes| {
        for process in processes {
            scan.told(root.as_fd(), process);
        }
    });
    let (sum, more) = (&mut whole.seed.failures, failures);
    sum.malformed += more.malformed;
    sum.path_cut += more.path_cut;
    whole.add_connections(root.as_fd());
    Ok(whole.seed)
}

impl Scan {
    /// Adds a process with its arguments, unless it has gone.
    fn told(&mut self, root: std::os::fd::BorrowedFd<'_>, process: &mut SeedProcess) {
        let mut process = std::mem::take(process);
        // What the kernel itself runs has none.
        let has_program = !process.executable.is_empty();
        if has_program && self.arguments(root, &format!("{}/cmdline", process.key.tgid), &mut process).is_err() {
            self.seed.failures.vanished += 1;
        } else {
            self.seed.processes.push(process);
        }
    }
}

/// The processes of the records, and what was wrong with them.
fn processes(records: &[u8]) -> (Vec<SeedProcess>, super::SeedFailures) {
    let mut failures = super::SeedFailures::default();
    let mut processes = Vec::new();
    failures.malformed = record::decode_execs(records, |exec| {
        failures.path_cut += u64::from(exec.body.flags & ExecFlags::PATH_CUT != 0);
        processes.push(process(exec));
    });
    (processes, failures)
}

fn process(exec: &Exec<'_>) -> SeedProcess {
    let body = exec.body;
    // The kernel itself runs no file, and is nowhere.
    let has_program = body.file.inode != 0;
    let [executable, cwd] =
        if has_program { [exec.executable.path(), exec.cwd.path()] } else { [const { Vec::new() }; 2] };
    SeedProcess {
        key: to_tick(body.process),
        parent: body.parent.tgid,
        group: body.group_leader.tgid,
        session: body.session_leader.tgid,
        tty: body.tty,
        comm: until_zero(&body.comm).to_vec(),
        deleted: has_program && body.file.links == 0,
        file: body.file,
        cwd,
        credentials: body.credentials,
        namespaces: body.namespaces,
        inner_pid: body.inner_pid,
        cgroup: exec.cgroup.path(),
        executable,
        ..SeedProcess::default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::replay::{self, Written};

    fn records() -> Vec<u8> {
        let mut all = Vec::new();
        for pid in [std::process::id(), 4_000_001] {
            let exec = replay::Exec { pid, previous: 0, path: "/bin/sh", args: &[], cgroup: "/a.slice/b" };
            all.extend_from_slice(Written::exec(0, exec, |body| body.file.inode = 7).bytes());
            all.resize(all.len().next_multiple_of(8), 0);
        }
        all
    }

    #[test]
    fn what_is_told_is_completed_and_what_has_gone_is_left_out() {
        let seed = told(&records(), Path::new("/proc")).expect("it is mounted");
        let [own] = &seed.processes[..] else { panic!("{:?}", seed.processes) };
        assert_eq!(
            (own.key.tgid, &own.executable[..], &own.cgroup[..]),
            (std::process::id(), &b"/bin/sh"[..], &b"/a.slice/b"[..])
        );
        let first = std::env::args_os().next().expect("it was given a name");
        assert_eq!(own.argv.split(|&byte| byte == 0).next(), Some(first.as_encoded_bytes()));
        assert_eq!((seed.failures.vanished, seed.failures.malformed), (1, 0));
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_are_it_ends(at in 0usize..2_000, with in proptest::collection::vec(any::<u8>(), 0..40), cut in 0usize..2_000) {
            let mut bytes = records();
            for (byte, with) in bytes.iter_mut().skip(at).zip(with) {
                *byte = with;
            }
            bytes.truncate(cut);
            let (found, failures) = processes(&bytes);
            prop_assert!(found.len() as u64 + failures.malformed <= bytes.len() as u64);
        }
    }
}
