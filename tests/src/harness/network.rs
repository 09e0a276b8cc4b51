//! A network of its own, where stand-ins for the services of a cloud listen, and nothing else answers.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    net::TcpListener,
    os::fd::AsFd,
    process::{Child, Command, Stdio},
    thread,
};

use rustix::{
    process::Pid,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// What it needs of the machine.
pub(super) const PROGRAMS: [&str; 3] = ["/usr/bin/unshare", "/usr/bin/nsenter", "/usr/sbin/ip"];

/// A network namespace, and one for mounts, until it is dropped.
pub(super) struct Network {
    holder: Child,
}

impl Network {
    /// Sets it up by these lines of a shell, none of which may fail.
    pub(super) fn new(set_up: &str) -> Self {
        let script = format!("set -e\nip link set lo up\n{set_up}\necho up\nexec cat");
        let mut holder = Command::new("/usr/bin/unshare");
        holder.args(["--net", "--mount", "sh", "-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = holder.spawn().expect("unshare starts");
        let mut up = String::new();
        BufReader::new(holder.stdout.take().expect("it is piped")).read_line(&mut up).expect("it says so");
        assert_eq!(up, "up\n", "{set_up}");
        Self { holder }
    }

    /// Listens there.
    pub(super) fn listen(&self, address: &'static str) -> TcpListener {
        let own = File::open(format!("/proc/{}/ns/net", self.holder.id())).expect("it runs");
        let listening = thread::spawn(move || {
            // Of this thread alone.
            move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Network)).expect("it may");
            TcpListener::bind(address).expect("nobody else is there")
        });
        listening.join().expect("it listens")
    }

    /// A program that is to run there, as the machine's root, with no input and no output.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("/usr/bin/nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--net", "--mount", program]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// The processes that are there, but for the one that holds it.
    pub(super) fn processes(&self) -> Vec<Pid> {
        let holder = Pid::from_child(&self.holder);
        let network = |process: Pid| fs::read_link(format!("/proc/{process}/ns/net")).ok();
        let Some(own) = network(holder) else { return Vec::new() };
        let running = fs::read_dir("/proc").expect("it is mounted");
        let running = running.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        running.filter_map(Pid::from_raw).filter(|pid| *pid != holder && network(*pid).as_ref() == Some(&own)).collect()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.holder.kill().and_then(|()| self.holder.wait());
    }
}
