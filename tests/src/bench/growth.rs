//! What an event costs as the node grows: records made by hand go through the pipeline and the encoder of this process,
//! with few and with many of whatever the agent has to remember.

use std::{sync::Arc, time::Instant};

use anyhow::{Result, ensure};
use postern::{
    detect::{AccessPolicy, AccessRule},
    event::{Container, Pod},
    pipeline::{Input, Lookup, Pipeline},
    pod::{ContainerFacts, PodFacts, PodUpdate},
    replay::{self, Exec, Written, in_container, key},
    sink::encode::Encoder,
};
use postern_ebpf::abi::{EntryMark, LoginCall, LoginClass};
use serde::{Deserialize, Serialize};

use crate::{compare::Spread, report::commit};

/// What there is more and more of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Of {
    /// Each of them starts others in turn.
    BusyProcesses,
    /// Only [`BUSY`] of them start others.
    Processes,
    Pods,
    Sessions,
    Rules,
}

/// How many processes start others where not all do.
const BUSY: u32 = 10;

impl Of {
    pub(crate) const ALL: [Self; 5] = [Self::BusyProcesses, Self::Processes, Self::Pods, Self::Sessions, Self::Rules];

    /// In words.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BusyProcesses => "live processes, all busy",
            Self::Processes => "live processes, ten busy",
            Self::Pods => "pods",
            Self::Sessions => "open sessions",
            Self::Rules => "access rules",
        }
    }

    fn counts(self, short: bool) -> &'static [u32] {
        match self {
            _ if short => &[1, 10],
            Self::BusyProcesses | Self::Processes => &[10, 100, 1_000, 10_000, 30_000],
            Self::Pods => &[1, 10, 100, 250, 1_000],
            Self::Sessions => &[1, 10, 100, 1_000],
            Self::Rules => &[1, 10, 100],
        }
    }
}

/// All curves.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Growth {
    /// They may be measured anew alone.
    pub(crate) commit: String,
    pub(crate) points: Vec<Point>,
}

/// One point of a curve.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) of: Of,
    pub(crate) count: u32,
    /// Nanoseconds for each record, from its bytes to the line.
    pub(crate) each: Spread,
    /// What all of them take in memory.
    pub(crate) bytes: u64,
}

/// A node with so many of them.
struct Crowd {
    of: Of,
    count: u32,
    pipeline: Pipeline,
    encoder: Encoder,
    line: Vec<u8>,
    sequence: u64,
    /// Of the next process.
    pid: u32,
    each: Vec<f64>,
    bytes: u64,
}

/// The pid of the first of the processes that stay.
const FIRST: u32 = 10;

/// Each round measures every point once.
pub(crate) fn measure(rounds: u32, short: bool) -> Result<Growth> {
    let commit = commit();
    let (warm, measured) = if short { (10, 100) } else { (8_192, 4_000) };
    let mut points = Vec::new();
    for of in Of::ALL {
        let mut crowds: Vec<Crowd> =
            of.counts(short).iter().map(|&count| Crowd::new(of, count)).collect::<Result<_>>()?;
        for crowd in &mut crowds {
            crowd.run(warm)?;
            crowd.each.clear();
        }
        for _ in 0..rounds {
            crowds.iter_mut().try_for_each(|crowd| crowd.run(measured))?;
        }
        points.extend(crowds.into_iter().map(|crowd| Point {
            of,
            count: crowd.count,
            each: Spread::of(crowd.each),
            bytes: crowd.bytes,
        }));
    }
    Ok(Growth { commit, points })
}

impl Crowd {
    fn new(of: Of, count: u32) -> Result<Self> {
        let rules = if of == Of::Rules { count } else { 0 };
        let pipeline =
            replay::pipeline(AccessPolicy { allow: (0..rules).map(rule).collect(), ..AccessPolicy::default() });
        let encoder = Encoder::new(replay::node());
        let (line, each) = (Vec::new(), Vec::new());
        let mut crowd = Self { of, count, pipeline, encoder, line, sequence: 0, pid: 1_000_000, each, bytes: 0 };
        let before = crate::MEMORY.current_usage();
        crowd.fill()?;
        crowd.bytes = crate::MEMORY.current_usage().saturating_sub(before) as u64;
        Ok(crowd)
    }

