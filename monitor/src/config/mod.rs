//! The configuration: one YAML file, checked as a whole before any of it is used.
//!
//! Two stages: `tree` turns the text into values that know their line, `reader` and the sections below turn those into
//! the validated values that the parts of the agent are built from. Whoever reads the file gets every problem at
//! once, each with its line. What every key means is in `docs/configuration.md`, whose example a test parses.

pub mod access;
mod kubernetes;
mod problem;
mod reader;
mod sinks;
mod tree;
mod values;

#[cfg(test)]
mod tests;

use std::{
    io::{self, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use kubernetes::{Kubernetes, KubernetesMode};
pub use problem::Problem;
pub(crate) use problem::printable;

use self::{
    problem::Place,
    reader::{Located, Reader, Section, Spot, choice, within},
    tree::Node,
    values::{duration, label, name, path, size},
};
use crate::{
    detect::AccessPolicy,
    sink::settings::{Format, SinkSettings, Target},
};

/// Where the file is looked for when none is named.
pub const DEFAULT_PATH: &str = "/etc/postern/postern.yaml";

/// A validated configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The cluster's name, where it is given.
    pub cluster: Option<Arc<str>>,
    /// The node's name, where it is given; the host name is used otherwise.
    pub node: Option<Arc<str>>,
    /// Where the node's own file system is seen from here, where it is given; looked for otherwise.
    pub host_root: Option<PathBuf>,
    /// Where pods are looked up.
    pub kubernetes: Kubernetes,
    /// The container runtime's CRI socket, seen from the host's root; looked for where absent.
    pub runtime_endpoint: Option<PathBuf>,
    /// Size of the kernel's ring in bytes: a power of two and a multiple of any page size.
    pub ring_bytes: u32,
    /// Whether the kernel's typed tracepoints may be used: they are, unless the configuration keeps to raw ones.
    pub typed_tracepoints: bool,
    /// Who may come in.
    pub access: AccessPolicy,
    /// Where events go; never empty.
    pub sinks: Vec<SinkSettings>,
    /// Where one run leaves the next what it knows of open sessions; nowhere where absent.
    pub state: Option<PathBuf>,
    /// The socket on which the agent answers those who ask on this node; none where absent.
    pub control: Option<PathBuf>,
    /// Where health and metrics are served; nowhere where absent.
    pub admin: Option<SocketAddr>,
    /// How long draining may take when the agent is told to stop.
    pub shutdown_deadline: Duration,
    /// What is allowed and doubtful: said once, at the start.
    pub warnings: Vec<Problem>,
}

/// What a configuration may ask of the machine while it is checked.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The node's name as the pod's environment gives it.
    pub node_name: Option<String>,
    /// Reads a file that holds a secret.
    pub read_secret: fn(&Path) -> io::Result<String>,
}

impl Surroundings {
    /// This process's environment and file system.
    pub fn of_this_process() -> Self {
        let node_name = std::env::var("POSTERN_NODE_NAME").ok().filter(|name| !name.is_empty());
        Self { node_name, read_secret }
    }

    /// Nothing: checking is then a function of the text alone.
    pub fn none() -> Self {
        Self {
            node_name: None,
            read_secret: |_| Err(io::Error::new(io::ErrorKind::NotFound, "files are not read here")),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cluster: None,
            node: None,
            host_root: None,
            kubernetes: Kubernetes::default(),
            runtime_endpoint: None,
            ring_bytes: 8 << 20,
            typed_tracepoints: true,
            access: AccessPolicy::default(),
            sinks: vec![sinks::stdout(Format::Auto)],
            state: Some(PathBuf::from("/run/postern/sessions.json")),
            control: Some(PathBuf::from("/run/postern/control.sock")),
            admin: Some(SocketAddr::from(([127, 0, 0, 1], 9464))),
            shutdown_deadline: Duration::from_secs(10),
            warnings: Vec::new(),
        }
    }
}

