//! All that reaches the pipeline beside records and the time.

use std::sync::Arc;

use postern_ebpf::abi::{HookCounters, HookId, Inheritance, ProcessKey, TaskState};
use rustc_hash::FxHashMap;

use crate::{
    detect::AccessPolicy,
    event::{AgentEvent, Container, Termination},
    files::Touch,
    pod::{NodeUpdate, PodUpdate},
    process::users::Passwd,
};

use super::origins::{Holders, Question};

/// Whatever can change the pipeline's mind, beside records.
#[derive(Debug)]
pub enum Input {
    /// The API server spoke of the node's pods.
    Pods(PodUpdate),
    /// The API server spoke of the node itself.
    Node(NodeUpdate),
    /// The runtime was asked for a container.
    Container {
        /// Its id.
        id: Arc<str>,
        /// What it said.
        answer: Lookup,
    },
    /// What each process that runs goes on with, where that is another's program or a login. Read before the records that were
    /// handed in last.
    Inherited {
        /// By process, in no particular order.
        told: Vec<Inheritance>,
        /// When it was asked, in nanoseconds since boot.
        asked_ns: u64,
    },
    /// All that runs, after a loss: once, and once more half a second later.
    Running {
        /// As the kernel side tells it: exec records without arguments. None where it could not be asked.
        records: Vec<u8>,
        /// The arguments of those that [`super::Pipeline::unseen`] names, by pid, each ended by a zero byte; of those that have gone
        /// since there are none.
        args: FxHashMap<u32, Vec<u8>>,
        /// When that was, in nanoseconds since boot.
        asked_ns: u64,
    },
    /// The node's users are these from now on.
    Users(Passwd),
    /// The access policy is this from now on.
    Policy(AccessPolicy),
    /// A process of a session was killed, as was asked for.
    Terminated {
        /// The process.
        process: ProcessKey,
        /// Its session, and why it could not be killed.
        termination: Termination,
    },
    /// Who has the connection was looked up.
    Origin(Question, Holders),
    /// Files are watched from now on, or are not.
    FilesWatched(bool),
    /// What was done to files, read before the records that were handed in last. Comes again and again while they are watched.
    Files {
        /// By whom, and what.
        touches: Vec<Touch>,
        /// The lineage of those who never executed, by pid.
        forks: FxHashMap<u32, TaskState>,
    },
    /// What stands in a table of cron's: all that are there when files begin to be watched, and then each that the pipeline asked
    /// for. Nothing stands in one that is gone.
    CronTable {
        /// Its path on the node.
        path: Arc<str>,
        /// Its bytes.
        content: Vec<u8>,
    },
    /// The node's clock was looked at.
    Clock {
        /// When this boot began by it, in nanoseconds since 1970.
        boot_time_ns: i128,
    },
    /// The kernel side's counters.
    Counters(Vec<(HookId, HookCounters)>),
    /// The agent speaks of itself.
    Agent(AgentEvent),
}

/// What became of asking the runtime for a container.
#[derive(Debug)]
pub enum Lookup {
    /// It knows it.
    Found(Container),
    /// It knows none with that id.
    Unknown,
    /// It could not be asked: it will be again.
    Failed,
}
