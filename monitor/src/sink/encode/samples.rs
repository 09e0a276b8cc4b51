//! Events that together use every variant and every field of the model.

use std::{collections::BTreeMap, sync::Arc};

use crate::event::{
    AgentEvent, Alert, Attached, Attachment, AuditChange, Body, Capabilities, Confidence, Container, Counters,
    Credentials, Door, End, Enrichment, EntityId, Entry, EntryType, Event, Executable, FileAction, FileChange,
    HostNamespace, Image, InMemory, Lineage, Login, LoginMethod, Loss, LossCause, Maintenance, MaintenanceStep, Node,
    Origin, Owner, Pod, Process, ProcessKey, Program, Refused, Relatives, Rule, SeccompMode, SecurityContext, Session,
    Severity, Source, Summary, Technique, Terminal, Termination, Timestamp, User, UserChange,
};

const ALL_CAPABILITIES: Capabilities = Capabilities((1 << 41) - 1);

static RULE: Rule = Rule {
    id: "postern-access-not-allowed",
    name: "Login that the access policy does not cover",
    description: "Somebody came into the node by a way that nobody allowed.",
    severity: Severity::High,
    techniques: &[
        Technique { tactic_id: "TA0001", tactic: "Initial Access", id: "T1078", name: "Valid Accounts" },
        Technique { tactic_id: "TA0008", tactic: "Lateral Movement", id: "T1021.004", name: "SSH" },
    ],
};

static BARE_RULE: Rule = Rule {
    id: "postern-exec-from-memory",
    name: "Program that is only in memory",
    description: "A program ran that was never on a disk.",
    severity: Severity::Critical,
    techniques: &[],
};

/// The node of all samples.
pub(crate) fn node() -> Arc<Node> {
    Arc::new(Node {
        name: "worker-1".into(),
        id: Some("5c7f2a80b1d94bd1a0f5cf3c7f0f4a11".into()),
        boot_id: "0b0e5b9e-6a43-4ad4-9d3c-0d2a3a7e7f55".into(),
        kernel: "6.1.0-26-cloud-amd64".into(),
        architecture: "x86_64".into(),
        os: Some("Debian GNU/Linux 12 (bookworm)".into()),
        cluster: Some("prod-eu".into()),
        capabilities: ALL_CAPABILITIES,
        version: "0.1.0",
        run_id: "01JD0Z6V7Q8R9S0T1V2W3X4Y5Z".into(),
    })
}

/// A node of which little is known.
pub(super) fn bare_node() -> Arc<Node> {
    Arc::new(Node { id: None, os: None, cluster: None, ..(*node()).clone() })
}

/// A plain command under an SSH session.
pub(super) fn exec() -> Event {
    event(1, Body::EXEC, Some(ssh_lineage()))
}

pub(super) fn end(exit_code: i32) -> End {
    End { exit_code: Some(exit_code), time: time(20_200), lived_ns: 150_000_000 }
}

/// One of everything.
pub(crate) fn all() -> Vec<Event> {
    let mut all = vec![exec(), event(2, Body::End(end(0)), Some(ssh_lineage()))];
    all.push(event(3, Body::End(end(-1)), Some(bare_lineage())));
    all.push(event(4, Body::EXEC, Some(odd_lineage())));
    all.push(event(49, Body::Exec { end: Some(end(1)) }, Some(ssh_lineage())));
    all.extend(logins(5));
    all.extend(containers(20));
    all.extend(agent(30));
    all.extend(files(50));
    all.extend(alerts(40));
    all
}

/// An event with nothing about it but its lineage.
pub(super) fn event(sequence: u64, body: Body, lineage: Option<Lineage>) -> Event {
    Event {
        sequence,
        time: time(20_123 + sequence as i64),
        body,
        lineage,
        container: None,
        enrichment: Enrichment::Complete,
        alert: None,
        maintenance: None,
        attached: Box::default(),
    }
}

