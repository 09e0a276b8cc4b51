//! The one table of every field that the stream can carry, those of the Elastic Common Schema and our own. The JSON
//! Schema, the page for readers (`docs/fields.md`) and the check of real output are made from it. A field that is not
//! here must not be emitted; tests see to that.

use std::{fmt::Write, sync::LazyLock};

/// The version of the Elastic Common Schema that `ecs.version` names.
pub const ECS_VERSION: &str = "9.5.0";

/// A field of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its full name, with dots between the levels.
    pub name: String,
    /// What a value is.
    pub kind: Kind,
    /// How many values there are.
    pub values: Values,
    /// What it says, in one line.
    pub about: &'static str,
}

/// How many values a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// One, and never an array.
    One,
    /// An array, even of one.
    Array,
    /// One, or an array of several.
    OneOrArray,
}

/// What a field's value is, by the names that Elasticsearch has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A text to compare and count.
    Keyword,
    /// One of a closed list of texts.
    OneOf(&'static [&'static str]),
    /// A long text to search in with wildcards.
    Wildcard,
    /// A text to search in by words.
    Text,
    /// A whole number of 64 bits.
    Long,
    /// True or false.
    Boolean,
    /// RFC 3339, UTC, nanoseconds.
    Date,
    /// An IPv4 or IPv6 address.
    Ip,
    /// An object whose fields are in the table too.
    Object,
    /// An object of texts under names that users chose.
    Flattened,
}

impl Kind {
    /// Elasticsearch's name for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keyword | Self::OneOf(_) => "keyword",
            Self::Wildcard => "wildcard",
            Self::Text => "match_only_text",
            Self::Long => "long",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::Ip => "ip",
            Self::Object => "object",
            Self::Flattened => "flattened",
        }
    }
}

impl Field {
    /// Whether it is Postern's own and not of the Elastic Common Schema.
    pub fn is_own(&self) -> bool {
        self.name.starts_with("postern.") || self.name.starts_with("kubernetes.")
    }
}

/// Fields that every line has.
pub const REQUIRED: &[&str] = &[
    "@timestamp",
    "agent.ephemeral_id",
    "agent.type",
    "agent.version",
    "ecs.version",
    "event.action",
    "event.category",
    "event.dataset",
    "event.id",
    "event.kind",
    "event.module",
    "event.sequence",
    "event.type",
    "host.name",
    "host.os.type",
    "postern.enrichment",
];

/// Every field, sorted by name.
pub fn all() -> &'static [Field] {
    static ALL: LazyLock<Vec<Field>> = LazyLock::new(|| {
        let mut all: Vec<Field> = TABLE.iter().flat_map(Row::fields).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    });
    &ALL
}

/// The field of that name.
pub fn find(name: &str) -> Option<&'static Field> {
    let all = all();
    all.binary_search_by(|field| field.name.as_str().cmp(name)).ok().map(|at| &all[at])
}

/// The page for readers: `docs/fields.md`, in Markdown.
pub fn page() -> String {
    let mut page = format!(
        "# Fields\n\n\
         <!-- Made from the table in monitor/src/sink/encode/fields.rs. \
         Made anew by `POSTERN_REGENERATE=1 cargo test -p postern --lib sink::encode::schema`. -->\n\n\
         Each line of the stream is one JSON object. Fields without a value are left out. The end of a \
         process says who it was and how it ended; all else stands in its `exec`, under the same `process.entity_id`. Where \
         a process ended before its `exec` went out, that one line says both: its `event.action` is \
         `[\"exec\", \"end\"]`. A leader is said to be who it is; its arguments are in its own `exec`. What the node \
         itself is stands in the agent's own events, of which there is one each minute. What the Elastic Common \
         Schema {ECS_VERSION} has a field for is in that field; the rest is under `postern.*`, and what is known of a \
         pod beyond `orchestrator.*` and `container.*` is under `kubernetes.*`. The JSON Schema is \
         `deploy/schema/postern-events.schema.json`.\n",
    );
    for (title, own) in [("Postern's own fields", true), ("Fields of the Elastic Common Schema", false)] {
        let _ = write!(page, "\n## {title}\n\n| field | type | what it says |\n|---|---|---|\n");
        for field in all().iter().filter(|field| field.is_own() == own) {
            let array = match field.values {
                Values::One => "",
                Values::Array => ", array",
                Values::OneOrArray => ", or array",
            };
            let _ = write!(page, "| `{}` | {}{array} | {}", field.name, field.kind.as_str(), field.about);
            if let OneOf(values) = field.kind {
                let _ = write!(page, ": `{}`", values.join("`, `"));
            }
            page.push_str(" |\n");
        }
    }
    page
}

