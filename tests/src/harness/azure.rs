//! Azure's own agent for virtual machines, before a stand-in for what it asks: the wire server (its goal state, what extensions are
//! wanted, and their packages), the host's plug-in, and the instance's metadata. What it asks, and how it reads the answers, is in
//! the agent's `azurelinuxagent/common/protocol`. All are in a network of their own, where nothing else answers.

use std::{
    env, fs, io,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Child,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    agent::DEADLINE,
    http::{self, Request},
    network::{self, Network},
    program::{end, until},
};

/// The variable that says where its package is unpacked.
const AGENT: &str = "POSTERN_AZURE_AGENT";
/// The variable that says where the extensions' packages are.
const EXTENSIONS: &str = "POSTERN_AZURE_EXTENSIONS";
/// What it is run by, and runs.
const PROGRAMS: [&str; 2] = ["/usr/bin/python3", "/usr/bin/openssl"];
/// Where each of the services is, which the agent does not ask.
const WIRE: &str = "168.63.129.16:80";
const PLUGIN: &str = "168.63.129.16:32526";
const METADATA: &str = "169.254.169.254:80";
/// Its folders, and what says that the machine is set up: it need not do that.
const SET_UP: &str = "ip address add 168.63.129.16/32 dev lo
    ip address add 169.254.169.254/32 dev lo
    ip route add 168.63.129.16/32 dev lo
    mount -t tmpfs tmpfs /var/lib
    mount -t tmpfs tmpfs /var/log
    mkdir /var/lib/waagent
    : > /var/lib/waagent/provisioned";
const CONFIGURATION: &str = "Extensions.Enabled=y
Extensions.GoalStatePeriod=1
Extensions.InitialGoalStatePeriod=1
Pid.File=/var/lib/waagent/pid
Provisioning.Agent=disabled
Provisioning.MonitorHostName=n
ResourceDisk.Format=n
Logs.Console=n
Logs.Collect=n
AutoUpdate.Enabled=n
OS.EnableFirewall=n
";
/// Of every extension here.
const VERSION: &str = "1.0.0";

