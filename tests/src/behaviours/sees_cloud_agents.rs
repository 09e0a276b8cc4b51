//! What a cloud's own agent runs because somebody asked the cloud for it: Google's, before a stand-in for the metadata server in a
//! network of its own, and Amazon's and Azure's, before one for their APIs. No package of Debian's has Amazon's, and none has the
//! extensions by which Azure's does it: where they are installed.

use std::{env, fs, path::Path, process::Command, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Behaviour, no_kernel};
use crate::harness::{
    agent::{Agent, DEADLINE, action, is_exec_of, text},
    amazon::{AmazonAgent, Asked},
    azure::{self, AzureAgent},
    program::run,
};

pub(super) const BEHAVIOURS: &[Behaviour] = &[
    Behaviour {
        name: "what Google's agent runs of a machine's metadata is a session by a door of its own",
        unavailable,
        run: script_of_metadata,
    },
    Behaviour {
        name: "what Amazon's agent runs by Run Command is a session by a door of its own",
        unavailable: || no_kernel().or_else(AmazonAgent::unavailable),
        run: command_by_amazon,
    },
    Behaviour {
        name: "a shell that Amazon's agent opens by Session Manager is a session by a door of its own",
        unavailable: || no_kernel().or_else(AmazonAgent::unavailable),
        run: shell_by_amazon,
    },
    Behaviour {
        name: "what Azure's agent does by itself is nobody's session",
        unavailable: || no_kernel().or_else(|| AzureAgent::unavailable(None)),
        run: azure_by_itself,
    },
    Behaviour {
        name: "what Azure's agent runs by Run Command is a session by a door of its own",
        unavailable: || no_kernel().or_else(|| AzureAgent::unavailable(Some(COMMAND))),
        run: || asked_of_azure(COMMAND),
    },
    Behaviour {
        name: "what Azure's agent runs by a managed Run Command is a session by a door of its own",
        unavailable: || no_kernel().or_else(|| AzureAgent::unavailable(Some(MANAGED_COMMAND))),
        run: || asked_of_azure(MANAGED_COMMAND),
    },
    Behaviour {
        name: "what Azure's agent runs by its custom script is a session by a door of its own",
        unavailable: || no_kernel().or_else(|| AzureAgent::unavailable(Some(CUSTOM_SCRIPT))),
        run: || asked_of_azure(CUSTOM_SCRIPT),
    },
];

const COMMAND: azure::Asked = azure::Asked::Command("/bin/echo of-the-cloud\n:\n");
const MANAGED_COMMAND: azure::Asked = azure::Asked::ManagedCommand("#!/bin/sh\n/bin/echo of-the-cloud\n:\n");
const CUSTOM_SCRIPT: azure::Asked = azure::Asked::CustomScript("/bin/echo of-the-cloud; :");

/// The variable that says where its script runner is.
const AGENT: &str = "POSTERN_CLOUD_AGENT";
const PROGRAMS: [&str; 3] = ["/bin/busybox", "/usr/bin/unshare", "/usr/sbin/ip"];
/// Starts the metadata server, waits until it answers, and runs the agent. `$1` is the server's folder, `$2` the agent.
const SCRIPT: &str = "ip link set lo up && ip addr add 169.254.169.254/32 dev lo || exit 1
    busybox httpd -f -p 169.254.169.254:80 -h \"$1\" & server=$!
    until busybox wget -q -O /dev/null http://169.254.169.254/computeMetadata/v1/project/project-id; do
        kill -0 $server || exit 1
    done
    \"$2\" startup; status=$?
    kill $server
    exit $status";

fn unavailable() -> Option<String> {
    let missing = || PROGRAMS.into_iter().find(|path| !Path::new(path).exists());
    let no_agent = || env::var_os(AGENT).is_none().then(|| format!("{AGENT} is not set"));
    no_kernel().or_else(no_agent).or_else(|| missing().map(|path| format!("there is no {path}")))
}

