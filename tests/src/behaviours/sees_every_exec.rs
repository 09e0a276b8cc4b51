//! Every process execution on the machine, with all that DESIGN asks of it, whatever its arguments are.

use std::{
    fs,
    os::unix::{ffi::OsStringExt as _, fs::PermissionsExt as _, process::CommandExt as _},
    process::{Command, Stdio},
    time::Duration,
};

use postern_ebpf::abi::TaskState;
use serde_json::Value;

use super::{Behaviour, no_kernel};
use crate::harness::{
    agent::{Agent, DEADLINE, is_exec_of, tells_of, text, texts},
    program::{self, until},
};

pub(super) const BEHAVIOURS: &[Behaviour] = &[
    Behaviour { name: "an exec says who ran what, where and under whom", unavailable: no_kernel, run: whole_exec },
    Behaviour { name: "typed and raw tracepoints tell the same", unavailable: no_kernel, run: both_rungs },
    Behaviour { name: "a process's end has its exit code or signal", unavailable: no_kernel, run: ends },
    Behaviour { name: "a subshell's children have the shell as their parent", unavailable: no_kernel, run: subshell },
    Behaviour {
        name: "two subshells that share a place on the kernel side are told apart",
        unavailable: no_kernel,
        run: shared_place,
    },
    Behaviour {
        name: "processes older than the agent are known as parents",
        unavailable: no_kernel,
        run: older_parent,
    },
    Behaviour { name: "hostile arguments are escaped and whole", unavailable: no_kernel, run: hostile_arguments },
    Behaviour { name: "two megabytes of arguments are cut and say so", unavailable: no_kernel, run: long_arguments },
    Behaviour { name: "an executable path of 4,095 bytes is whole", unavailable: no_kernel, run: long_path },
    Behaviour { name: "a script is told from its interpreter", unavailable: no_kernel, run: script },
    Behaviour { name: "a program from memory is an alert", unavailable: no_kernel, run: memory },
    Behaviour { name: "thousands of execs are all seen", unavailable: no_kernel, run: storm },
];

fn whole_exec() {
    let mut agent = Agent::start();
    // In a session of its own, so that its leaders live.
    let mut child = Command::new("/usr/bin/setsid")
        .args(["/bin/true", "whole-exec"])
        .current_dir("/usr/lib")
        .spawn()
        .expect("setsid");
    let pid = child.id();
    child.wait().expect("it ends");
    let event =
        agent.wait_for("the exec", |event| is_exec_of(event, "whole-exec") && text(event, "/process/name") == "true");
    assert_eq!(event["process"]["pid"], pid);
    assert_eq!(texts(&event, "/process/args"), ["/bin/true", "whole-exec"]);
    assert_eq!(
        text(&event, "/process/executable"),
        fs::canonicalize("/bin/true").expect("true").to_str().expect("text")
    );
    assert_eq!(text(&event, "/process/working_directory"), "/usr/lib");
    assert_eq!(text(&event, "/process/user/id"), "0");
    assert_eq!(text(&event, "/process/user/name"), "root");
    assert_eq!(event["process"]["parent"]["pid"], std::process::id());
    assert_eq!(event["postern"]["process"]["all_capabilities"], true, "this test runs as the node's root");
    for leader in ["parent", "group_leader", "session_leader", "entry_leader"] {
        assert_eq!(text(&event, &format!("/process/{leader}/entity_id")).len(), 32, "{leader} in {event}");
    }
    agent.stop();
}

/// Two agents side by side, each on a rung of its own. From a directory on another mount, so that paths cross one.
fn both_rungs() {
    let mut agents = [Agent::start(), Agent::start_with("probe: {tracepoints: raw}")];
    let mut child = Command::new("/usr/bin/setsid")
        .args(["/usr/bin/unshare", "--pid", "--fork", "/bin/true", "both-rungs"])
        .current_dir("/proc/self")
        .spawn()
        .expect("setsid");
    child.wait().expect("it ends");
    let [typed, raw] = agents.each_mut().map(|agent| {
        let is_it = |event: &Value| is_exec_of(event, "both-rungs") && text(event, "/process/name") == "true";
        let mut event = agent.wait_for("the exec", is_it);
        // Each agent reads the clocks for itself, and so differs in when the boot was by a few microseconds.
        let processes = ["", "/parent", "/group_leader", "/session_leader", "/entry_leader"];
        for process in processes.map(|it| format!("/process{it}")) {
            event.pointer_mut(&process).and_then(Value::as_object_mut).expect("a process").remove("start");
        }
        // Whether the end joined the execution is a matter of when each looked.
        for of_end in ["end", "exit_code"] {
            event["process"].as_object_mut().expect("a process").remove(of_end);
        }
        event
    });
    for part in ["process", "user", "container"] {
        assert_eq!(typed[part], raw[part], "{part}");
    }
    assert_eq!(typed["process"]["vpid"], 1);
    assert_eq!(typed["postern"]["process"], raw["postern"]["process"]);
    for (agent, rung) in agents.into_iter().zip(["typed", "raw"]) {
        let started = agent.stop().events.swap_remove(0);
        assert_eq!(texts(&started, "/postern/sensors")[0], format!("processes: {rung} tracepoints"));
    }
}