impl Config {
    /// Reads and checks the file at `path`, or at [`DEFAULT_PATH`] where none is named. Only the default one may be
    /// missing: the built-in defaults then apply.
    pub fn load(path: Option<&Path>, surroundings: &Surroundings) -> Result<Self, Vec<Problem>> {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH));
        match read_bounded(file, tree::MAX_BYTES as u64 + 1) {
            Ok(bytes) => Self::parse_bytes(&bytes, &file.display().to_string(), surroundings),
            Err(error) if path.is_none() && error.kind() == io::ErrorKind::NotFound => {
                Self::parse("", DEFAULT_PATH, surroundings)
            }
            Err(error) => Err(vec![at(&file.display().to_string(), Place::START, format!("cannot be read: {error}"))]),
        }
    }

    /// Checks a file's bytes, which need not be text.
    pub fn parse_bytes(bytes: &[u8], name: &str, surroundings: &Surroundings) -> Result<Self, Vec<Problem>> {
        let text = str::from_utf8(bytes).map_err(|error| {
            let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let column = before.rsplit('\n').next().map_or(1, |line| line.chars().count() + 1);
            let place = Place { line: before.matches('\n').count() + 1, column };
            vec![at(name, place, "the file is not UTF-8 text from here on".into())]
        })?;
        Self::parse(text, name, surroundings)
    }

    /// Checks a file's text. `file` is what problems call it.
    pub fn parse(text: &str, file: &str, surroundings: &Surroundings) -> Result<Self, Vec<Problem>> {
        let (tree, findings) = tree::parse(text);
        let mut reader = Reader::new(file, findings);
        let mut config = Self::default();
        if let Some(tree) = &tree {
            config.read(&mut reader, tree, surroundings);
        }
        if let (None, Some(given)) = (&config.node, &surroundings.node_name) {
            match name(given) {
                Ok(node) => config.node = Some(node.into()),
                Err(message) => {
                    let spot = Spot { path: "node.name".into(), at: Place::START };
                    reader.problem(&spot, format!("from POSTERN_NODE_NAME: {message}"));
                }
            }
        }
        config.warnings = reader.finish()?;
        Ok(config)
    }

    /// Makes standard output a sink in this form, whatever the file says of standard output's form.
    pub fn set_output(&mut self, wanted: Format) {
        let stdout = self.sinks.iter_mut().find_map(|sink| match &mut sink.target {
            Target::Stdout { format } => Some(format),
            _ => None,
        });
        match stdout {
            Some(format) => *format = wanted,
            None => self.sinks.push(sinks::stdout(wanted)),
        }
    }

    fn read(&mut self, reader: &mut Reader, tree: &Node, surroundings: &Surroundings) {
        const KEYS: [&str; 12] = [
            "access",
            "admin",
            "cluster",
            "containers",
            "control",
            "host_root",
            "kubernetes",
            "node",
            "probe",
            "shutdown",
            "sinks",
            "state",
        ];
        if matches!(tree.value, tree::Value::Null) {
            return;
        }
        let root = Located { spot: Spot { path: String::new(), at: tree.at }, node: tree };
        let Some(root) = reader.section(&root, &KEYS) else { return };
        self.read_names(reader, &root);
        if let Some(found) = root.get("kubernetes") {
            self.kubernetes = kubernetes::read(reader, &found);
        }
        if let Some(section) = reader.subsection(&root, "containers", &["endpoint"]) {
            self.runtime_endpoint = reader.get(&section, "endpoint", "a path", endpoint);
        }
        if let Some(section) = reader.subsection(&root, "probe", &["ring_bytes", "tracepoints"]) {
            self.ring_bytes = reader.get(&section, "ring_bytes", "a size", ring).unwrap_or(self.ring_bytes);
            let rungs = [("auto", true), ("raw", false)];
            let typed = reader.get(&section, "tracepoints", "`auto` or `raw`", choice(&rungs));
            self.typed_tracepoints = typed.unwrap_or(self.typed_tracepoints);
        }
        if let Some(found) = root.get("access") {
            self.access = access::read(reader, &found);
            if !self.kubernetes.watches_node() && self.access.allow.iter().any(|rule| rule.during_maintenance) {
                let message = "no rule for a maintenance will ever match: the Node object is not watched";
                reader.warning(&found.spot, message);
            }
        }
        if let Some(found) = root.named("sinks") {
            self.sinks = sinks::read(reader, &found, surroundings);
        }
        if let Some(section) = reader.subsection(&root, "admin", &["address"]) {
            self.read_admin(reader, &section);
        }
        let path_or_off = |text: &str| if text == "off" { Ok(None) } else { path(text).map(Some) };
        for (name, key, place) in [("control", "socket", &mut self.control), ("state", "file", &mut self.state)] {
            if let Some(section) = reader.subsection(&root, name, &[key])
                && let Some(found) = section.get(key)
            {
                *place = reader.value(&found, "a path, or `off`", path_or_off).unwrap_or_default();
            }
        }
        if let Some(section) = reader.subsection(&root, "shutdown", &["deadline"]) {
            let range = within(Duration::from_millis(100)..=Duration::from_mins(5), "100ms to 5m", duration);
            self.shutdown_deadline =
                reader.get(&section, "deadline", "a time", range).unwrap_or(self.shutdown_deadline);
        }
    }

    fn read_names(&mut self, reader: &mut Reader, root: &Section<'_>) {
        if let Some(section) = reader.subsection(root, "cluster", &["name"]) {
            self.cluster = reader.get(&section, "name", "a name", label).map(Arc::from);
        }
        if let Some(section) = reader.subsection(root, "node", &["name"]) {
            self.node = reader.get(&section, "name", "a name", name).map(Arc::from);
        }
        self.host_root = reader.get(root, "host_root", "a path", path);
    }

    fn read_admin(&mut self, reader: &mut Reader, section: &Section<'_>) {
        let Some(found) = section.get("address") else { return };
        let Some(address) = reader.value(&found, "an address and port, or `off`", admin_address) else { return };
        if let Some(address) = address.filter(|address| !address.ip().is_loopback()) {
            let message = format!("health and metrics will be open to whoever reaches {address}");
            reader.warning(&found.spot, message);
        }
        self.admin = address;
    }
}