/// One or more fields: `name` under each of `under`.
struct Row {
    under: &'static [&'static str],
    name: &'static str,
    kind: Kind,
    values: Values,
    about: &'static str,
}

impl Row {
    fn fields(&self) -> impl Iterator<Item = Field> {
        let Self { under, name, kind, values, about } = *self;
        under.iter().map(move |prefix| Field { name: format!("{prefix}{name}"), kind, values, about })
    }
}

const ROOT: &[&str] = &[""];
const PROCESS: &[&str] = &["process."];
const WITH_PARENT: &[&str] = &["process.", "process.parent."];
const LEADERS: &[&str] = &["process.group_leader.", "process.session_leader.", "process.entry_leader."];
const EACH: &[&str] =
    &["process.", "process.parent.", "process.group_leader.", "process.session_leader.", "process.entry_leader."];

const fn one(under: &'static [&'static str], name: &'static str, kind: Kind, about: &'static str) -> Row {
    Row { under, name, kind, values: Values::One, about }
}

const fn many(under: &'static [&'static str], name: &'static str, kind: Kind, about: &'static str) -> Row {
    Row { under, name, kind, values: Values::Array, about }
}

use Kind::{Boolean, Date, Flattened, Ip, Keyword, Long, Object, OneOf, Text, Wildcard};

