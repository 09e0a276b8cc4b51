//! Amazon's own agent for virtual machines, before a stand-in for the API that it asks for commands: AWS Systems Manager's
//! (`UpdateInstanceInformation`) and its message delivery's (`GetMessages`, `AcknowledgeMessage`, `SendReply`), both by JSON over
//! HTTP. They are in a network of their own, where nothing else answers.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsFd,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use serde_json::{Value, json};

use super::{
    agent::DEADLINE,
    program::{patient, wait},
};

/// Where its package has it, and where it looks for its workers.
const AGENT: &str = "/usr/bin/amazon-ssm-agent";
/// What it writes; of a machine that is one of Amazon's, it is there.
const ITS_FOLDERS: [&str; 3] = ["/etc/amazon", "/var/lib/amazon", "/var/log/amazon"];
const ADDRESS: &str = "127.0.0.1:8080";
const INSTANCE: &str = "i-0123456789abcdef0";

/// It runs until it is dropped.
pub struct AmazonAgent {
    agent: Child,
    network: Child,
    replies: Receiver<String>,
}

impl AmazonAgent {
    /// Why it cannot run here, if it cannot.
    pub fn unavailable() -> Option<String> {
        let missing =
            [AGENT, "/usr/bin/unshare", "/usr/bin/nsenter"].into_iter().find(|path| !Path::new(path).exists());
        let in_use = || ITS_FOLDERS.into_iter().find(|path| Path::new(path).exists());
        missing
            .map(|path| format!("there is no {path}"))
            .or_else(|| in_use().map(|path| format!("there is {path} already")))
    }

    /// Starts it on a machine for which there is one command: these lines of a shell.
    pub fn start(lines: &[&str]) -> Self {
        let script = "ip link set lo up && echo up && exec cat";
        let mut network = Command::new("/usr/bin/unshare");
        network.args(["--net", "sh", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut network = network.spawn().expect("unshare starts");
        let mut up = String::new();
        BufReader::new(network.stdout.take().expect("it is piped")).read_line(&mut up).expect("it says so");
        let own = fs::File::open(format!("/proc/{}/ns/net", network.id())).expect("it runs");
        let (replied, replies) = channel();
        let message = message(lines);
        let listening = thread::spawn(move || {
            // Of this thread alone.
            move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Network)).expect("it may");
            let listener = TcpListener::bind(ADDRESS).expect("nobody else is there");
            thread::spawn(move || serve(&listener, Some(message), &replied));
        });
        listening.join().expect("it listens");
        fs::create_dir_all("/etc/amazon/ssm").expect("a folder");
        fs::write("/etc/amazon/ssm/amazon-ssm-agent.json", configuration().to_string()).expect("a file");
        let agent = Command::new("/usr/bin/nsenter")
            .args(["--target", &network.id().to_string(), "--net", AGENT])
            .envs([("AWS_ACCESS_KEY_ID", "nobody"), ("AWS_SECRET_ACCESS_KEY", "nothing")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        Self { agent, network, replies }
    }

    /// Waits until it says that it has done all of it.
    pub fn wait_for_success(&self) {
        loop {
            let reply = self.replies.recv_timeout(patient(DEADLINE)).expect("it says how far it is");
            let reply: Value = serde_json::from_str(&reply).expect("JSON");
            match reply["documentStatus"].as_str() {
                Some("InProgress") => {}
                status => return assert_eq!(status, Some("Success"), "{reply}"),
            }
        }
    }
}

impl Drop for AmazonAgent {
    fn drop(&mut self) {
        // It ends its workers then. Either fails if it has ended already.
        let _ = kill_process(Pid::from_child(&self.agent), Signal::TERM);
        if wait(&mut self.agent, DEADLINE).is_none() {
            let _ = self.agent.kill().and_then(|()| self.agent.wait());
        }
        let _ = self.network.kill().and_then(|()| self.network.wait());
        for folder in ITS_FOLDERS {
            // Not all need be there.
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// Who it is, without asking any cloud, and whom it asks.
fn configuration() -> Value {
    let endpoint = json!({ "Endpoint": format!("http://{ADDRESS}") });
    json!({
        "Identity": {
            "CustomIdentities": [{ "InstanceID": INSTANCE, "Region": "nowhere", "CredentialsProvider": "DEFAULT" }],
            "ConsumptionOrder": ["CustomIdentity"],
        },
        "Ssm": endpoint,
        "Mds": endpoint,
    })
}

/// The document `AWS-RunShellScript`, as `aws ssm send-command` has it sent.
fn message(lines: &[&str]) -> Value {
    let command = "6f1b8a52-3a3e-4b7c-9d55-0c2f4e0a7d11";
    let step = json!({ "action": "aws:runShellScript", "name": "lines", "inputs": { "runCommand": lines } });
    let payload = json!({
        "Parameters": {},
        "DocumentContent": { "schemaVersion": "2.2", "description": "", "mainSteps": [step] },
        "CommandId": command,
        "DocumentName": "AWS-RunShellScript",
    });
    json!({
        "CreatedDate": "2026-01-01T00:00:00.000Z",
        "Destination": INSTANCE,
        "MessageId": format!("aws.ssm.{command}.{INSTANCE}"),
        "Topic": "aws.ssm.sendCommand.nowhere",
        "Payload": payload.to_string(),
    })
}

/// One connection after the other, and one request for each.
fn serve(listener: &TcpListener, mut message: Option<Value>, replied: &Sender<String>) {
    for stream in listener.incoming().map_while(Result::ok) {
        // A client that goes is how every connection ends.
        let _ = answer(stream, &mut message, replied);
    }
}

fn answer(stream: TcpStream, message: &mut Option<Value>, replied: &Sender<String>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut line, mut length, mut target) = (String::new(), 0, String::new());
    while stream.read_line(&mut line)? > 2 {
        if let Some((name, value)) = line.split_once(':') {
            match &*name.to_ascii_lowercase() {
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "x-amz-target" => value.trim().clone_into(&mut target),
                _ => {}
            }
        }
        line.clear();
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let answer = match target.rsplit_once('.') {
        Some((_, "GetMessages")) => json!({
            "Destination": INSTANCE,
            "MessagesRequestId": request["MessagesRequestId"],
            "Messages": Vec::from_iter(message.take()),
        }),
        Some((_, "SendReply")) => {
            // Nobody may wait for it any more.
            let _ = replied.send(request["Payload"].as_str().unwrap_or_default().to_owned());
            json!({})
        }
        _ => json!({}),
    };
    let answer = answer.to_string();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nConnection: close\r\n";
    write!(stream.get_mut(), "{head}Content-Length: {}\r\n\r\n{answer}", answer.len())
}