    fn fill(&mut self) -> Result<()> {
        if self.of == Of::Pods {
            let pods = (0..self.count).map(|number| Arc::new(pod(number))).collect();
            self.pipeline.input(Input::Pods(PodUpdate::Listed(pods)), 0);
        }
        for number in 0..self.count {
            let pid = FIRST + number;
            let records = match self.of {
                Of::BusyProcesses | Of::Processes | Of::Pods => vec![self.exec(pid, 1, number)],
                Of::Sessions => self.login(pid),
                Of::Rules => Vec::new(),
            };
            self.take(&records)?;
            if self.of == Of::Pods {
                let id: Arc<str> = container(number).into();
                let answer = Lookup::Found(Container { id: Arc::clone(&id), ..Container::default() });
                self.pipeline.input(Input::Container { id, answer }, 0);
                self.pipeline.take_events().for_each(drop);
            }
        }
        let sizes = self.pipeline.sizes();
        let there = match self.of {
            Of::BusyProcesses | Of::Processes => sizes.processes,
            Of::Pods => sizes.pods,
            Of::Sessions => sizes.sessions,
            Of::Rules => return Ok(()),
        };
        ensure!(there == self.count as usize, "{there} of {} {:?} are there", self.count, self.of);
        Ok(())
    }

    /// So many short processes, or logins; each below another of those that stay and are busy.
    fn run(&mut self, times: u32) -> Result<()> {
        let mut records = Vec::new();
        let busy = if self.of == Of::Processes { self.count.min(BUSY) } else { self.count };
        for turn in 0..times {
            // A prime steps through all of them in an order that no cache foresees.
            let number = turn.wrapping_mul(7_919) % busy;
            self.pid += 1;
            if self.of == Of::Rules {
                records.extend(self.login(self.pid));
            } else {
                records.push(self.exec(self.pid, FIRST + number, number));
            }
            self.sequence += 1;
            records.push(Written::exit(self.sequence - 1, self.pid, self.mark(number)));
        }
        let started = Instant::now();
        let lines = self.take(&records)?;
        self.each.push(started.elapsed().as_nanos() as f64 / records.len() as f64);
        // Of each process its exec and its end; of each login that nothing allows that it is open, its alert and its end.
        let wanted = times as usize * if self.of == Of::Rules { 3 } else { 2 };
        ensure!(lines == wanted, "{lines} lines of {wanted} with {} {:?}", self.count, self.of);
        ensure!(self.pipeline.holes() == 0 && self.pipeline.malformed() == 0, "the records make no sense");
        Ok(())
    }

    /// As the event loop does it. Returns how many lines came of them.
    fn take(&mut self, records: &[Written]) -> Result<usize> {
        let mut lines = 0;
        for record in records {
            self.pipeline.record(record.bytes())?;
            for event in self.pipeline.take_events() {
                self.line.clear();
                self.encoder.encode(&event, &mut self.line);
                lines += 1;
            }
        }
        Ok(lines)
    }

    fn exec(&mut self, pid: u32, previous: u32, number: u32) -> Written {
        self.sequence += 1;
        let (sequence, mark) = (self.sequence - 1, self.mark(number));
        let cgroup = match self.of {
            Of::Pods => format!("/kubepods/burstable/pod{}/{}", uid(number), container(number)),
            _ => "/system.slice/a.service".into(),
        };
        let exec = Exec { pid, previous, path: "/usr/bin/true", args: &["true", "--of", "nothing"], cgroup: &cgroup };
        let is_pod = self.of == Of::Pods;
        Written::exec(sequence, exec, |body| {
            body.entry = mark;
            if is_pod {
                in_container(if pid == FIRST + number { 1 } else { 7 })(body);
                body.cgroup_id = u64::from(1_000 + number);
            }
        })
    }

    fn mark(&self, number: u32) -> EntryMark {
        if self.of != Of::Sessions {
            return EntryMark::default();
        }
        let login = key(FIRST + number);
        EntryMark { login, leader: login, class: LoginClass::Sshd as u32, server: 0 }
    }

    fn login(&mut self, pid: u32) -> Vec<Written> {
        let calls = [(LoginCall::Start, "sshd"), (LoginCall::OpenSession, ""), (LoginCall::SessionOpened, "")];
        let first = self.sequence;
        self.sequence += calls.len() as u64;
        calls.iter().zip(first..).map(|(&(call, text), sequence)| Written::login(sequence, pid, call, text)).collect()
    }
}

/// One that does not match.
fn rule(number: u32) -> AccessRule {
    AccessRule { users: vec![format!("user-{number}").into()], ..AccessRule::default() }
}

fn uid(number: u32) -> String {
    format!("{number:08x}-0000-4000-8000-000000000000")
}

fn container(number: u32) -> String {
    format!("{number:064x}")
}

fn pod(number: u32) -> PodFacts {
    let pod = Pod {
        uid: uid(number).into(),
        name: format!("web-{number}").into(),
        namespace: "shop".into(),
        service_account: Some("web".into()),
        labels: [("app.kubernetes.io/name".into(), "web".into())].into(),
        owner: None,
    };
    let container = ContainerFacts {
        name: "web".into(),
        runtime: Some("containerd".into()),
        id: Some(container(number).into()),
        ..ContainerFacts::default()
    };
    PodFacts { pod: Arc::new(pod), containers: vec![Arc::new(container)], ..PodFacts::default() }
}