const KINDS: Kind = OneOf(&["alert", "event", "metric", "state"]);
const ACTIONS: Kind = OneOf(&[
    "exec",
    "end",
    "session-opened",
    "session-closed",
    "login-failed",
    "user-changed",
    "session-disputed",
    "session-attached",
    "session-terminated",
    "container-started",
    "container-entered",
    "container-escaped",
    "file-created",
    "file-changed",
    "file-attributes-changed",
    "file-renamed",
    "file-deleted",
    "maintenance-begun",
    "maintenance-changed",
    "maintenance-ended",
    "agent-started",
    "agent-stopped",
    "agent-counted",
    "agent-changed",
    "events-lost",
]);
const CATEGORIES: Kind = OneOf(&["authentication", "file", "host", "process", "session"]);
const TYPES: Kind = OneOf(&["change", "creation", "deletion", "end", "info", "start"]);
const OUTCOMES: Kind = OneOf(&["failure", "success"]);
const DATASETS: Kind = OneOf(&[
    "postern.agent",
    "postern.container",
    "postern.file",
    "postern.login",
    "postern.maintenance",
    "postern.process",
]);
const CONFIDENCES: Kind = OneOf(&["certain", "likely", "linked"]);
const ENRICHMENTS: Kind = OneOf(&["complete", "none", "partial"]);
const NAMESPACES: Kind = OneOf(&["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]);
const SECCOMP: Kind = OneOf(&["disabled", "filter", "strict", "unknown"]);
const CAUSES: Kind = OneOf(&["files", "malformed", "ring", "sink"]);
const IN_MEMORY: Kind = OneOf(&["program", "script"]);
const DOORS: Kind = OneOf(&[
    "init",
    "sshd",
    "console",
    "terminal",
    "kubelet",
    "kubectl-exec",
    "kubectl-debug",
    "debug-node",
    "probe",
    "runtime-exec",
    "ssm",
    "cloud-agent",
    "cron",
    "at",
    "container-escape",
    "unknown",
]);

const TABLE: &[Row] = &[
    // What every line says of itself, its node and its agent.
    one(ROOT, "@timestamp", Date, "When it happened, by the node's clock"),
    one(ROOT, "ecs.version", Keyword, "Version of the Elastic Common Schema that the line follows"),
    one(ROOT, "message", Text, "The event as a sentence; not for executions and ends"),
    one(ROOT, "event.kind", KINDS, "What sort of line this is"),
    Row {
        values: Values::OneOrArray,
        ..one(
            ROOT,
            "event.action",
            ACTIONS,
            "What happened; `exec` and `end` of a process that ended before its execution went out",
        )
    },
    many(ROOT, "event.category", CATEGORIES, "What it concerns"),
    many(ROOT, "event.type", TYPES, "What sort of change it is"),
    one(ROOT, "event.outcome", OUTCOMES, "Whether a login or a termination succeeded"),
    one(ROOT, "event.module", OneOf(&["postern"]), "Always the same"),
    one(ROOT, "event.dataset", DATASETS, "The part of the stream that the event belongs to"),
    one(ROOT, "event.sequence", Long, "Position in this run's stream, without a gap"),
    one(ROOT, "event.id", Keyword, "The run's id and the sequence number: unique for ever, so duplicates can be told"),
    one(ROOT, "event.severity", Long, "How bad an alert is: 21 low, 47 medium, 73 high, 99 critical"),
    one(ROOT, "event.duration", Long, "Nanoseconds that an ended process lived or a closed session lasted"),
    one(
        ROOT,
        "event.reason",
        Keyword,
        "Why a login was refused, a session could not be terminated, the agent stopped or a sink had no room",
    ),
    one(ROOT, "host.name", Keyword, "The node's name in Kubernetes, else its host name"),
    one(ROOT, "host.hostname", Keyword, "The same; in the agent's own events"),
    one(ROOT, "host.id", Keyword, "The node's machine id"),
    one(ROOT, "host.architecture", Keyword, "Machine type, as `uname -m` gives it; in the agent's own events"),
    one(ROOT, "host.boot.id", Keyword, "Id of the boot, new at each start of the node; in the agent's own events"),
    one(ROOT, "host.os.type", OneOf(&["linux"]), "Always the same"),
    one(ROOT, "host.os.kernel", Keyword, "Kernel release, as `uname -r` gives it; in the agent's own events"),
    one(ROOT, "host.os.full", Keyword, "Distribution and version; in the agent's own events"),
    one(ROOT, "agent.type", OneOf(&["postern"]), "Always the same"),
    one(ROOT, "agent.version", Keyword, "Version of Postern"),
    one(ROOT, "agent.ephemeral_id", Keyword, "Id of this run of the agent, a ULID"),
    // Processes.
    one(EACH, "pid", Long, "Process id in the node's own pid namespace"),
    one(EACH, "vpid", Long, "Process id in its own pid namespace, if that differs"),
    one(EACH, "entity_id", Keyword, "Identifies the process across events, runs and boots"),
    one(EACH, "start", Date, "When it started"),
    one(EACH, "executable", Keyword, "Path of the program, in the process's own mount namespace"),
    one(EACH, "name", Keyword, "File name of the program, else the name that the kernel keeps"),
    many(
        WITH_PARENT,
        "args",
        Keyword,
        "Arguments, the program's own name first; bytes that are not UTF-8 are spelled `\\xNN`",
    ),
    one(WITH_PARENT, "args_count", Long, "How many arguments were passed, those cut off included"),
    one(WITH_PARENT, "command_line", Wildcard, "The arguments on one line, quoted as a shell needs it"),
    one(WITH_PARENT, "working_directory", Keyword, "Working directory at the execution"),
    one(EACH, "interactive", Boolean, "Whether it has a controlling terminal"),
    one(EACH, "tty.char_device.major", Long, "Major device number of the controlling terminal"),
    one(EACH, "tty.char_device.minor", Long, "Minor device number of the controlling terminal"),
    one(EACH, "user.id", Keyword, "Effective user id"),
    one(EACH, "user.name", Keyword, "Effective user's name on the node; none for processes in containers"),
    one(WITH_PARENT, "group.id", Keyword, "Effective group id"),
    one(WITH_PARENT, "group.name", Keyword, "Effective group's name on the node"),
    one(WITH_PARENT, "real_user.id", Keyword, "Real user id, where it is not `user.id`"),
    one(WITH_PARENT, "real_user.name", Keyword, "Real user's name on the node"),
    one(WITH_PARENT, "real_group.id", Keyword, "Real group id, where it is not `group.id`"),
    one(WITH_PARENT, "real_group.name", Keyword, "Real group's name on the node"),
    one(WITH_PARENT, "saved_user.id", Keyword, "Saved user id, where it is not `user.id`"),
    one(WITH_PARENT, "saved_user.name", Keyword, "Saved user's name on the node"),
    one(WITH_PARENT, "saved_group.id", Keyword, "Saved group id, where it is not `group.id`"),
    one(WITH_PARENT, "saved_group.name", Keyword, "Saved group's name on the node"),
    one(LEADERS, "same_as_process", Boolean, "Whether this leader is the process itself"),
    one(PROCESS, "entry_leader.entry_meta.type", DOORS, "How the process tree came to be on the node"),
    one(PROCESS, "entry_leader.entry_meta.source.ip", Ip, "The remote address that it came from"),
    one(PROCESS, "thread.name", Keyword, "The name that the kernel keeps (`comm`), at most 15 bytes"),
    many(
        PROCESS,
        "thread.capabilities.effective",
        Keyword,
        "Capabilities that it can use now; on executions, unless `postern.process.all_capabilities`",
    ),
    many(
        PROCESS,
        "thread.capabilities.permitted",
        Keyword,
        "Capabilities that it could raise; on executions, unless `postern.process.all_capabilities`",
    ),
    one(PROCESS, "exit_code", Long, "Exit code, as a shell shows it: 128 and the signal's number where one ended it"),
    one(PROCESS, "end", Date, "When it ended"),
    // People.
    one(ROOT, "user.id", Keyword, "Effective user id of the process; for a change of user, the id before"),
    one(ROOT, "user.name", Keyword, "Who logs in, as it was typed; else the user of that id"),
    one(ROOT, "user.effective.id", Keyword, "For a change of user: the id from now on"),
    one(ROOT, "user.effective.name", Keyword, "For a change of user: the name from now on"),
    many(ROOT, "related.user", Keyword, "Every user name in the event: of the login, the session, the process"),
    many(ROOT, "related.ip", Ip, "Every address in the event: of the login, of the entry"),
    one(ROOT, "source.address", Keyword, "Where a login came from, as the login program gave it"),
    one(ROOT, "source.ip", Ip, "The address that a login came from"),
    one(ROOT, "source.port", Long, "The TCP port that a login came from"),
    // Files.
    one(ROOT, "file.path", Keyword, "The file's path on the node; not there where its folder was gone too soon"),
    one(ROOT, "file.name", Keyword, "Its name, without the folder"),
    one(ROOT, "file.directory", Keyword, "The folder that it is in"),
    one(ROOT, "file.extension", Keyword, "What is behind the last dot of its name"),
    one(ROOT, "file.type", OneOf(&["dir", "file"]), "Whether it is a folder"),
    // Containers and pods.
    one(ROOT, "container.id", Keyword, "The container's whole id"),
    one(ROOT, "container.name", Keyword, "Its name in the pod, or what the runtime calls it"),
    one(ROOT, "container.runtime", Keyword, "What runs it"),
    one(ROOT, "container.image.name", Keyword, "Its image, registry included"),
    many(ROOT, "container.image.tag", Keyword, "Its image's tag"),
    many(ROOT, "container.image.hash.all", Keyword, "Its image's digest"),
    one(
        ROOT,
        "container.security_context.privileged",
        Boolean,
        "Whether it may do all that the node allows, and has no seccomp filter, as the kernel knows it",
    ),
    one(ROOT, "orchestrator.type", OneOf(&["kubernetes"]), "What runs the pods"),
    one(ROOT, "orchestrator.cluster.name", Keyword, "The cluster's name"),
    one(ROOT, "orchestrator.namespace", Keyword, "The pod's namespace"),
    one(ROOT, "orchestrator.resource.type", OneOf(&["pod"]), "Always the same"),
    one(ROOT, "orchestrator.resource.id", Keyword, "The pod's UID"),
    one(ROOT, "orchestrator.resource.name", Keyword, "The pod's name"),
    one(ROOT, "orchestrator.resource.parent.type", Keyword, "Kind of what made the pod"),
    many(ROOT, "orchestrator.resource.label", Keyword, "The pod's labels as `key:value`, the first 64"),
    one(ROOT, "kubernetes.pod.name", Keyword, "The pod's name"),
    one(ROOT, "kubernetes.pod.uid", Keyword, "The pod's UID"),
    one(ROOT, "kubernetes.namespace", Keyword, "The pod's namespace"),
    one(ROOT, "kubernetes.container.name", Keyword, "The container's name in the pod"),
    one(ROOT, "kubernetes.service_account.name", Keyword, "The service account that the pod runs as"),
    one(ROOT, "kubernetes.owner.kind", Keyword, "Kind of what made the pod, such as `ReplicaSet`"),
    one(ROOT, "kubernetes.owner.name", Keyword, "Name of what made the pod"),
    one(
        ROOT,
        "kubernetes.labels",
        Flattened,
        "The pod's labels, dots in their names written `_`; of two that then look alike, the first",
    ),
    one(ROOT, "kubernetes.labels_cut", Boolean, "Set where the pod has more than 64 labels; the rest are left out"),
    // Alerts.
    one(ROOT, "rule.id", Keyword, "Stable id of the rule that fired"),
    one(ROOT, "rule.name", Keyword, "Its name"),
    one(ROOT, "rule.description", Keyword, "What it means, and why it matters"),
    one(ROOT, "threat.framework", OneOf(&["MITRE ATT&CK"]), "Always the same"),
    many(ROOT, "threat.tactic.id", Keyword, "Tactics that it points to"),
    many(ROOT, "threat.tactic.name", Keyword, "Their names"),
    many(ROOT, "threat.technique.id", Keyword, "Techniques that it points to"),
    many(ROOT, "threat.technique.name", Keyword, "Their names"),
    many(ROOT, "threat.technique.subtechnique.id", Keyword, "Sub-techniques that it points to"),
    many(ROOT, "threat.technique.subtechnique.name", Keyword, "Their names"),
    one(ROOT, "postern.alert.trigger", Keyword, "`event.id` of the event that the rule fired on, sent just before"),
    // What the Elastic Common Schema has no place for.
    one(ROOT, "postern.enrichment", ENRICHMENTS, "Whether everything that could be known about the event is there"),
    one(ROOT, "postern.session.id", Keyword, "Id of the access session, on every event under it"),
    one(ROOT, "postern.session.door", DOORS, "By which door the session was opened"),
    one(
        ROOT,
        "postern.session.user",
        Keyword,
        "Who came in, not who they became; not there where only the API server knows",
    ),
    one(ROOT, "postern.session.allowed", Boolean, "Whether the access policy covers the session"),
    one(ROOT, "postern.session.confidence", CONFIDENCES, "How sure the attribution is"),
    one(ROOT, "postern.session.link", Keyword, "Where the lineage was broken on purpose: what joins it to the session"),
    one(
        ROOT,
        "postern.session.from.id",
        Keyword,
        "Where it was come to in another session on this node: the id of that one",
    ),
    one(ROOT, "postern.session.from.door", DOORS, "By which door that was opened"),
    one(ROOT, "postern.session.from.user", Keyword, "Who came in by it"),
    one(ROOT, "postern.session.from.confidence", CONFIDENCES, "How sure it is that it was that one"),
    one(ROOT, "postern.session.from.link", Keyword, "Why it is thought so"),
    one(ROOT, "postern.session.commands", Long, "At its end: programs executed"),
    one(ROOT, "postern.session.alerts", Long, "At its end: alerts raised"),
    many(ROOT, "postern.session.users", Keyword, "At its end: users that its processes became, the first 32"),
    many(ROOT, "postern.session.containers", Keyword, "At its end: containers that it entered, the first 32"),
    one(ROOT, "postern.session.files", Long, "At its end: files of the node that were changed"),
    many(ROOT, "postern.session.file_paths", Keyword, "At its end: their paths, the first 64"),
    one(ROOT, "postern.session.cut", Boolean, "Set where there were more users, containers or files than are listed"),
    one(ROOT, "postern.file.from", Keyword, "The path that a renamed file had before"),
    many(
        ROOT,
        "postern.attached",
        Object,
        "Who beside the owner may have done it, one object each: those attached to the same tmux or screen, the first 8",
    ),
    one(ROOT, "postern.attached.id", Keyword, "Id of their own session"),
    one(ROOT, "postern.attached.door", DOORS, "By which door that was opened"),
    one(ROOT, "postern.attached.user", Keyword, "Who came in by it"),
    one(ROOT, "postern.attached.confidence", CONFIDENCES, "How sure it is that they are attached"),
    one(ROOT, "postern.attached.link", Keyword, "Why it is thought so"),
    one(ROOT, "postern.attachment.program", Keyword, "The terminal multiplexer that somebody attaches to"),
    one(ROOT, "postern.attachment.server", Long, "Process id of its server"),
    one(ROOT, "postern.attachment.session.id", Keyword, "Id of the session that the server was started in"),
    one(ROOT, "postern.attachment.session.user", Keyword, "Who had come in by that"),
    one(
        ROOT,
        "postern.maintenance.ticket",
        Keyword,
        "The ticket of the node's maintenance, on every event of a session while one is on",
    ),
    one(ROOT, "postern.maintenance.until", Date, "When that maintenance is over"),
    one(ROOT, "postern.user_change.program", Keyword, "Path of the program that changed the user"),
    one(ROOT, "postern.login.door", DOORS, "By which door the login was tried"),
    one(ROOT, "postern.login.method", Keyword, "How the user proved to be who they say, as SSH names it"),
    one(ROOT, "postern.login.key.fingerprint", Keyword, "Fingerprint of the key or certificate"),
    one(ROOT, "postern.login.key.type", Keyword, "Type of the key"),
    one(ROOT, "postern.login.certificate", Keyword, "The id in the certificate, as its signer wrote it"),
    one(ROOT, "postern.login.terminal", Keyword, "Terminal, as the login program gave it to PAM"),
    one(ROOT, "postern.login.service", Keyword, "PAM service"),
    one(ROOT, "postern.login.user_known", Boolean, "Whether the node knows the user"),
    one(
        ROOT,
        "postern.login.attempts",
        Long,
        "How often this user was refused from this source so far, or all those whom the event stands for",
    ),
    one(
        ROOT,
        "postern.login.refused.users",
        Long,
        "How many users were refused at least, where the event stands for all beyond sixteen of a source, or for what is more than 128 users and sources at once",
    ),
    one(ROOT, "postern.login.refused.sources", Long, "From how many sources at least"),
    many(ROOT, "postern.login.refused.examples", Keyword, "Some of those that came since the event before"),
    one(ROOT, "postern.audit_change.from", Long, "The kernel's audit session id before it was changed under a session"),
    one(ROOT, "postern.audit_change.to", Long, "The one from then on; not there where it was taken away"),
    one(ROOT, "postern.process.login_user.id", Keyword, "Id of the user who once logged in (`loginuid`)"),
    one(ROOT, "postern.process.login_user.name", Keyword, "Name of the user who once logged in"),
    one(ROOT, "postern.process.audit_session", Long, "The kernel's audit session id"),
    one(ROOT, "postern.process.script", Keyword, "Path of the script that was executed, as it was named"),
    one(ROOT, "postern.process.in_memory", IN_MEMORY, "What came from memfd_create(2) and was never on a disk"),
    one(ROOT, "postern.process.deleted", Boolean, "Set where the program's file had no name left when executed"),
    one(ROOT, "postern.process.inode", Keyword, "Inode number of the program's file"),
    one(ROOT, "postern.process.device", Keyword, "Device of the program's file, `major:minor`"),
    one(ROOT, "postern.process.args_cut", Boolean, "Set where arguments were cut off"),
    one(ROOT, "postern.process.args_unreadable", Boolean, "Set where the arguments could not be read"),
    one(ROOT, "postern.process.args_redacted", Boolean, "Set where a value that looks like a secret was replaced"),
    one(
        ROOT,
        "postern.process.relative_args_cut",
        Boolean,
        "Set where a parent's or leader's arguments end after 1 KiB here; its own event has them all",
    ),
    one(
        ROOT,
        "postern.process.all_capabilities",
        Boolean,
        "Set on an execution outside containers with all capabilities that the node's init has, which then are not listed",
    ),
    one(ROOT, "postern.process.path_cut", Boolean, "Set where the program's path was cut off"),
    one(
        ROOT,
        "postern.process.seeded",
        Boolean,
        "Set where nobody saw the execution: the process is older than the agent, or was found running after a loss",
    ),
    many(ROOT, "postern.container.capabilities.effective", Keyword, "Capabilities of the container's process"),
    many(ROOT, "postern.container.capabilities.bounding", Keyword, "Capabilities that it can ever have"),
    many(ROOT, "postern.container.host_namespaces", NAMESPACES, "Namespaces of the node that it shares"),
    one(ROOT, "postern.container.seccomp", SECCOMP, "How seccomp(2) confines it"),
    one(ROOT, "postern.container.no_new_privileges", Boolean, "Whether it can gain no privileges by an execution"),
    one(ROOT, "postern.container.user.id", Keyword, "Effective user id, in the node's own user namespace"),
    many(ROOT, "postern.sensors", Keyword, "The sensors that are armed, and how each is attached"),
    many(ROOT, "postern.missing", Keyword, "What is missing from the output, and why"),
    one(ROOT, "postern.loss.count", Long, "How many events were lost"),
    one(ROOT, "postern.loss.cause", CAUSES, "Where they were lost"),
    one(ROOT, "postern.loss.sink", Keyword, "The sink that had no room"),
    many(ROOT, "postern.counters", Object, "Figures since the agent started, one object a hook"),
    one(ROOT, "postern.counters.hook", Keyword, "The hook"),
    one(ROOT, "postern.counters.seen", Long, "Times that it ran: the sum of the next four"),
    one(ROOT, "postern.counters.submitted", Long, "Records that it handed over"),
    one(ROOT, "postern.counters.filtered", Long, "Not of interest, and known so in the kernel"),
    one(ROOT, "postern.counters.rate_limited", Long, "Held back by a rate limit"),
    one(ROOT, "postern.counters.lost", Long, "Lost for want of room"),
    one(ROOT, "postern.counters.received", Long, "Records that reached the agent"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_is_listed_twice_and_every_required_one_is_listed() {
        for pair in all().windows(2) {
            assert_ne!(pair[0].name, pair[1].name);
        }
        for name in REQUIRED {
            assert!(find(name).is_some(), "{name}");
        }
    }
}
