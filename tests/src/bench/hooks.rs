//! What each kernel program takes, by the kernel's own statistics. In a run of its own: keeping them costs too.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::{
    load::{Ground, Load},
    watched::Watched,
};

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// One kernel program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hook {
    pub(crate) name: String,
    pub(crate) runs: u64,
    /// Nanoseconds each.
    pub(crate) each: f64,
}

/// Turns the statistics on, and back to what they were.
struct Statistics(String);

impl Statistics {
    fn on() -> Result<Self> {
        let before = fs::read_to_string(SWITCH)?;
        fs::write(SWITCH, "1")?;
        Ok(Self(before))
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        // A machine that let it be turned on lets it be turned off.
        let _ = fs::write(SWITCH, self.0.trim());
    }
}

/// Under a storm of execs.
pub(crate) fn measure(agent: &Path, folder: &Path, ground: &Ground) -> Result<Vec<Hook>> {
    let statistics = Statistics::on()?;
    let watched = Watched::start(agent, folder, "")?;
    let marker = format!("bench-{}-hooks", std::process::id());
    let done = ground.run(Load::Vfork, &marker)?;
    watched.settled()?;
    let hooks = read(watched.pid())?;
    drop(statistics);
    watched.check(&marker, done.execs)?;
    Ok(hooks)
}

/// The programs that a process holds open.
fn read(pid: u32) -> Result<Vec<Hook>> {
    let mut names = BTreeMap::new();
    for program in aya::programs::loaded_programs() {
        // One that another process unloads meanwhile is none of ours.
        let Ok(program) = program else { continue };
        names.insert(program.id(), program.name_as_str().unwrap_or("unnamed").to_owned());
    }
    let mut hooks = BTreeMap::new();
    for descriptor in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let Ok(text) = fs::read_to_string(descriptor?.path()) else { continue };
        let figure = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        let (Some(id), Some(time), Some(runs)) = (figure("prog_id:"), figure("run_time_ns:"), figure("run_cnt:"))
        else {
            continue;
        };
        let name = names.get(&u32::try_from(id)?).context("a program without a name")?.clone();
        if runs > 0 {
            hooks.insert(id, Hook { name, runs, each: time as f64 / runs as f64 });
        }
    }
    Ok(hooks.into_values().collect())
}