/// A process with arguments.
pub(super) fn process(pid: u32, path: &str, args: &[&str]) -> Process {
    Process {
        key: ProcessKey { start_ns: u64::from(pid) * 1_000, tgid: pid, reserved: 0 },
        entity_id: EntityId(u128::from(pid).to_be_bytes()),
        inner_pid: None,
        start: time(20_000 + i64::from(pid % 100)),
        start_ns: u64::from(pid) * 1_000,
        program: Arc::new(Program {
            executable: Executable { path: path.into(), inode: 131_842, device: (254, 1), ..Executable::default() },
            name: path.rsplit('/').next().unwrap_or_default().chars().take(15).collect::<String>().into(),
            working_directory: "/root".into(),
            credentials: root(),
            terminal: Some(Terminal { major: 136, minor: 2 }),
        }),
        args: args.iter().collect(),
        args_count: Some(args.len() as u64),
        args_cut: false,
        args_unreadable: false,
        args_redacted: false,
        seeded: false,
        forked: false,
    }
}

fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_795_449_600_000 + ms).expect("in range")
}

fn user(id: u32, name: &str) -> User {
    User { id, name: Some(name.into()) }
}

fn root() -> Arc<Credentials> {
    Arc::new(Credentials {
        user: user(0, "root"),
        group: user(0, "root"),
        real_user: user(1000, "ops"),
        real_group: user(1000, "ops"),
        saved_user: user(1000, "ops"),
        saved_group: user(1000, "ops"),
        login_user: Some(user(1000, "ops")),
        audit_session: Some(7),
        effective: ALL_CAPABILITIES,
        permitted: ALL_CAPABILITIES,
    })
}

fn session() -> Arc<Session> {
    Arc::new(Session {
        id: "01JD0Z7000AAAAAAAAAAAAAAAA".into(),
        door: Door::Sshd,
        user: "ops".into(),
        allowed: true,
        confidence: Confidence::Certain,
        link: None,
        from: Arc::default(),
    })
}

fn origin() -> Origin {
    Origin {
        id: "01JD0Z7000DDDDDDDDDDDDDDDD".into(),
        door: Door::Sshd,
        user: "dev".into(),
        confidence: Confidence::Linked,
        reason: "ssh (pid 4343) has the connection".into(),
    }
}

fn ssh_lineage() -> Lineage {
    let shell = Arc::new(process(4182, "/usr/bin/bash", &["-bash"]));
    let sudo = Arc::new(process(4250, "/usr/bin/sudo", &["sudo", "find", "/etc", "-name", "*.key files"]));
    let find = Arc::new(process(4251, "/usr/bin/find", &["find", "/etc", "-name", "*.key files"]));
    let entry = Entry {
        source_ip: Some([192, 0, 2, 7].into()),
        own_session: Some(session()),
        ..Entry::new(EntryType::Sshd, shell.key)
    };
    let relatives = Relatives {
        parent: Some(sudo.clone()),
        group_leader: Some(sudo),
        session_leader: Some(shell.clone()),
        entry_leader: Some(shell),
        entry: Some(Arc::new(entry)),
    };
    Lineage { process: find, relatives: Arc::new(relatives) }
}

/// A process of which only the kernel's own name is known.
fn bare_lineage() -> Lineage {
    let process = Process {
        program: Arc::new(Program { name: "kworker/0:1".into(), ..Program::default() }),
        args_count: None,
        args_unreadable: true,
        seeded: true,
        ..process(77, "", &[])
    };
    let entry = Entry::new(EntryType::Unknown, ProcessKey { start_ns: 1, tgid: 1, reserved: 0 });
    let relatives = Relatives { entry: Some(Arc::new(entry)), ..Relatives::default() };
    Lineage { process: Arc::new(process), relatives: Arc::new(relatives) }
}

/// Everything that can be odd about a process, and a parent with very long arguments.
fn odd_lineage() -> Lineage {
    let long = "x".repeat(800);
    let mut parent = process(4300, "/usr/bin/xargs", &["xargs", &long, &long]);
    parent.inner_pid = Some(11);
    let mut leader = process(4290, "/bin/sh", &["sh"]);
    leader.inner_pid = Some(10);
    let leader = Some(Arc::new(leader));
    let mut odd = process(4301, "/memfd:a b (deleted)", &["", "a\x1b[31mred\u{202e}", "it's", "--password=[redacted]"]);
    odd.inner_pid = Some(12);
    odd.args_cut = true;
    odd.args_redacted = true;
    odd.args_count = Some(400);
    odd.executable.path_cut = true;
    odd.executable.deleted = true;
    odd.executable.script = Some("/proc/self/fd/3".into());
    odd.executable.in_memory = Some(InMemory::Script);
    Arc::make_mut(&mut odd.credentials).effective = Capabilities(1 << 21);
    let relatives = Relatives {
        parent: Some(Arc::new(parent)),
        group_leader: leader.clone(),
        session_leader: leader.clone(),
        entry_leader: leader,
        entry: ssh_lineage().entry.clone(),
    };
    Lineage { process: Arc::new(odd), relatives: Arc::new(relatives) }
}

