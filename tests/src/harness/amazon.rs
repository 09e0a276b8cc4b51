//! Amazon's own agent for virtual machines, before a stand-in for what it asks: AWS Systems Manager's API and its message delivery's
//! (`GetMessages` and others, by JSON), and the gateway of its sessions' messages (by web sockets; the layout of a message is in the
//! agent's `agent/session/contracts/agentmessage.go`). Both are in a network of their own, where nothing else answers.

use std::{
    fs,
    io::{self, Write},
    net::TcpStream,
    path::Path,
    process::Child,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket, handshake::derive_accept_key, protocol::Role};

use super::{
    agent::DEADLINE,
    http::{self, Request},
    network::{self, Network},
    program::{end, until},
    tls,
};

/// Where its package has it, and where it looks for its workers.
const AGENT: &str = "/usr/bin/amazon-ssm-agent";
/// What it writes; on a machine that is one of Amazon's, it is there.
const ITS_FOLDERS: [&str; 3] = ["/etc/amazon", "/var/lib/amazon", "/var/log/amazon"];
const ADDRESS: &str = "127.0.0.1:8443";
/// An agent that has just connected does not listen yet, and does not say so: how long it is given to open a session.
const AGAIN: Duration = Duration::from_secs(3);
const INSTANCE: &str = "i-0123456789abcdef0";
/// Of a command or a session.
const ID: &str = "6f1b8a52-3a3e-4b7c-9d55-0c2f4e0a7d11";

type Tls = StreamOwned<ServerConnection, TcpStream>;

/// What somebody asks Amazon for.
#[derive(Clone, Copy)]
pub enum Asked {
    /// These lines of a shell, by Run Command; and an inventory, as on any day.
    Command(&'static [&'static str]),
    /// A shell by Session Manager, as this user, to which this is typed.
    Session(&'static str, &'static str),
}

/// It runs until it is dropped.
pub struct AmazonAgent {
    agent: Child,
    network: Network,
    _folder: TempDir,
}

impl AmazonAgent {
    /// Why it cannot run here, if it cannot.
    pub fn unavailable() -> Option<String> {
        let missing = [AGENT].into_iter().chain(network::PROGRAMS).find(|it| !Path::new(it).exists());
        let in_use = || ITS_FOLDERS.into_iter().find(|path| Path::new(path).exists());
        missing
            .map(|path| format!("there is no {path}"))
            .or_else(|| in_use().map(|path| format!("there is {path} already")))
    }

    /// Starts it on a machine of which this is asked.
    pub fn start(asked: Asked) -> Self {
        let network = Network::new("");
        let folder = TempDir::new().expect("a folder");
        let certificate = folder.path().join("ca.pem");
        let api = Api {
            asked,
            tls: tls::server("127.0.0.1", &certificate),
            message: Mutex::new(asked.message()),
            opened: Mutex::default(),
            opens: Condvar::new(),
        };
        http::serve(network.listen(ADDRESS), Arc::new(api), |api, stream| {
            let connection = ServerConnection::new(Arc::clone(&api.tls)).map_err(io::Error::other)?;
            api.serve(StreamOwned::new(connection, stream))
        });
        fs::create_dir_all("/etc/amazon/ssm").expect("a folder");
        fs::write("/etc/amazon/ssm/amazon-ssm-agent.json", configuration().to_string()).expect("a file");
        let mut agent = network.command(AGENT);
        agent.envs([("AWS_ACCESS_KEY_ID", "nobody"), ("AWS_SECRET_ACCESS_KEY", "nothing")]);
        agent.env("SSL_CERT_FILE", certificate);
        let agent = agent.spawn().expect("it starts");
        Self { agent, network, _folder: folder }
    }
}

