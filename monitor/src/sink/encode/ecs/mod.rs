//! Events as JSON in the Elastic Common Schema. On the way of every event, so it writes straight from the event into
//! the caller's buffer; what is the same for a whole run is encoded once.

mod agent;
mod capabilities;
mod container;
mod family;
mod file;
mod login;
mod memo;
mod process;

use std::sync::Arc;

pub use self::family::Tail;
use self::{
    family::{Families, Key},
    memo::Memo,
};
use super::{
    fields::ECS_VERSION,
    json::{self, Fields, Object},
    sentence,
};
use crate::event::{Alert, Body, Container, End, Enrichment, Entry, Event, Kind, Node, Program, Timestamp};

/// How many containers are remembered as they were encoded: more than a node runs.
const CONTAINERS: usize = 1_024;

/// Encodes the events of one run.
#[derive(Clone, Debug)]
pub struct Encoder {
    node: Arc<Node>,
    /// `ecs`, `host` and `agent`, the same on every event but the agent's own.
    constant: Fields,
    /// The same on the agent's own, which say more of the node.
    constant_of_agent: Fields,
    /// The fields of `orchestrator` that are the same on every event; empty outside a known cluster.
    cluster: Fields,
    /// What `event` begins with where a program was executed, and where it has ended too: nearly every line.
    executions: [Fields; 2],
    shared: process::Shared,
    /// What lines have behind `event` whose processes run the same; see [`of_program`].
    programs: process::Programs,
    containers: Memo<Container, Fields>,
    families: Families,
}

impl Encoder {
    /// Prepares what every event of `node`'s run shares.
    pub fn new(node: Arc<Node>) -> Self {
        let [constant, constant_of_agent] =
            [false, true].map(|whole| json::fields(|top| constant_fields(&node, whole, top)));
        let cluster = json::fields(|fields| {
            if let Some(name) = node.cluster.as_deref().filter(|name| !name.is_empty()) {
                fields.text("type", "kubernetes");
                fields.object("cluster", |cluster| cluster.text("name", name));
            }
        });
        let some_end = End { exit_code: None, time: Timestamp::UNIX_EPOCH, lived_ns: 0 };
        let execution = |end| json::fields(|fields| class(Kind::Event, &Body::Exec { end }, fields));
        let executions = [None, Some(some_end)].map(execution);
        let shared = process::Shared::new(node.capabilities);
        let (containers, families) = (Memo::new(CONTAINERS), Families::default());
        let programs = process::Programs::default();
        Self { node, constant, constant_of_agent, cluster, executions, shared, programs, containers, families }
    }

    /// Appends `event` to `out`: one JSON object on one line, without a newline behind it. Fields are those of
    /// [`super::fields::all`]; what is not set is left out.
    pub fn encode(&mut self, event: &Event, out: &mut Vec<u8>) {
        if let Some(tail) = self.encode_own(event, out) {
            out.extend_from_slice(&tail);
        }
    }

    /// The same but for the tail of the line, where others have the same one.
    pub fn encode_own(&mut self, event: &Event, out: &mut Vec<u8>) -> Option<Tail> {
        out.push(b'{');
        self.own(event, &mut Object::new(out));
        let Some(key) = Key::of(event) else {
            self.tail(event, out);
            return None;
        };
        if let Some(known) = self.families.get(&key) {
            return Some(known);
        }
        if self.families.is_first(&key) {
            self.tail(event, out);
            return None;
        }
        let mut tail = Vec::new();
        self.tail(event, &mut tail);
        Some(self.families.put(key, event, &tail))
    }

    /// What an event has for itself. Where it has a process, its object is the last one and still open.
    fn own(&mut self, event: &Event, top: &mut Object<'_>) {
        top.time("@timestamp", event.time);
        top.object("event", |fields| self.event(event, fields));
        let (node, shared) = (&self.node, &mut self.shared);
        if let Some(program) = of_program(event) {
            let write = |fields: &mut Object<'_>| circumstances(event, node, shared, fields);
            top.splice(self.programs.get(program, event.container.is_some(), write));
        } else {
            circumstances(event, node, shared, top);
        }
        if let Some(lineage) = &event.lineage {
            process::own(event, lineage, shared, &mut top.open("process"));
        }
    }

