//! A node with many processes and pods, and many people on it: how soon the agent watches it, and what it then holds in memory.

use std::{
    ffi::CString,
    path::Path,
    process::Child,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use postern_tests::harness::{api_server::ApiServer, sshd::Sshd};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    compare::Spread,
    load::Ground,
    spawn::vfork,
    watched::{DEADLINE, Memory, Watched},
};

/// How often the agent is started on each where it is measured: one start by itself says little on a machine that others share.
const STARTS: usize = 5;

/// An agent on such a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Crowd {
    pub(crate) processes: usize,
    pub(crate) pods: usize,
    /// Of people who stay logged in by SSH: they come once the agent is ready.
    pub(crate) sessions: usize,
    /// Seconds from its start until it is ready, of each start.
    pub(crate) ready: Spread,
    pub(crate) memory: Memory,
}

/// Processes that wait, and are ended with this.
struct Waiting(Vec<Pid>);

impl Waiting {
    fn start(program: &Path, count: usize) -> Result<Self> {
        let path = CString::new(program.as_os_str().as_encoded_bytes())?;
        let mut waiting = Self(Vec::with_capacity(count));
        for number in 0..count {
            let argument = CString::new(number.to_string())?;
            waiting.0.push(vfork(&path, &[&path, &argument])?);
        }
        Ok(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        for &pid in &self.0 {
            let _ = kill_process(pid, Signal::KILL);
        }
        for &pid in &self.0 {
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

/// People who are logged in, until it is dropped.
struct People {
    clients: Vec<Child>,
    /// Ends after them.
    _server: Option<Sshd>,
}

impl People {
    /// So many of them log in. Only so many knock at once: each takes a processor a good while to prove who he is.
    fn come(count: usize, watched: &Watched) -> Result<Self> {
        const AT_ONCE: usize = 8;
        let server = (count > 0).then(|| Sshd::start_with("MaxStartups 100"));
        let mut people = Self { clients: Vec::with_capacity(count), _server: None };
        for number in 0..count {
            people.clients.extend(server.as_ref().map(Sshd::stay).transpose()?);
            people.wait_for(watched, (number + 1).saturating_sub(AT_ONCE))?;
        }
        people.wait_for(watched, count)?;
        Ok(Self { clients: std::mem::take(&mut people.clients), _server: server })
    }

    fn wait_for(&self, watched: &Watched, count: usize) -> Result<()> {
        let end = Instant::now() + DEADLINE;
        while watched.metric("postern_sessions")? < count as u64 {
            ensure!(Instant::now() < end, "{} asked, and fewer than {count} are known to be in", self.clients.len());
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for People {
    fn drop(&mut self) {
        for client in &mut self.clients {
            let _ = client.kill().and_then(|()| client.wait());
        }
    }
}

/// A small node, then ten thousand processes and 250 pods, then a thousand people beside them.
pub(crate) fn measure(agent: &Path, folder: &Path, ground: &Ground, short: bool) -> Result<Vec<Crowd>> {
    let sizes = if short {
        [(0, 0, 0), (100, 10, 0), (100, 10, 2)]
    } else {
        [(0, 0, 0), (10_000, 250, 0), (10_000, 250, 1_000)]
    };
    let possible = |&(_, _, sessions): &(usize, usize, usize)| sessions == 0 || Sshd::unavailable().is_none();
    sizes
        .into_iter()
        .filter(possible)
        .map(|size| crowd(agent, folder, ground, size, if short { 1 } else { STARTS }))
        .collect()
}

fn crowd(
    agent: &Path,
    folder: &Path,
    ground: &Ground,
    (processes, pods, sessions): (usize, usize, usize),
    starts: usize,
) -> Result<Crowd> {
    let waiting = Waiting::start(&ground.pause(), processes)?;
    let server = (pods > 0).then(|| ApiServer::start((0..pods).map(pod)));
    let kubeconfig = server.as_ref().map(|server| server.kubeconfig_path().display().to_string());
    let more = kubeconfig.map(|path| format!("node: {{name: node-1}}\nkubernetes: {{kubeconfig: {path}}}"));
    let mut ready = Vec::new();
    let watched = loop {
        let started = Instant::now();
        let watched = Watched::start(agent, folder, more.as_deref().unwrap_or(""))?;
        ready.push(started.elapsed().as_secs_f64());
        if ready.len() == starts {
            break watched;
        }
        watched.check_stream()?;
    };
    let end = Instant::now() + DEADLINE;
    while watched.metric("postern_pods")? < pods as u64 {
        ensure!(Instant::now() < end, "the pods are not known");
        thread::sleep(Duration::from_millis(50));
    }
    let people = People::come(sessions, &watched)?;
    watched.settled()?;
    let memory = watched.memory()?;
    watched.check_stream()?;
    drop((people, waiting));
    Ok(Crowd { processes, pods, sessions, ready: Spread::of(ready), memory })
}

/// A pod as an ordinary Deployment makes it.
fn pod(number: usize) -> serde_json::Value {
    let container = format!("{number:064x}");
    json!({
        "metadata": {
            "uid": format!("{number:08x}-0000-4000-8000-000000000000"), "name": format!("web-{number}"), "namespace": "shop",
            "labels": {"app.kubernetes.io/name": "web", "app.kubernetes.io/part-of": "shop", "pod-template-hash": "7f9c"},
            "ownerReferences":
                [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7f9c", "uid": "r", "controller": true}],
        },
        "spec": {
            "nodeName": "node-1", "serviceAccountName": "web",
            "containers": [{"name": "web", "image": "registry.example/shop/web:1"}],
        },
        "status": {
            "phase": "Running",
            "containerStatuses": [{
                "name": "web", "ready": true, "restartCount": 0, "containerID": format!("containerd://{container}"),
                "image": "registry.example/shop/web:1", "imageID": "registry.example/shop/web@sha256:4444",
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
            }],
        },
    })
}
