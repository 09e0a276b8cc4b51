//! A node's ordinary life before the agent: kubelet's probes, containers that come and go, cron, the rotation of logs, the
//! timers of the distribution, packages. Nobody comes in, so whatever looks as if somebody did is a false alarm; and whatever
//! was done must have been told, or the silence would mean nothing.

mod chores;
mod kubelet;
mod told;

use std::time::{Duration, Instant};

use self::{chores::Chores, kubelet::Kubelets, told::Told};
use crate::harness::{
    agent::{Agent, is_exec_of},
    containerd::Containerd,
};

/// The last line of a life without a false alarm.
pub const QUIET: &str = "quiet: no false alarm, no loss, no malformed record";
/// How often a long life says how it goes.
const REPORT: u32 = 5;

/// Something that was done, how often, and how often that was told: none where another witness counts alone.
struct Done {
    what: String,
    times: u64,
    told: Option<u64>,
}

impl Done {
    /// What must have been told as often as it was done.
    fn told(what: &str, times: u64, told: u64) -> Self {
        Self { what: what.to_owned(), times, told: Some(told) }
    }

    /// What somebody else than the agent has counted.
    fn witnessed(what: &str, times: u64) -> Self {
        Self { what: what.to_owned(), times, told: None }
    }

    fn is_right(&self) -> bool {
        self.told.is_none_or(|told| told == self.times)
    }
}

/// Why it cannot be lived here, if it cannot.
pub fn unavailable() -> Option<String> {
    chores::unavailable().or_else(Containerd::unavailable)
}

/// Lives it for so many minutes, and says what was done and what was told of it. Returns whether there was no false alarm.
pub fn live(minutes: u32, say: impl Fn(&str)) -> bool {
    let containerd = Containerd::start();
    let mut kubelets = Kubelets::prepare(&containerd);
    let mut agent = Agent::start_with(&kubelets.configuration());
    kubelets.wait_until_watched();
    let mut told = Told::default();
    let chores = Chores::start();
    kubelets.start();
    let started = Instant::now();
    for minute in 1..=minutes {
        agent.follow(started + Duration::from_mins(minute.into()), |event| told.hear(&event));
        if minute % REPORT == 0 {
            say(&format!("after {minute} minutes: {told}"));
        }
    }
    let lived = kubelets.stop();
    let chores = chores.stop();
    std::process::Command::new("/bin/true").arg("behind-it-all").status().expect("true runs");
    agent.wait_for("the end of it all", |event| is_exec_of(event, "behind-it-all"));
    agent.stop_unchecked().events.iter().for_each(|event| told.hear(event));
    told.finish();
    let mut is_quiet = told.is_quiet();
    let lived = lived.done(&told).into_iter().map(|done| (done, false));
    // An emulated node on a busy machine does not get to every chore in a minute.
    let chores = chores.done(&told).into_iter().map(|done| (done, minutes < REPORT));
    for (done, may_lack) in lived.chain(chores) {
        // What was not done at all shows nothing.
        let word = match (done.is_right(), done.times > 0 || may_lack) {
            (true, true) if done.times == 0 => "unplayed",
            (true, true) => "ok",
            _ => "WRONG",
        };
        is_quiet &= word != "WRONG";
        let told = done.told.map(|told| format!(", {told} told")).unwrap_or_default();
        say(&format!("{word} {}: {} done{told}", done.what, done.times));
    }
    told.alarms().for_each(|alarm| say(&format!("FALSE ALARM {alarm}")));
    say(&format!("{minutes} minutes: {told}"));
    if is_quiet {
        say(QUIET);
    }
    is_quiet
}