    /// The rest. What it depends on is in [`Key`].
    fn tail(&mut self, event: &Event, out: &mut Vec<u8>) {
        if let Some(lineage) = &event.lineage {
            process::relatives(event, lineage, &mut self.shared, &mut Object::go_on(out));
            out.push(b'}');
        }
        let mut top = Object::go_on(out);
        self.container(event, &mut top);
        let is_agent = matches!(event.body, Body::Agent(_));
        top.splice(if is_agent { &self.constant_of_agent } else { &self.constant });
        out.push(b'}');
    }

    fn event(&self, event: &Event, fields: &mut Object<'_>) {
        match &event.body {
            Body::Exec { end } if event.alert.is_none() => fields.splice(&self.executions[usize::from(end.is_some())]),
            body => class(event.kind(), body, fields),
        }
        fields.number("sequence", event.sequence);
        fields.numbered("id", &self.node.run_id, event.sequence);
        if let Some(alert) = &event.alert {
            fields.number("severity", u64::from(alert.rule.severity.as_number()));
        }
        if let Some(end) = event.end() {
            fields.number("duration", end.lived_ns);
        } else if let Some(summary) = event.login().and_then(|login| login.summary.as_ref()) {
            fields.number("duration", summary.duration_ns);
        }
        let reason = match &event.body {
            _ if event.end().is_some_and(|end| end.exit_code.is_none()) => {
                Some("its end was lost, and found out later")
            }
            Body::Terminated(termination) => termination.failure.as_deref(),
            _ => event.login().and_then(|login| login.reason.as_deref()),
        };
        fields.maybe_text("reason", reason.or_else(|| agent::reason(&event.body)));
    }

    /// `container`, `orchestrator` and `kubernetes`: the same on every event of a container, but for the one that starts it
    /// and those that enter it.
    fn container(&mut self, event: &Event, top: &mut Object<'_>) {
        let context = match &event.body {
            Body::ContainerStarted(context) | Body::ContainerEntered(context) => Some(&**context),
            _ => None,
        };
        match (&event.container, context) {
            (Some(container), None) => {
                let cluster = &self.cluster;
                let write = |container: &Container, fields: &mut Object<'_>| {
                    container::fields(Some(container), None, cluster, fields);
                };
                top.splice(self.containers.fields(container, write));
            }
            (container, context) => container::fields(container.as_deref(), context, &self.cluster, top),
        }
    }
}

/// `whole` is whether all is said of the node that is known.
fn constant_fields(node: &Node, whole: bool, top: &mut Object<'_>) {
    top.object("ecs", |ecs| ecs.text("version", ECS_VERSION));
    top.object("host", |host| {
        host.text("name", &node.name);
        host.maybe_text("id", node.id.as_deref());
        host.object("os", |os| {
            os.text("type", "linux");
            if whole {
                os.text("kernel", &node.kernel);
                os.maybe_text("full", node.os.as_deref());
            }
        });
        if whole {
            host.text("hostname", &node.name);
            host.text("architecture", &node.architecture);
            host.object("boot", |boot| boot.text("id", &node.boot_id));
        }
    });
    top.object("agent", |agent| {
        agent.text("type", "postern");
        agent.text("version", node.version);
        agent.text("ephemeral_id", &node.run_id);
    });
}

/// What class of events it is of.
fn class(kind: Kind, body: &Body, fields: &mut Object<'_>) {
    let categorization = body.categorization();
    fields.text("kind", kind.as_str());
    match categorization.also {
        None => fields.text("action", categorization.action),
        Some(also) => fields.texts("action", [categorization.action, also]),
    }
    fields.texts("category", categorization.category);
    fields.texts("type", categorization.types);
    fields.maybe_text("outcome", categorization.outcome);
    fields.text("module", "postern");
    fields.text("dataset", dataset(body));
}

const fn dataset(body: &Body) -> &'static str {
    match body {
        Body::Exec { .. } | Body::End(_) => "postern.process",
        Body::SessionOpened(_)
        | Body::SessionClosed(_)
        | Body::LoginFailed(_)
        | Body::UserChanged(_)
        | Body::SessionDisputed(_)
        | Body::SessionAttached(_)
        | Body::Terminated(_) => "postern.login",
        Body::ContainerStarted(_) | Body::ContainerEntered(_) | Body::ContainerEscaped => "postern.container",
        Body::File(_) => "postern.file",
        Body::Maintenance(_) => "postern.maintenance",
        Body::Agent(_) => "postern.agent",
    }
}