fn ends() {
    let mut agent = Agent::start();
    let ended = |agent: &mut Agent, script: &str| {
        let mut child = Command::new("/bin/sh").args(["-c", script]).spawn().expect("a shell");
        let pid = child.id();
        child.wait().expect("the shell ends");
        let end = agent.wait_for("the end", |event| tells_of(event, "end") && event["process"]["pid"] == pid);
        end["process"]["exit_code"].as_i64().expect("an exit code")
    };
    assert_eq!(ended(&mut agent, "exit 7"), 7);
    assert_eq!(ended(&mut agent, "kill -9 $$"), 128 + 9);
    agent.stop();
}

fn subshell() {
    let mut agent = Agent::start();
    program::run(Command::new("/bin/sh").args(["-c", "(/bin/true in-a-subshell; :); :"]), b"", Duration::from_secs(5))
        .succeeded();
    let event = agent
        .wait_for("the exec", |event| is_exec_of(event, "in-a-subshell") && text(event, "/process/name") == "true");
    assert_eq!(text(&event, "/process/parent/name"), "dash");
    assert_eq!(texts(&event, "/process/parent/args")[..2], ["/bin/sh", "-c"]);
    assert_ne!(event["process"]["parent"]["pid"], std::process::id());
    agent.stop();
}

fn shared_place() {
    let mut agent = Agent::start();
    // Somebody else may have the number, or take it a moment before.
    let (mut first, input) = until("two with one place", DEADLINE, || {
        let mut first = Command::new("/bin/sh")
            .args(["-c", "(read line; /bin/true of-the-first; :); :", "the-first"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell");
        let input = first.stdin.take();
        let children = format!("/proc/{0}/task/{0}/children", first.id());
        let read = || fs::read_to_string(&children).ok()?.trim().parse().ok();
        let number: u32 = until("its subshell", DEADLINE, read);
        let places = TaskState::PLACES;
        let other = if number > places { number - places } else { number + places };
        let script = format!(
            "echo {} > /proc/sys/kernel/ns_last_pid; (read own rest < /proc/self/stat; /bin/true beside-{number} $own; :); :",
            other - 1
        );
        assert!(Command::new("/bin/sh").args(["-c", &script, "the-second"]).status().expect("a shell").success());
        let told = agent.wait_for("the exec", |event| is_exec_of(event, &format!("beside-{number}")) && is_true(event));
        assert_eq!(texts(&told, "/process/parent/args")[3], "the-second");
        if texts(&told, "/process/args")[2] == other.to_string() {
            return Some((first, input));
        }
        drop(input);
        first.wait().expect("the shell ends");
        None
    });
    drop(input);
    first.wait().expect("the shell ends");
    let told = agent.wait_for("the exec", |event| is_exec_of(event, "of-the-first") && is_true(event));
    assert_eq!(texts(&told, "/process/parent/args")[3], "the-first");
    agent.stop();
}

/// Whether the process is `/bin/true`, and not a shell that is about to run it.
fn is_true(event: &Value) -> bool {
    text(event, "/process/name") == "true"
}

fn older_parent() {
    let mut shell = Command::new("/bin/sh")
        .args(["-c", "read line; /bin/true child-of-an-older-process; :", "an-older-process"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut agent = Agent::start();
    drop(shell.stdin.take());
    shell.wait().expect("the shell ends");
    let event = agent.wait_for("the exec", |event| is_exec_of(event, "child-of-an-older-process"));
    assert!(texts(&event, "/process/parent/args").contains(&"an-older-process"), "{event}");
    let pid = shell.id();
    let end = agent.wait_for("the shell's end", |event| tells_of(event, "end") && event["process"]["pid"] == pid);
    assert_eq!(text(&end, "/process/entity_id"), text(&event, "/process/parent/entity_id"));
    agent.stop();
}

fn hostile_arguments() {
    let mut agent = Agent::start();
    let hostile = b"x\x1b[31m\n\r\x07\"\\\xff\xfe\xc2\x9b\x7f'y".to_vec();
    let mut command = Command::new("/bin/true");
    command.arg("hostile-arguments").arg(std::ffi::OsString::from_vec(hostile)).arg("").arg("last");
    command.status().expect("true");
    let event = agent.wait_for("the exec", |event| is_exec_of(event, "hostile-arguments"));
    let args = texts(&event, "/process/args");
    assert_eq!(args[2], "x\u{1b}[31m\n\r\u{7}\"\\\\xff\\xfe\u{9b}\u{7f}'y");
    assert_eq!(args[3..], ["", "last"]);
    assert_eq!(event["process"]["args_count"], 5);
    agent.stop();
}

fn long_arguments() {
    let mut agent = Agent::start();
    // One string may have at most 128 KiB (MAX_ARG_STRLEN).
    let argument = "a".repeat(100_000);
    let status = Command::new("/bin/true").arg("two-megabytes").args(vec![argument; 20]).status();
    assert!(status.expect("true").success());
    let event = agent.wait_for("the exec", |event| is_exec_of(event, "two-megabytes"));
    let kept: usize = texts(&event, "/process/args").iter().map(|arg| arg.len() + 1).sum();
    // The last one was cut, and so has no end.
    assert_eq!(kept, 128 * 1024 + 1);
    assert_eq!(event["postern"]["process"]["args_cut"], true);
    agent.stop();
}

fn long_path() {
    let mut agent = Agent::start();
    let root = tempfile::TempDir::new().expect("a folder");
    let mut path = root.path().to_path_buf();
    while path.as_os_str().len() + 1 + 200 < 4_000 {
        path.push("d".repeat(200));
    }
    // Deeper than a path may be named at once: step by step.
    fs::create_dir_all(&path).expect("folders");
    let name = "p".repeat(4_095 - path.as_os_str().len() - 1);
    let program = path.join(&name[..name.len().min(255)]);
    fs::copy("/bin/true", &program).expect("a copy");
    Command::new(&program).arg("long-path").status().expect("it runs");
    let event = agent.wait_for("the exec", |event| is_exec_of(event, "long-path"));
    assert_eq!(text(&event, "/process/executable"), program.to_str().expect("text"));
    assert!(program.as_os_str().len() >= 4_000, "{}", program.as_os_str().len());
    agent.stop();
}

fn script() {
    let mut agent = Agent::start();
    let root = tempfile::TempDir::new().expect("a folder");
    let script = root.path().join("script.sh");
    fs::write(&script, "#!/bin/sh\nexit 0\n").expect("a script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a mode");
    Command::new(&script).arg("script-argument").status().expect("it runs");
    let event = agent.wait_for("the exec", |event| is_exec_of(event, "script-argument"));
    assert_eq!(text(&event, "/process/name"), "dash");
    assert_eq!(text(&event, "/postern/process/script"), script.to_str().expect("text"));
    agent.stop();
}

fn memory() {
    let mut agent = Agent::start();
    let fd = rustix::fs::memfd_create("harmless", rustix::fs::MemfdFlags::empty()).expect("a memfd");
    let bytes = fs::read("/bin/true").expect("a program");
    rustix::io::write(&fd, &bytes).expect("written");
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
    Command::new(path).arg0("innocent").arg("from-memory").status().expect("it runs");
    let alert = agent.wait_for("the alert", |event| {
        text(event, "/event/kind") == "alert" && texts(event, "/process/args").contains(&"from-memory")
    });
    assert_eq!(text(&alert, "/rule/id"), "postern-memory-exec");
    assert_eq!(text(&alert, "/postern/process/in_memory"), "program");
    assert_eq!(texts(&alert, "/threat/technique/id"), ["T1620"]);
    let stopped = agent.stop();
    let alerts = stopped.events.iter().filter(|event| is_alert_of(event, "from-memory")).count();
    assert_eq!(alerts, 1);
}

fn is_alert_of(event: &Value, arg: &str) -> bool {
    text(event, "/event/kind") == "alert" && texts(event, "/process/args").contains(&arg)
}

fn storm() {
    const COUNT: usize = 4_000;
    let agent = Agent::start();
    let loops = format!("i=0; while [ $i -lt {} ]; do /bin/true storm-$0-$i; i=$((i+1)); done", COUNT / 2);
    let children: Vec<_> =
        ["a", "b"].map(|name| Command::new("/bin/sh").args(["-c", &loops, name]).spawn().expect("a shell")).into();
    for mut child in children {
        assert!(child.wait().expect("the shell ends").success());
    }
    let stopped = agent.stop();
    let mut seen: Vec<&str> = stopped
        .events
        .iter()
        .filter(|event| is_exec_of(event, "storm-") && text(event, "/process/name") == "true")
        .map(|event| texts(event, "/process/args")[1])
        .collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), COUNT);
}