/// A login as sshd tells it.
pub(crate) fn login() -> Login {
    Login {
        door: Door::Sshd,
        user: "ops".into(),
        user_known: Some(true),
        source: Source {
            address: Some("bastion.example".into()),
            ip: Some([192, 0, 2, 7].into()),
            port: Some(51_234),
            claimed: false,
        },
        method: Some(LoginMethod::PublicKey),
        key_fingerprint: Some("SHA256:9jkZbqzUMd8YI8Hc2sA2pZ0o0N0pYx8oS3mXbWb0n1c".into()),
        certificate: Some("ops@example".into()),
        groups: vec!["sre".into()],
        key_type: Some("ED25519".into()),
        terminal: Some("ssh".into()),
        service: "sshd".into(),
        reason: None,
        session: Some(session()),
        attempts: 0,
        refused: None,
        summary: None,
    }
}

fn logins(from: u64) -> Vec<Event> {
    let opened = event(from, Body::SessionOpened(Arc::new(login())), Some(ssh_lineage()));
    let summary = Summary {
        duration_ns: 83_000_000_000,
        commands: 17,
        alerts: 1,
        users: vec!["root".into()],
        containers: vec!["shop/web-1/web".into()],
        files: 65,
        file_paths: vec!["/etc/passwd".into()],
        cut: true,
    };
    let closed = Login { summary: Some(summary), ..login() };
    let change = UserChange { from: user(1_000, "ops"), to: user(0, "root"), program: "/usr/bin/sudo".into() };
    let mut all = vec![opened, event(from + 1, Body::SessionClosed(Arc::new(closed)), None)];
    all.push(event(from + 14, Body::UserChanged(Arc::new(change)), Some(ssh_lineage())));
    let methods = [
        LoginMethod::Password,
        LoginMethod::KeyboardInteractive,
        LoginMethod::HostBased,
        LoginMethod::Gssapi,
        LoginMethod::Other("none".into()),
    ];
    for (sequence, failure) in (from + 16..).zip([None, Some("Operation not permitted (os error 1)".into())]) {
        let termination = Termination { session: session(), failure };
        all.push(event(sequence, Body::Terminated(Arc::new(termination)), Some(ssh_lineage())));
    }
    let maintenance = Some(Arc::new(Maintenance { ticket: "OPS-\u{1b}7".into(), since: time(0), until: time(90_000) }));
    let steps = [MaintenanceStep::Begun, MaintenanceStep::Changed, MaintenanceStep::Ended];
    for (sequence, step) in (from + 60..).zip(steps) {
        all.push(Event { maintenance: maintenance.clone(), ..event(sequence, Body::Maintenance(step), None) });
    }
    all.push(Event { maintenance, ..event(from + 63, Body::SessionOpened(Arc::new(login())), Some(ssh_lineage())) });
    all.extend(attached(from + 70));
    let change = AuditChange { from: 17, to: Some(18) };
    all.push(event(from + 18, Body::SessionDisputed(change), Some(ssh_lineage())));
    let unknown = Session {
        id: "01JD0Z7000BBBBBBBBBBBBBBBB".into(),
        door: Door::KubectlExec,
        user: "".into(),
        ..Session::clone(&session())
    };
    let by_api = Login { door: Door::KubectlExec, session: Some(Arc::new(unknown)), ..Login::default() };
    let by_api = event(from + 15, Body::SessionOpened(Arc::new(by_api)), None);
    all.push(Event { container: Some(Arc::new(container())), ..by_api });
    for (sequence, method) in (from + 2..).zip(methods) {
        let failed = Login {
            user: "admin\" or\n1=1".into(),
            user_known: Some(false),
            source: Source { address: None, ip: "::ffff:203.0.113.9".parse().ok(), ..Source::default() },
            method: Some(method),
            key_fingerprint: None,
            certificate: None,
            key_type: None,
            terminal: None,
            reason: Some("Authentication failure".into()),
            session: None,
            attempts: sequence,
            ..login()
        };
        all.push(event(sequence, Body::LoginFailed(Arc::new(failed)), None));
    }
    let refused = Refused { users: 70_000, sources: 71_000, examples: vec!["admin\" or\n1=1 from 203.0.113.9".into()] };
    let many = Login {
        door: EntryType::Sshd,
        service: "sshd".into(),
        attempts: 99_872,
        refused: Some(Arc::new(refused)),
        ..Login::default()
    };
    all.push(event(from + 12, Body::LoginFailed(Arc::new(many)), None));
    all
}