/// The program of an execution, where what is said beside `event` and `process` is the same for all who run it and none of whom
/// anything else is to be said.
fn of_program(event: &Event) -> Option<&Arc<Program>> {
    let lineage = event.lineage.as_ref()?;
    let from_outside = |entry: &Arc<Entry>| entry.session().is_some() || entry.source_ip.is_some();
    let is_execution = matches!(event.body, Body::Exec { .. }) && event.alert.is_none();
    let is_plain = event.enrichment == Enrichment::Complete && event.maintenance.is_none() && event.attached.is_empty();
    let is_all = is_execution
        && is_plain
        && !lineage.entry.as_ref().is_some_and(from_outside)
        && process::is_as_its_program(lineage)
        && process::is_shared(&lineage.process.program);
    is_all.then_some(&lineage.process.program)
}

/// What is said of an event beside `event` and `process`, but for the tail of its line.
fn circumstances(event: &Event, node: &Node, shared: &mut process::Shared, top: &mut Object<'_>) {
    if let Some(sentence) = sentence::of(event) {
        top.display("message", sentence);
    }
    top.object("user", |fields| user(event, shared, fields));
    if let Some(login) = event.login() {
        top.object("source", |fields| login::source(&login.source, fields));
    }
    if let Body::File(file) = &event.body {
        top.object("file", |fields| file::fields(file, fields));
    }
    related(event, top);
    if let Some(alert) = &event.alert {
        self::alert(alert, top);
    }
    top.object("postern", |fields| postern(event, node, shared, fields));
}

fn postern(event: &Event, node: &Node, shared: &mut process::Shared, fields: &mut Object<'_>) {
    fields.text("enrichment", event.enrichment.as_str());
    if let Some(session) = event.session() {
        fields.object("session", |fields| {
            fields.text("id", &session.id);
            fields.text("door", session.door.as_str());
            fields.maybe_text("user", known(&session.user));
            fields.boolean("allowed", session.allowed);
            fields.text("confidence", session.confidence.as_str());
            fields.maybe_text("link", session.link.as_deref());
            if let Some(from) = session.from.get() {
                fields.object("from", |fields| login::from(from, fields));
            }
            if let Some(summary) = event.login().and_then(|login| login.summary.as_ref()) {
                login::summary(summary, fields);
            }
        });
    }
    if let Some(lineage) = &event.lineage {
        fields.object("process", |fields| process::postern(event, lineage, shared, fields));
    }
    match &event.body {
        Body::SessionOpened(login) | Body::SessionClosed(login) | Body::LoginFailed(login) => {
            fields.object("login", |fields| login::own(login, fields));
        }
        Body::ContainerStarted(context) | Body::ContainerEntered(context) => {
            fields.object("container", |fields| container::own(context, &mut shared.sets, fields));
        }
        Body::UserChanged(change) => {
            fields.object("user_change", |fields| fields.text("program", &change.program));
        }
        Body::SessionDisputed(change) => {
            fields.object("audit_change", |fields| {
                fields.number("from", u64::from(change.from));
                if let Some(to) = change.to {
                    fields.number("to", u64::from(to));
                }
            });
        }
        Body::File(file) => fields.object("file", |fields| file::own(file, fields)),
        Body::Agent(agent) => agent::own(agent, fields),
        Body::SessionAttached(attachment) => {
            fields.object("attachment", |fields| login::attachment(attachment, fields));
        }
        Body::Exec { .. } | Body::End(_) | Body::Terminated(_) | Body::ContainerEscaped | Body::Maintenance(_) => {}
    }
    if !event.attached.is_empty() {
        fields.objects("attached", &event.attached, |fields, it| login::attached(it, fields));
    }
    if let Some(maintenance) = &event.maintenance {
        fields.object("maintenance", |fields| {
            fields.text("ticket", &maintenance.ticket);
            fields.time("until", maintenance.until);
        });
    }
    if let Some(alert) = &event.alert {
        fields.object("alert", |fields| fields.numbered("trigger", &node.run_id, alert.trigger));
    }
}