fn script_of_metadata() {
    let folder = TempDir::new().expect("a folder");
    let version = folder.path().join("computeMetadata/v1");
    fs::create_dir_all(version.join("instance/attributes")).expect("a folder");
    fs::create_dir_all(version.join("project")).expect("a folder");
    fs::write(version.join("project/project-id"), "project").expect("a file");
    let attributes = json!({ "startup-script": "#!/bin/sh\n/bin/echo of-the-cloud\n:\n" });
    fs::write(version.join("instance/attributes/index.html"), attributes.to_string()).expect("a file");

    let mut agent = agent("cloud-agent", "root");
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["--net", "sh", "-c", SCRIPT, "sh"]).arg(folder.path()).arg(env::var_os(AGENT).expect("looked at"));
    run(&mut command, b"", DEADLINE).succeeded();
    one_session(&mut agent, "cloud-agent", "root");
    agent.stop();
}

fn command_by_amazon() {
    asked_of_amazon(Asked::Command(&["/bin/echo of-the-cloud", ":"]), "root", |agent| {
        // What it does by itself is nobody's.
        let lists =
            |event: &Value| text(event, "/process/name") == "dpkg-query" && event["postern"]["session"].is_null();
        agent.wait_within(Duration::from_mins(2), "the inventory", lists);
    });
}

fn shell_by_amazon() {
    let user = "daemon";
    asked_of_amazon(Asked::Session(user, "/bin/echo of-the-cloud; exit\n"), user, |_| {});
}

fn asked_of_amazon(asked: Asked, user: &str, wait: impl FnOnce(&mut Agent)) {
    let mut agent = agent("ssm", user);
    let amazon = AmazonAgent::start(asked);
    wait(&mut agent);
    one_session(&mut agent, "ssm", user);
    drop(amazon);
    agent.stop();
}

fn azure_by_itself() {
    let mut agent = agent("cloud-agent", "root");
    let azure = AzureAgent::start(None);
    agent.wait_for("the part that sees to extensions", |event| is_exec_of(event, "-run-exthandlers"));
    azure.wait_for_its_report();
    drop(azure);
    let events = agent.stop().events;
    let opened: Vec<_> = events.iter().filter(|event| action(event) == "session-opened").collect();
    assert!(opened.is_empty(), "{opened:?}");
}

fn asked_of_azure(asked: azure::Asked) {
    let mut agent = agent("cloud-agent", "root");
    let azure = AzureAgent::start(Some(asked));
    one_session(&mut agent, "cloud-agent", "root");
    drop(azure);
    agent.stop();
}

/// The agent, with a rule that allows this user by this door.
fn agent(door: &str, user: &str) -> Agent {
    Agent::start_with(&format!("access: {{allow: [{{door: {door}, users: [{user}]}}]}}"))
}

/// The command is in a session by this door, and no other opened.
fn one_session(agent: &mut Agent, door: &str, user: &str) {
    let of_session = |wanted: &'static str| move |event: &Value| action(event) == wanted;
    let opened = agent.wait_for("the session", of_session("session-opened"));
    assert_eq!(text(&opened, "/postern/session/door"), door, "{opened}");
    assert_eq!(text(&opened, "/postern/session/user"), user, "{opened}");
    assert_eq!(text(&opened, "/postern/session/confidence"), "likely", "{opened}");
    assert_eq!(opened["postern"]["session"]["allowed"], true, "{opened}");
    let echo = |event: &Value| is_exec_of(event, "of-the-cloud") && text(event, "/process/name") == "echo";
    let echo = agent.wait_for("the command", echo);
    assert_eq!(text(&echo, "/process/entry_leader/entry_meta/type"), door, "{echo}");
    let id = text(&opened, "/postern/session/id");
    assert_eq!(text(&echo, "/postern/session/id"), id, "{echo}");
    let closed = agent.wait_for("its end", of_session("session-closed"));
    assert_eq!(text(&closed, "/postern/session/id"), id, "{closed}");
    let others: Vec<_> = agent.seen().iter().filter(|it| action(it) == "session-opened" && **it != opened).collect();
    assert!(others.is_empty(), "{others:?}");
}