/// Somebody attaches, and something is typed by one of two.
fn attached(from: u64) -> Vec<Event> {
    let other =
        Arc::new(Session { id: "01JD0Z7000CCCCCCCCCCCCCCCC".into(), user: "dev".into(), ..Session::clone(&session()) });
    let attached = Arc::new(Attached {
        session: other,
        confidence: Confidence::Likely,
        reason: "tmux (pid 4242) attaches to the same server".into(),
    });
    let attachment = |to| Attachment { to, program: "tmux".into(), server: 4_100, pid: 4_242 };
    let bodies = [
        Body::SessionAttached(Arc::new(attachment(Some(session())))),
        Body::SessionAttached(Arc::new(attachment(None))),
    ];
    let mut all: Vec<Event> =
        (from..).zip(bodies).map(|(sequence, body)| event(sequence, body, Some(ssh_lineage()))).collect();
    all.push(Event { attached: Box::new([attached]), ..event(from + 3, Body::EXEC, Some(ssh_lineage())) });
    all
}

/// A container of a pod of which everything is known.
pub(super) fn container() -> Container {
    let labels = [("app", "web"), ("app.kubernetes.io/name", "web"), ("a.b", "1"), ("a_b", "2"), ("empty", "")];
    let pod = Pod {
        uid: "6f1f0d3c-9c4e-4c39-8d5e-0c6a4a0b7a10".into(),
        name: "web-7d4b9c6f5-x2x8k".into(),
        namespace: "shop".into(),
        service_account: Some("web".into()),
        labels: labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
        owner: Some(Owner { kind: "ReplicaSet".into(), name: "web-7d4b9c6f5".into() }),
    };
    Container {
        id: "3f2b8a0d9c1e4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c".into(),
        runtime: Some("containerd".into()),
        name: Some("nginx".into()),
        image: Some(Image {
            name: "registry.example/shop/nginx".into(),
            tag: Some("1.27".into()),
            digest: Some("sha256:4c1e0ee0".into()),
        }),
        pod_uid: Some(pod.uid.clone()),
        pod: Some(Arc::new(pod)),
    }
}

fn privileged() -> SecurityContext {
    SecurityContext {
        privileged: true,
        effective: ALL_CAPABILITIES,
        bounding: ALL_CAPABILITIES,
        host_namespaces: vec![
            HostNamespace::Pid,
            HostNamespace::Network,
            HostNamespace::Ipc,
            HostNamespace::Uts,
            HostNamespace::Mount,
            HostNamespace::User,
            HostNamespace::Cgroup,
        ],
        seccomp: SeccompMode::Disabled,
        no_new_privileges: false,
        user_id: 0,
    }
}

