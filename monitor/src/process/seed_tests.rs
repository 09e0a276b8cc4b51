//! The running machine's /proc, and one made by hand.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    process::{Command, Stdio},
};

use super::*;

fn of(seed: &Seed, pid: u32) -> Option<&SeedProcess> {
    seed.processes.iter().find(|process| process.key.tgid == pid)
}

#[test]
fn this_process_is_found_as_it_is() {
    let seed = scan(Path::new("/proc")).expect("/proc is mounted");
    let own = of(&seed, std::process::id()).expect("this process runs");
    let exe = std::env::current_exe().expect("it has a file");
    assert_eq!(own.executable, exe.as_os_str().as_encoded_bytes());
    assert_eq!(own.file.inode, fs::metadata(&exe).expect("the file is there").ino());
    assert!(!own.deleted);
    assert_eq!(own.cwd, std::env::current_dir().expect("it has one").as_os_str().as_encoded_bytes());
    let first = std::env::args_os().next().expect("it was given a name");
    assert_eq!(own.argv.split(|&byte| byte == 0).next(), Some(first.as_encoded_bytes()));
    assert_eq!(own.inner_pid, std::process::id());
    assert_ne!(own.key.start_ns, 0);
    assert_eq!(own.credentials.euid, rustix::process::geteuid().as_raw());
    assert_ne!((own.namespaces.mnt, own.namespaces.pid, own.namespaces.user), (0, 0, 0));
    assert!(own.cgroup.starts_with(b"/"));
    assert!(of(&seed, own.parent).is_some(), "its parent runs");
}

#[test]
fn the_first_processes_are_there_and_kernel_threads_are_not() {
    let seed = scan(Path::new("/proc")).expect("/proc is mounted");
    assert_eq!(of(&seed, 1).expect("init runs").parent, 0);
    assert_eq!(of(&seed, 2).expect("the kernel has it").comm, b"kthreadd");
    for process in seed.processes.iter().filter(|process| process.parent == 2) {
        // What the kernel starts in user space has a program; its threads have none.
        assert!(!process.argv.is_empty(), "{process:?}");
    }
}

#[test]
fn a_process_that_has_ended_is_counted_and_left_out() {
    let mut child = Command::new("true").stdin(Stdio::null()).spawn().expect("it starts");
    // Without this wait it stays a zombie: its parent is this test.
    let stat = format!("/proc/{}/stat", child.id());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !fs::read_to_string(&stat).expect("it is still waited for").contains(") Z ") {
        assert!(std::time::Instant::now() < deadline, "it ends");
        std::thread::yield_now();
    }
    let seed = scan(Path::new("/proc")).expect("/proc is mounted");
    assert!(of(&seed, child.id()).is_none());
    assert!(seed.failures.ended >= 1);
    child.wait().expect("it has ended");
}

/// A process in a /proc made by hand, that of an sshd's child unless changed.
fn process(root: &Path, pid: u32, parent: u32, exe: &str) {
    let dir = root.join(pid.to_string());
    fs::create_dir_all(dir.join("ns")).expect("a directory");
    let stat = format!("{pid} (n) S {parent} {pid} {pid} 0 0 0 1 2 3 4 5 6 7 8 20 0 1 0 77 9");
    fs::write(dir.join("stat"), stat).expect("a file");
    fs::write(dir.join("status"), "").expect("a file");
    fs::write(dir.join("cgroup"), "0::/x\n").expect("a file");
    fs::write(dir.join("cmdline"), "a\0").expect("a file");
    fs::write(dir.join("environ"), "SSH_CONNECTION=192.0.2.7 5 192.0.2.8 22\0").expect("a file");
    symlink(exe, dir.join("exe")).expect("a link");
    symlink("/", dir.join("cwd")).expect("a link");
}

#[test]
fn only_children_of_an_ssh_server_have_a_connection() {
    let root = tempfile::tempdir().expect("a directory");
    process(root.path(), 10, 1, "/usr/sbin/sshd");
    process(root.path(), 11, 10, "/usr/lib/openssh/sshd-session");
    process(root.path(), 12, 11, "/bin/sh");
    process(root.path(), 13, 12, "/bin/ls");
    process(root.path(), 14, 1, "/bin/sh");
    process(root.path(), 15, 1, "/usr/sbin/dropbear");
    process(root.path(), 16, 15, "/bin/sh");
    let seed = scan(root.path()).expect("it is there");
    let with: Vec<_> = seed.processes.iter().filter_map(|p| p.ssh_connection.map(|_| p.key.tgid)).collect();
    assert_eq!(with.iter().copied().collect::<std::collections::BTreeSet<_>>(), [12, 16].into());
    assert_eq!(seed.failures.malformed, 7, "each status was empty");
}

#[test]
fn what_is_missing_or_damaged_costs_one_process_at_most() {
    let root = tempfile::tempdir().expect("a directory");
    for pid in 10..15 {
        process(root.path(), pid, 1, "/bin/sh");
    }
    fs::write(root.path().join("10/stat"), "10 (").expect("a file");
    fs::remove_file(root.path().join("11/status")).expect("it was there");
    fs::remove_dir_all(root.path().join("12")).expect("it was there");
    fs::write(root.path().join("12"), "not a directory").expect("a file");
    fs::write(root.path().join("13/cmdline"), vec![b'a'; ExecBody::ARGV_MAX + 7]).expect("a file");
    fs::create_dir(root.path().join("sys")).expect("a directory");
    let seed = scan(root.path()).expect("it is there");
    let mut pids: Vec<_> = seed.processes.iter().map(|process| process.key.tgid).collect();
    pids.sort_unstable();
    assert_eq!(pids, [13, 14]);
    let long = of(&seed, 13).expect("it is there");
    assert_eq!((long.argv.len(), long.argv_cut), (ExecBody::ARGV_MAX, true));
    let failures = seed.failures;
    assert_eq!((failures.vanished, failures.argv_cut, failures.malformed), (2, 1, 3));
}
