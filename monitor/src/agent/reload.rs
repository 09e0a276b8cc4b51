//! Reads the configuration again on SIGHUP, and when the file has changed: as a whole, or not at all. The access policy is
//! taken over; open sessions keep what was decided when they opened. Anything else takes a restart, and that is said.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    time::interval,
};

use super::{
    inbox::{Inbox, Message},
    tell,
};
use crate::{
    config::{Config, Problem},
    detect::AccessPolicy,
    event::AgentEvent,
    pipeline::Input,
};

/// How often the file is looked at. Kubernetes replaces the link to a `ConfigMap`'s files, and tells nobody.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Where the configuration comes from.
pub struct Reload {
    /// The file.
    pub file: PathBuf,
    /// Reads it, with what the command line adds.
    pub load: Box<dyn Fn() -> Result<Config, Vec<Problem>> + Send + Sync>,
}

/// What tells one state of a file from another: its device, inode, length and time.
type Mark = (u64, u64, u64, i64, i64);

fn mark(file: &Path) -> Option<Mark> {
    let it = fs::metadata(file).ok()?;
    Some((it.dev(), it.ino(), it.len(), it.mtime(), it.mtime_nsec()))
}

/// Reloads for ever. The error is that signals cannot be waited for.
pub(super) async fn serve(reload: Reload, mut current: Config, inbox: Inbox) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut look = interval(LOOK_EVERY);
    let mut seen = mark(&reload.file);
    loop {
        let asked = tokio::select! {
            _ = hangup.recv() => true,
            _ = look.tick() => false,
        };
        let now = mark(&reload.file);
        if !asked && (now == seen || now.is_none()) {
            continue;
        }
        seen = now;
        let message = match (reload.load)() {
            Ok(next) => {
                let (policy, message) = take_over(&mut current, next);
                if let Some(policy) = policy {
                    tell(&inbox, Message::Input(Input::Policy(policy))).await;
                }
                message
            }
            Err(problems) => {
                let first = problems.first().map(ToString::to_string).unwrap_or_default();
                format!("the configuration has {} problems and stays as it was: {first}", problems.len())
            }
        };
        tracing::info!("{message}");
        let changed = AgentEvent::Changed { message: message.into() };
        tell(&inbox, Message::Input(Input::Agent(changed))).await;
    }
}

/// What is to apply from now on, and what to say of it.
fn take_over(current: &mut Config, next: Config) -> (Option<AccessPolicy>, String) {
    if next.access.terminates() && !current.access.terminates() {
        return (None, "the configuration stays as it was: to terminate sessions takes a restart".to_owned());
    }
    let rest = Config { access: current.access.clone(), ..next.clone() } != *current;
    let changed = next.access != current.access;
    let mut message = if changed {
        format!("the access policy was reloaded: {} rules", next.access.allow.len())
    } else {
        "the access policy has not changed".to_owned()
    };
    if rest {
        message.push_str("; the rest of what has changed takes a restart");
    }
    current.access.clone_from(&next.access);
    (changed.then_some(next.access), message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{AccessRule, OnViolation};

    #[test]
    fn only_the_policy_is_taken_over_and_all_else_is_said() {
        let mut current = Config::default();
        let access =
            AccessPolicy { allow: vec![AccessRule { line: 2, ..AccessRule::default() }], ..AccessPolicy::default() };
        let next = Config { access: access.clone(), ..Config::default() };
        let (policy, message) = take_over(&mut current, next.clone());
        assert_eq!((policy, &*message), (Some(access.clone()), "the access policy was reloaded: 1 rules"));
        assert_eq!(take_over(&mut current, next.clone()).0, None);
        let (policy, message) = take_over(&mut current, Config { admin: None, ..next.clone() });
        assert!(policy.is_none() && message.ends_with("takes a restart"), "{message}");
        let terminate = AccessPolicy { on_violation: OnViolation::Terminate, ..access };
        let (policy, message) = take_over(&mut current, Config { access: terminate, ..next });
        assert!(policy.is_none() && message.contains("takes a restart"), "{message}");
    }
}