fn containers(from: u64) -> Vec<Event> {
    let confined = |seccomp| SecurityContext {
        privileged: false,
        effective: Capabilities(0),
        host_namespaces: vec![],
        seccomp,
        no_new_privileges: true,
        user_id: 101,
        ..privileged()
    };
    let bare = Container { id: "0f".repeat(32).into(), pod_uid: Some("9a0b".into()), ..Container::default() };
    let crowded = Pod {
        labels: (0..70).map(|n| (format!("l{n}").into(), "v".into())).collect::<BTreeMap<_, _>>(),
        owner: None,
        service_account: None,
        ..(*container().pod.expect("the sample has a pod")).clone()
    };
    let untagged = Image { tag: None, digest: None, ..container().image.expect("the sample has an image") };
    let crowded = Container { pod: Some(Arc::new(crowded)), image: Some(untagged), ..container() };
    let alone = Container { id: "1a".repeat(32).into(), ..Container::default() };
    let cases = [
        (Body::ContainerStarted(Arc::new(privileged())), container(), Enrichment::Complete),
        (Body::ContainerEntered(Arc::new(confined(SeccompMode::Filter))), bare, Enrichment::Partial),
        (Body::ContainerStarted(Arc::new(confined(SeccompMode::Strict))), crowded, Enrichment::Complete),
        (Body::ContainerStarted(Arc::new(confined(SeccompMode::Unknown))), alone, Enrichment::None),
        (Body::EXEC, container(), Enrichment::Complete),
        (Body::ContainerEscaped, container(), Enrichment::Complete),
    ];
    let inside = || {
        let mut inside = process(5100, "/bin/sh", &["sh", "-c", "cat /etc/shadow"]);
        inside.inner_pid = Some(33);
        let who = Arc::make_mut(&mut inside.credentials);
        who.user = User { id: 0, name: None };
        who.login_user = None;
        who.audit_session = None;
        let inside = Arc::new(inside);
        let entry = Entry {
            own_session: Some(Arc::new(Session {
                door: Door::KubectlExec,
                user: "unknown".into(),
                allowed: false,
                confidence: Confidence::Likely,
                link: Some("crictl (pid 4711) named the container".into()),
                from: Arc::new(origin().into()),
                ..(*session()).clone()
            })),
            ..Entry::new(EntryType::KubectlExec, inside.key)
        };
        let relatives = Relatives {
            entry_leader: Some(inside.clone()),
            entry: Some(Arc::new(entry)),
            ..Relatives::clone(&ssh_lineage().relatives)
        };
        Lineage { process: inside, relatives: Arc::new(relatives) }
    };
    (from..)
        .zip(cases)
        .map(|(sequence, (body, container, enrichment))| {
            let lineage = Some(inside());
            Event { container: Some(Arc::new(container)), enrichment, ..event(sequence, body, lineage) }
        })
        .collect()
}

fn agent(from: u64) -> Vec<Event> {
    let counters = || {
        vec![Counters {
            hook: "exec".into(),
            seen: 1_000,
            submitted: 990,
            filtered: 4,
            rate_limited: 3,
            lost: 3,
            received: 990,
        }]
    };
    let lost = |count, cause| AgentEvent::Lost(Loss { count, cause });
    let all = [
        AgentEvent::Started {
            sensors: vec!["exec: raw_tracepoint".into(), "login: uprobe".into()],
            missing: vec!["pods: no API server".into()],
        },
        AgentEvent::Counted(counters()),
        lost(3, LossCause::Ring),
        lost(1, LossCause::Malformed),
        lost(1, LossCause::Files),
        lost(12, LossCause::Sink { name: "fluentd-2".into(), reason: "no acknowledgement in 30 s".into() }),
        AgentEvent::Changed { message: "the API server went away".into() },
        AgentEvent::Stopped { reason: "SIGTERM".into(), counters: counters() },
    ];
    (from..).zip(all).map(|(sequence, agent)| event(sequence, Body::Agent(Arc::new(agent)), None)).collect()
}

fn files(from: u64) -> Vec<Event> {
    use FileAction::{AttributesChanged, Changed, Created, Deleted, Passed, Renamed};
    let all = [Created, Changed, AttributesChanged, Renamed, Deleted, Passed].map(|action| FileChange {
        action,
        path: (action != Deleted).then(|| "/etc/cron.d/a\nb.conf".into()),
        name: "a\nb.conf".into(),
        from: (action == Renamed).then(|| "/etc/cron.d/4913".into()),
        is_directory: action == Deleted,
    });
    (from..).zip(all).map(|(sequence, file)| event(sequence, Body::File(Arc::new(file)), Some(ssh_lineage()))).collect()
}

fn alerts(from: u64) -> Vec<Event> {
    let alert = |rule, message: &str| Some(Arc::new(Alert { rule, message: message.into(), trigger: from - 1 }));
    vec![
        Event {
            alert: alert(&RULE, "ops came in by sshd from 192.0.2.7, and no rule of access.allow covers that"),
            ..event(from, Body::SessionOpened(Arc::new(login())), Some(ssh_lineage()))
        },
        Event { alert: alert(&BARE_RULE, "find runs from memory"), ..event(from + 1, Body::EXEC, Some(odd_lineage())) },
    ]
}