/// A name, unless there is none that anybody on the node can know.
fn known(name: &str) -> Option<&str> {
    (!name.is_empty()).then_some(name)
}

/// The root `user`: who logs in, else who the process acts as.
fn user(event: &Event, shared: &mut process::Shared, fields: &mut Object<'_>) {
    match (event.login(), &event.lineage) {
        (Some(login), _) => fields.maybe_text("name", known(&login.user)),
        // ECS: the user whose privileges were assumed is the effective one.
        _ if let Body::UserChanged(change) = &event.body => {
            process::user(&change.from, fields);
            fields.object("effective", |fields| process::user(&change.to, fields));
        }
        (None, Some(lineage)) => shared.user(&lineage.process.credentials, fields),
        (None, None) => {}
    }
}

/// Everybody and every address that the event touches, each once.
fn related(event: &Event, top: &mut Object<'_>) {
    let login = event.login();
    let credentials = event.lineage.as_ref().map(|lineage| &lineage.process.credentials);
    let entry = event.lineage.as_ref().and_then(|lineage| lineage.entry.as_ref());
    let users = [
        login.map(|login| &*login.user),
        event.session().map(|session| &*session.user),
        credentials.and_then(|who| who.user.name.as_deref()),
        credentials.and_then(|who| who.real_user.name.as_deref()),
        credentials.and_then(|who| who.login_user.as_ref()?.name.as_deref()),
        match &event.body {
            Body::UserChanged(change) => change.from.name.as_deref(),
            Body::SessionAttached(attachment) => attachment.to.as_ref().map(|session| &*session.user),
            _ => None,
        },
    ];
    let addresses = [login.and_then(|login| login.source.ip), entry.and_then(|entry| entry.source_ip)]
        .map(|ip| Some(ip?.to_canonical()));
    let attached = event.attached.iter().map(|it| &*it.session.user);
    top.object("related", |related| {
        let others = attached.filter(|name| !users.contains(&Some(name)));
        related.texts("user", distinct(&users).chain(others).filter(|name| !name.is_empty()));
        related.displays("ip", distinct(&addresses));
    });
}

/// What is set, each value once. Quadratic, and meant for a handful.
fn distinct<T: Copy + PartialEq>(values: &[Option<T>]) -> impl Iterator<Item = T> {
    let first = |(position, value): &(usize, &Option<T>)| !values[..*position].contains(value);
    values.iter().enumerate().filter(first).filter_map(|(_, value)| *value)
}

fn alert(alert: &Alert, top: &mut Object<'_>) {
    top.object("rule", |rule| {
        rule.text("id", alert.rule.id);
        rule.text("name", alert.rule.name);
        rule.text("description", alert.rule.description);
    });
    let techniques = alert.rule.techniques;
    if techniques.is_empty() {
        return;
    }
    top.object("threat", |threat| {
        threat.text("framework", "MITRE ATT&CK");
        // Techniques that serve one tactic are listed together, so only neighbours need comparing.
        let first = |at: &usize| *at == 0 || techniques[*at - 1].tactic_id != techniques[*at].tactic_id;
        threat.object("tactic", |tactic| {
            tactic.texts("id", (0..techniques.len()).filter(first).map(|at| techniques[at].tactic_id));
            tactic.texts("name", (0..techniques.len()).filter(first).map(|at| techniques[at].tactic));
        });
        // ECS keeps a sub-technique (`T1021.004`) apart from its technique (`T1021`).
        let (whole, sub) = (
            || techniques.iter().filter(|technique| !technique.id.contains('.')),
            || techniques.iter().filter(|technique| technique.id.contains('.')),
        );
        threat.object("technique", |fields| {
            fields.texts("id", techniques.iter().map(|technique| technique.id.split('.').next().unwrap_or_default()));
            fields.texts("name", whole().map(|technique| technique.name));
            fields.object("subtechnique", |fields| {
                fields.texts("id", sub().map(|technique| technique.id));
                fields.texts("name", sub().map(|technique| technique.name));
            });
        });
    });
}

#[cfg(test)]
mod tests;