/// CRI sockets are often written as URLs; both are taken.
fn endpoint(text: &str) -> values::Parsed<PathBuf> {
    path(text.strip_prefix("unix://").unwrap_or(text))
}

fn ring(text: &str) -> values::Parsed<u32> {
    let bytes = within(64 << 10..=256 << 20, "64KiB to 256MiB", size)(text)?;
    if !bytes.is_power_of_two() {
        return Err(format!("the kernel wants a power of two: `{}KiB` is the next", bytes.next_power_of_two() >> 10));
    }
    Ok(bytes as u32) // At most 256 MiB, see above.
}

fn admin_address(text: &str) -> values::Parsed<Option<SocketAddr>> {
    match text {
        "off" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            format!(
                "expected an IP address and port such as `127.0.0.1:9464`, or `off`, found {}",
                problem::quoted(text)
            )
        }),
    }
}

fn read_bounded(file: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A secret file's one line, without the line break that editors and `kubectl create secret` leave behind it.
fn read_secret(file: &Path) -> io::Result<String> {
    const LIMIT: u64 = 64 * 1024;
    let wrong = |message| io::Error::new(io::ErrorKind::InvalidData, message);
    let text = String::from_utf8(read_bounded(file, LIMIT)?).map_err(|_| wrong("it is not UTF-8 text"))?;
    let secret = text.strip_suffix('\n').unwrap_or(&text);
    let secret = secret.strip_suffix('\r').unwrap_or(secret);
    match secret {
        "" => Err(wrong("it is empty")),
        secret if secret.chars().any(char::is_control) => {
            Err(wrong("it has more than one line, or control characters"))
        }
        secret => Ok(secret.to_owned()),
    }
}

fn at(name: &str, place: Place, message: String) -> Problem {
    let Place { line, column } = place;
    Problem { file: printable(name).into(), line, column, path: String::new(), message }
}