/// What somebody asks Azure for.
#[derive(Clone, Copy, Debug)]
pub enum Asked {
    /// This script, by `az vm run-command invoke`.
    Command(&'static str),
    /// This script, by `az vm run-command create`.
    ManagedCommand(&'static str),
    /// This command, by `az vm extension set`.
    CustomScript(&'static str),
}

/// It runs until it is dropped.
pub struct AzureAgent {
    agent: Child,
    azure: Arc<Azure>,
    network: Network,
    _folder: TempDir,
}

impl Asked {
    /// The extension that does it, and the file that its project's `make bundle` makes.
    fn extension(self) -> (&'static str, &'static str) {
        match self {
            Self::Command(_) => ("Microsoft.CPlat.Core.RunCommandLinux", "run-command-extension.zip"),
            Self::ManagedCommand(_) => ("Microsoft.CPlat.Core.RunCommandHandlerLinux", "run-command-handler.zip"),
            Self::CustomScript(_) => ("Microsoft.Azure.Extensions.CustomScript", "custom-script-extension.zip"),
        }
    }

    /// Where the extension's package is.
    fn package(self) -> Option<PathBuf> {
        env::var_os(EXTENSIONS).map(|folder| PathBuf::from(folder).join(self.extension().1))
    }

    /// What the extension is told.
    fn settings(self) -> Value {
        match self {
            Self::Command(script) => json!({ "script": STANDARD.encode(script) }),
            Self::ManagedCommand(script) => json!({ "source": { "script": script } }),
            Self::CustomScript(command) => json!({ "commandToExecute": command }),
        }
    }

    /// What the goal state says of the extension.
    fn plugin(self) -> String {
        let name = self.extension().0;
        let settings = json!({ "runtimeSettings": [{ "handlerSettings": { "publicSettings": self.settings() } }] });
        // One of these may be asked for several times, each by a name.
        let (element, named) = match self {
            Self::ManagedCommand(_) => ("ExtensionRuntimeSettings", r#" name="one" state="enabled""#),
            Self::Command(_) | Self::CustomScript(_) => ("RuntimeSettings", ""),
        };
        let settings = settings.to_string().replace('&', "&amp;").replace('<', "&lt;");
        format!(
            r#"<Plugins><Plugin name="{name}" version="{VERSION}" location="http://{WIRE}/manifest" state="enabled" isJson="true"/></Plugins>
            <PluginSettings><Plugin name="{name}" version="{VERSION}"><{element} seqNo="0"{named}>{settings}</{element}></Plugin></PluginSettings>"#
        )
    }
}

impl AzureAgent {
    /// Why it cannot do this here, if it cannot.
    pub fn unavailable(asked: Option<Asked>) -> Option<String> {
        let missing = |path: &Path| (!path.exists()).then(|| format!("there is no {}", path.display()));
        let Some(agent) = env::var_os(AGENT).map(PathBuf::from) else { return Some(format!("{AGENT} is not set")) };
        let no_package = || match asked?.package() {
            None => Some(format!("{EXTENSIONS} is not set")),
            Some(package) => missing(&package),
        };
        missing(&agent)
            .or_else(no_package)
            .or_else(|| PROGRAMS.iter().chain(&network::PROGRAMS).find_map(|path| missing(Path::new(path))))
    }

    /// Starts it on a machine of which this is asked, if anything.
    pub fn start(asked: Option<Asked>) -> Self {
        let network = Network::new(SET_UP);
        let folder = TempDir::new().expect("a folder");
        let configuration = folder.path().join("waagent.conf");
        fs::write(&configuration, CONFIGURATION).expect("a file");
        let package = asked.map(|asked| fs::read(asked.package().expect("looked at")).expect("a package"));
        let azure = Arc::new(Azure { asked, package: package.unwrap_or_default(), reported: AtomicBool::default() });
        for address in [WIRE, PLUGIN, METADATA] {
            http::serve(network.listen(address), Arc::clone(&azure), Azure::serve);
        }
        let unpacked = PathBuf::from(env::var_os(AGENT).expect("looked at"));
        let mut agent = network.command(PROGRAMS[0]);
        agent.arg(unpacked.join("usr/sbin/waagent")).arg("-daemon");
        agent.arg(format!("-configuration-path:{}", configuration.display()));
        agent.env("PYTHONPATH", unpacked.join("usr/lib/python3/dist-packages"));
        let agent = agent.spawn().expect("it starts");
        Self { agent, azure, network, _folder: folder }
    }

    /// Waits until it has told how it stands.
    pub fn wait_for_its_report(&self) {
        until("its report", DEADLINE, || self.azure.reported.load(Relaxed).then_some(()));
    }
}

impl Drop for AzureAgent {
    fn drop(&mut self) {
        // The part that sees to extensions goes when it has lost its parent.
        end(&mut self.agent, DEADLINE);
        let gone = || {
            let left = self.network.processes();
            for process in &left {
                // One that has ended meanwhile is as good.
                let _ = kill_process(*process, Signal::KILL);
            }
            left.is_empty().then_some(())
        };
        until("what it started is ended", DEADLINE, gone);
    }
}

struct Azure {
    asked: Option<Asked>,
    package: Vec<u8>,
    /// Whether the agent has told how it stands, which it does once it has seen to all extensions.
    reported: AtomicBool,
}

impl Azure {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let (request, mut stream) = Request::read(stream)?;
        let mut say = |kind, body: &[u8]| http::answer(&mut stream, "200 OK", kind, body);
        match (&*request.method, &*request.path) {
            ("GET", "/?comp=versions") => say("text/xml", VERSIONS.as_bytes()),
            ("GET", "/machine/?comp=goalstate" | "/machine?comp=goalstate") => say("text/xml", goal_state().as_bytes()),
            ("GET", "/hosting") => say("text/xml", HOSTING.as_bytes()),
            ("GET", "/shared") => say("text/xml", SHARED.as_bytes()),
            ("GET", "/extensions") => say("text/xml", self.extensions().as_bytes()),
            ("GET", "/manifest") => say("text/xml", manifest().as_bytes()),
            ("GET", "/package") => say("application/zip", &self.package),
            // Of the host's plug-in.
            ("GET", "/versions") => say("application/json", br#"["2015-09-01"]"#),
            ("GET", path) if path.starts_with("/metadata/") => say("application/json", b"{}"),
            ("PUT", _) => {
                self.reported.store(true, Relaxed);
                say("text/plain", b"")
            }
            ("POST", _) => say("text/plain", b""),
            _ => http::answer(&mut stream, "404 Not Found", "text/plain", b""),
        }
    }

    /// The part of the goal state that names the extensions.
    fn extensions(&self) -> String {
        let plugin = self.asked.map(Asked::plugin).unwrap_or_default();
        format!(
            r#"<Extensions version="1.0.0.0" goalStateIncarnation="1"><GuestAgentExtension><GAFamilies></GAFamilies></GuestAgentExtension>
            {plugin}<StatusUploadBlob statusBlobType="BlockBlob">http://{WIRE}/status</StatusUploadBlob></Extensions>"#
        )
    }
}

const VERSIONS: &str = r#"<?xml version="1.0" encoding="utf-8"?><Versions><Preferred><Version>2012-11-30</Version></Preferred>
    <Supported><Version>2012-11-30</Version></Supported></Versions>"#;
const HOSTING: &str = r#"<?xml version="1.0" encoding="utf-8"?><HostingEnvironmentConfig version="1.0.0.0" goalStateIncarnation="1">
    <Deployment name="node"/><Incarnation number="1" instance="node"/><Role name="node"/></HostingEnvironmentConfig>"#;
const SHARED: &str =
    r#"<?xml version="1.0" encoding="utf-8"?><SharedConfig version="1.0.0.0" goalStateIncarnation="1"/>"#;

fn goal_state() -> String {
    format!(
        r#"<?xml version="1.0" encoding="utf-8"?><GoalState><Version>2012-11-30</Version><Incarnation>1</Incarnation>
        <Machine><ExpectedState>Started</ExpectedState></Machine><Container><ContainerId>c6d5526c-5ac2-4200-b6e2-56f2b70c5ab2</ContainerId>
        <RoleInstanceList><RoleInstance><InstanceId>node</InstanceId><State>Started</State><Configuration>
        <HostingEnvironmentConfig>http://{WIRE}/hosting</HostingEnvironmentConfig><SharedConfig>http://{WIRE}/shared</SharedConfig>
        <ExtensionsConfig>http://{WIRE}/extensions</ExtensionsConfig><ConfigName>node</ConfigName>
        </Configuration></RoleInstance></RoleInstanceList></Container></GoalState>"#
    )
}

fn manifest() -> String {
    format!(
        r#"<?xml version="1.0" encoding="utf-8"?><PluginVersionManifest><Plugins><Plugin><Version>{VERSION}</Version>
        <Uris><Uri>http://{WIRE}/package</Uri></Uris></Plugin></Plugins></PluginVersionManifest>"#
    )
}
