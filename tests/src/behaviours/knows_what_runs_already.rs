//! What ran before the agent, by both rungs: told by the kernel side, and read from /proc.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use postern::{
    probe::{Probe, ProbeSettings, Types},
    process::seed::{self, Seed, SeedProcess},
};

use super::Behaviour;
use crate::harness::program::until;

pub(super) const BEHAVIOURS: &[Behaviour] = &[Behaviour {
    name: "what runs already is told by the kernel side as /proc tells it",
    unavailable: super::no_kernel,
    run: both,
}];

const DEADLINE: Duration = Duration::from_secs(10);

/// Ended when dropped.
struct Sleeping(Child);

impl Sleeping {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it starts"))
    }

    /// Waits until it runs what it is to run in the end.
    fn sleeps(self, program: &str) -> Self {
        let name = format!("/proc/{}/comm", self.0.id());
        let runs_it = || (fs::read_to_string(&name).ok()?.trim() == program).then_some(());
        until("it sleeps", DEADLINE, runs_it);
        self
    }
}

impl Drop for Sleeping {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn both() {
    let folder = tempfile::tempdir().expect("a folder");
    let deleted = folder.path().join("deleted");
    fs::copy("/bin/sleep", &deleted).expect("sleep is there");
    let sleeping = [
        Sleeping::start(Command::new("/bin/sleep").arg("1000").current_dir("/usr/lib")).sleeps("sleep"),
        Sleeping::start(Command::new(&deleted).arg("1000")).sleeps("deleted"),
        Sleeping::start(Command::new("unshare").args(["--uts", "--ipc", "--net", "--cgroup", "sleep", "1000"]))
            .sleeps("sleep"),
        Sleeping::start(Command::new("setpriv").args([
            "--no-new-privs",
            "--reuid=65534",
            "--clear-groups",
            "sleep",
            "1000",
        ]))
        .sleeps("sleep"),
    ];
    fs::remove_file(&deleted).expect("it is ours");

    let settings = ProbeSettings { ring_bytes: 64 << 10, typed_tracepoints: true, host_root: "/".into() };
    let types = Types::read().expect("the kernel has them");
    let mut probe = Probe::load(&settings, &types).expect("the kernel takes it");
    probe.watch_tasks(&types).expect("the kernel tells");
    let records = probe.running().expect("read");
    let told = seed::told(&records, Path::new("/proc")).expect("/proc is mounted");
    let read = seed::scan(Path::new("/proc")).expect("/proc is mounted");
    assert_eq!((told.failures.malformed, told.failures.path_cut), (0, 0));

    let [told, read] = [told, read].map(by_key);
    for Sleeping(child) in &sleeping {
        assert!(told.keys().any(|(pid, _)| *pid == child.id()), "{child:?} is told");
    }
    // Others may come and go between the two.
    let mut compared = 0;
    let own_mounts =
        read.values().find(|process| process.key.tgid == std::process::id()).expect("it runs").namespaces.mnt;
    for (key, process) in read.iter().filter(|(_, process)| process.namespaces.mnt == own_mounts) {
        if let Some(told) = told.get(key) {
            assert_eq!(told, process, "as told, and as read");
            compared += 1;
        }
    }
    assert!(compared > sleeping.len() + 2, "only {compared} are in both");
}

fn by_key(seed: Seed) -> BTreeMap<(u32, u64), SeedProcess> {
    seed.processes.into_iter().map(|process| ((process.key.tgid, process.key.start_ns), process)).collect()
}