impl Drop for AmazonAgent {
    fn drop(&mut self) {
        // It ends its workers then.
        end(&mut self.agent, DEADLINE);
        // Those of documents and sessions go on without it for some seconds, and write. A test that has failed has said enough.
        if !thread::panicking() {
            until("its workers end", DEADLINE, || self.network.processes().is_empty().then_some(()));
        }
        for folder in ITS_FOLDERS {
            // Not all need be there.
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// Who it is, without asking any cloud, and whom it asks.
fn configuration() -> Value {
    let endpoint = json!({ "Endpoint": format!("https://{ADDRESS}") });
    json!({
        "Identity": {
            "CustomIdentities": [{ "InstanceID": INSTANCE, "Region": "nowhere", "CredentialsProvider": "DEFAULT" }],
            "ConsumptionOrder": ["CustomIdentity"],
        },
        "Ssm": endpoint,
        "Mds": endpoint,
        "Mgs": endpoint,
    })
}

impl Asked {
    /// What `GetMessages` gives: the document `AWS-RunShellScript`, as `aws ssm send-command` has it sent.
    fn message(self) -> Option<Value> {
        let Self::Command(lines) = self else { return None };
        let step = json!({ "action": "aws:runShellScript", "name": "lines", "inputs": { "runCommand": lines } });
        let payload = json!({
            "Parameters": {},
            "DocumentContent": { "schemaVersion": "2.2", "description": "", "mainSteps": [step] },
            "CommandId": ID,
            "DocumentName": "AWS-RunShellScript",
        });
        Some(json!({
            "CreatedDate": "2026-01-01T00:00:00.000Z",
            "Destination": INSTANCE,
            "MessageId": format!("aws.ssm.{ID}.{INSTANCE}"),
            "Topic": "aws.ssm.sendCommand.nowhere",
            "Payload": payload.to_string(),
        }))
    }
}

/// The document `SSM-SessionManagerRunShell`, as `aws ssm start-session` has it sent.
fn session(user: &str) -> Value {
    let inputs = json!({ "runAsEnabled": true, "runAsDefaultUser": user });
    let content = json!({
        "DocumentName": "SSM-SessionManagerRunShell",
        "DocumentContent": { "schemaVersion": "1.0", "sessionType": "Standard_Stream", "inputs": inputs },
        "SessionId": ID,
        "Parameters": {},
    });
    json!({ "SchemaVersion": 1, "TaskId": ID, "Topic": "shell", "Content": content.to_string() })
}

/// What machines of Amazon's are asked for from time to time, beside any command: which packages they have.
const INVENTORY: &str = "AWS-GatherSoftwareInventory";

fn inventory() -> Value {
    let inputs = json!({ "applications": "Enabled" });
    let step = json!({ "action": "aws:softwareInventory", "name": "inventory", "inputs": inputs });
    json!({ "schemaVersion": "2.0", "description": "", "mainSteps": [step] })
}

struct Api {
    asked: Asked,
    tls: Arc<ServerConfig>,
    /// Until it is given.
    message: Mutex<Option<Value>>,
    /// Whether the channel of the session is open.
    opened: Mutex<bool>,
    opens: Condvar,
}

impl Api {
    /// One request; it may open a channel.
    fn serve(&self, stream: Tls) -> io::Result<()> {
        let (request, mut stream) = Request::read(stream)?;
        let is_channel = request.path.starts_with("/v1/");
        match (request.header("sec-websocket-key"), self.asked) {
            (Some(key), Asked::Session(user, typed)) => {
                let accept = derive_accept_key(key.as_bytes());
                let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
                write!(stream, "{head}Sec-WebSocket-Accept: {accept}\r\n\r\n")?;
                let channel = WebSocket::from_raw_socket(stream, Role::Server, None);
                let is_control = request.path.starts_with("/v1/control-channel/");
                let done =
                    if is_control { self.tell_of_session(channel, user) } else { self.type_once_asked(channel, typed) };
                done.map_err(io::Error::other)
            }
            (None, Asked::Session(..)) if is_channel => {
                let token =
                    "<Channel><MessageSchemaVersion>1.0</MessageSchemaVersion><TokenValue>-</TokenValue></Channel>";
                answer(&mut stream, "201 Created", token)
            }
            // Commands come by message delivery where there is no gateway.
            _ if is_channel => answer(&mut stream, "403 Forbidden", ""),
            _ => answer(&mut stream, "200 OK", &self.api(&request).to_string()),
        }
    }

    fn api(&self, request: &Request) -> Value {
        // What it names behind the service.
        let operation = request.header("x-amz-target").and_then(|target| target.rsplit('.').next());
        match operation.unwrap_or_default() {
            "GetMessages" => {
                let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
                let message = self.message.lock().unwrap_or_else(PoisonError::into_inner).take();
                json!({
                    "Destination": INSTANCE,
                    "MessagesRequestId": asked["MessagesRequestId"],
                    "Messages": Vec::from_iter(message),
                })
            }
            "ListInstanceAssociations" if matches!(self.asked, Asked::Command(_)) => {
                let association = json!({
                    "AssociationId": "c1a5b9f0-6d57-4a3b-8f0d-3b8f2f0a9d42",
                    "AssociationVersion": "1",
                    "Checksum": "1",
                    "DetailedStatus": "Associated",
                    "DocumentVersion": "1",
                    "InstanceId": INSTANCE,
                    "Name": INVENTORY,
                });
                json!({ "Associations": [association] })
            }
            "GetDocument" => json!({ "Name": INVENTORY, "Content": inventory().to_string() }),
            _ => json!({}),
        }
    }

    /// By it the agent is told of a session.
    fn tell_of_session(&self, mut channel: WebSocket<Tls>, user: &str) -> tungstenite::Result<()> {
        channel.read()?;
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        while !*opened {
            channel.send(Message::binary(of_gateway("interactive_shell", session(user).to_string().as_bytes())))?;
            opened = self.opens.wait_timeout(opened, AGAIN).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(opened);
        loop {
            channel.read()?;
        }
    }

    /// By it somebody types, once the shell has asked.
    fn type_once_asked(&self, mut channel: WebSocket<Tls>, typed: &str) -> tungstenite::Result<()> {
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opens.notify_all();
        while !matches!(&channel.read()?, Message::Binary(data) if kind(data) == "output_stream_data") {}
        channel.send(Message::binary(of_gateway("input_stream_data", typed.as_bytes())))?;
        loop {
            channel.read()?;
        }
    }
}

fn answer(stream: &mut impl Write, status: &str, body: &str) -> io::Result<()> {
    http::answer(stream, status, "application/x-amz-json-1.1", body.as_bytes())
}

/// How long what says what kind of message it is may be.
const KIND_BYTES: usize = 32;

/// What kind of message this is.
fn kind(message: &[u8]) -> &str {
    let kind = message.get(4..4 + KIND_BYTES).and_then(|kind| std::str::from_utf8(kind).ok());
    kind.unwrap_or_default().trim_matches(['\0', ' '])
}

/// A message as the gateway sends it: the first of its stream.
fn of_gateway(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = 116u32.to_be_bytes().to_vec();
    message.extend(format!("{kind:KIND_BYTES$}").bytes());
    message.extend(1u32.to_be_bytes());
    // When, in milliseconds; its number in the stream; flags.
    message.extend([1u64, 0, 0].map(u64::to_be_bytes).concat());
    message.extend([7; 16]);
    message.extend(Sha256::digest(payload));
    // What is typed, and said.
    message.extend(1u32.to_be_bytes());
    message.extend((payload.len() as u32).to_be_bytes());
    message.extend(payload);
    message
}
