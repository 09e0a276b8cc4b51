//! Short processes for a long time: what the agent holds in memory must not grow with them.

use std::{
    path::Path,
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    load::Ground,
    report::commit,
    watched::{Account, Watched},
};

/// Processes a second: five million in an hour.
const PACE: u32 = 1_390;
/// How often memory is looked at over the whole time.
const LOOKS: u32 = 12;

/// An agent under such a load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Churn {
    /// Of the agent: this row stays while others are measured anew.
    pub(crate) commit: String,
    pub(crate) processes: u64,
    pub(crate) minutes: u32,
    /// Bytes resident, one after the other, evenly over the time.
    pub(crate) resident: Vec<u64>,
}

/// So many minutes of it. Fails if anything is lost.
pub(crate) fn measure(agent: &Path, folder: &Path, ground: &Ground, minutes: u32) -> Result<Churn> {
    let commit = commit();
    let watched = Watched::start_rotating(agent, folder, "", "64MiB")?;
    let processes = u64::from(minutes) * 60 * u64::from(PACE);
    let (done, ended) = channel();
    let resident = thread::scope(|scope| -> Result<Vec<u64>> {
        let load = scope.spawn(move || {
            let result = ground.churn("churn", processes, PACE);
            // Nobody hears it where the agent is gone already.
            let _ = done.send(());
            result
        });
        let mut resident = Vec::new();
        let every = Duration::from_mins(u64::from(minutes)) / LOOKS;
        while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            resident.push(watched.memory()?.resident);
        }
        load.join().map_err(|_| anyhow::anyhow!("the load panicked"))??;
        Ok(resident)
    })?;
    watched.settled()?;
    let Account { received, lost } = watched.account()?;
    ensure!(received >= 2 * processes && lost == 0, "{received} records of {processes} processes, {lost} lost");
    Ok(Churn { commit, processes, minutes, resident })
}
