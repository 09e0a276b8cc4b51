//! Whether a maintenance of the node is on, by what its object in the API server says and by the time. What is known stays while
//! the API server cannot be asked, but never beyond the end that was announced.

use std::sync::Arc;

use crate::{
    event::{Maintenance, MaintenanceStep, Timestamp},
    pod::{Announced, NodeUpdate},
};

/// How far ahead the end of a maintenance may lie: whoever forgets an annotation leaves no door open for ever.
const LONGEST: jiff::SignedDuration = jiff::SignedDuration::from_hours(7 * 24);

/// What is known of maintenances.
#[derive(Default)]
pub(super) struct Maintenances {
    on: Option<Arc<Maintenance>>,
    /// What was announced last, so that it is told once what is wrong with it.
    announced: Announced,
}

/// What is to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// A maintenance began, changed or ended.
    Step(MaintenanceStep, Arc<Maintenance>),
    /// Something that makes no sense, or that cannot be known, in words.
    Problem(Arc<str>),
}

impl Maintenances {
    /// The one that is on, as far as is known; the time says whether it still is.
    pub(super) fn known(&self) -> Option<&Arc<Maintenance>> {
        self.on.as_ref()
    }

    /// The API server spoke of the node.
    pub(super) fn update(&mut self, update: &NodeUpdate, now: Timestamp) -> Vec<Told> {
        match update {
            NodeUpdate::Listed(nodes) => {
                self.announce(nodes.first().map(|node| node.announced.clone()).unwrap_or_default(), now)
            }
            NodeUpdate::Applied(node) => self.announce(node.announced.clone(), now),
            NodeUpdate::Deleted(_) => self.announce(Announced::Nothing, now),
            NodeUpdate::Unreachable { reason } => {
                let kept = if self.on.is_some() { "; the one that is on ends when it was to end" } else { "" };
                vec![Told::Problem(format!("maintenances of the node cannot be known: {reason}{kept}").into())]
            }
            NodeUpdate::Reachable => vec![Told::Problem("maintenances of the node are known again".into())],
            // Said already, of pods.
            NodeUpdate::Standalone { .. } => Vec::new(),
        }
    }

    /// Time has gone by.
    pub(super) fn tick(&mut self, now: Timestamp) -> Option<Told> {
        let ended = self.on.take_if(|on| now >= on.until)?;
        Some(Told::Step(MaintenanceStep::Ended, ended))
    }

    fn announce(&mut self, announced: Announced, now: Timestamp) -> Vec<Told> {
        let mut told: Vec<Told> = self.tick(now).into_iter().collect();
        if announced == self.announced {
            return told;
        }
        let (next, problem) = judge(&announced, now);
        self.announced = announced;
        told.extend(problem.map(Told::Problem));
        let step = match (&self.on, &next) {
            (None, Some(_)) => MaintenanceStep::Begun,
            (Some(_), Some(_)) => MaintenanceStep::Changed,
            (Some(_), None) => MaintenanceStep::Ended,
            (None, None) => return told,
        };
        let before = std::mem::replace(&mut self.on, next.map(Arc::new));
        told.extend(self.on.clone().or(before).map(|it| Told::Step(step, it)));
        told
    }
}

/// The maintenance that was announced, and what is wrong with what was.
fn judge(announced: &Announced, now: Timestamp) -> (Option<Maintenance>, Option<Arc<str>>) {
    let problem = |annotation: &str, problem: &str| {
        (None, Some(format!("no maintenance: the node's annotation `{annotation}` {problem}").into()))
    };
    match announced {
        Announced::Nothing => (None, None),
        Announced::Senseless { annotation, problem: what } => problem(annotation, what),
        Announced::Maintenance { until, until_key, .. } if *until <= now => {
            problem(until_key, "names a time that is over")
        }
        Announced::Maintenance { until, until_key, .. } if until.duration_since(now) > LONGEST => {
            problem(until_key, "names a time that is more than 7 days ahead")
        }
        Announced::Maintenance { ticket, until, .. } => {
            (Some(Maintenance { ticket: Arc::clone(ticket), since: now, until: *until }), None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::NodeFacts;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn node(announced: Announced) -> NodeUpdate {
        NodeUpdate::Applied(Arc::new(NodeFacts { uid: "u".into(), announced }))
    }

    fn maintenance(ticket: &str, until: &str) -> NodeUpdate {
        node(Announced::Maintenance { ticket: ticket.into(), until: at(until), until_key: "x/until".into() })
    }

    fn steps(told: &[Told]) -> Vec<(MaintenanceStep, &str)> {
        let step = |told| match told {
            &Told::Step(step, ref maintenance) => (step, &*maintenance.ticket),
            Told::Problem(problem) => panic!("{problem}"),
        };
        told.iter().map(step).collect()
    }

    fn problem(told: &[Told]) -> &str {
        match told {
            [Told::Problem(problem)] => problem,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_maintenance_begins_changes_and_ends_once() {
        use MaintenanceStep::{Begun, Changed, Ended};
        let (mut it, now) = (Maintenances::default(), at("2026-11-23T08:00:00Z"));
        let first = maintenance("OPS-7", "2026-11-23T09:00:00Z");
        assert_eq!(steps(&it.update(&first, now)), [(Begun, "OPS-7")]);
        assert_eq!(it.update(&first, now), [], "it was told");
        assert_eq!(steps(&it.update(&maintenance("OPS-8", "2026-11-23T10:00:00Z"), now)), [(Changed, "OPS-8")]);
        assert_eq!(it.tick(at("2026-11-23T09:59:59Z")), None);
        assert_eq!(steps(&[it.tick(at("2026-11-23T10:00:00Z")).expect("over")]), [(Ended, "OPS-8")]);
        assert_eq!(it.tick(at("2026-11-23T10:00:01Z")), None);
        assert_eq!(it.update(&node(Announced::Nothing), at("2026-11-23T10:00:02Z")), []);
        assert_eq!(
            steps(&it.update(&maintenance("OPS-9", "2026-11-23T11:00:00Z"), at("2026-11-23T10:30:00Z"))),
            [(Begun, "OPS-9")]
        );
        assert_eq!(steps(&it.update(&NodeUpdate::Listed(vec![]), at("2026-11-23T10:31:00Z"))), [(Ended, "OPS-9")]);
    }

    #[test]
    fn what_makes_no_sense_is_told_once_and_is_no_maintenance() {
        let (mut it, now) = (Maintenances::default(), at("2026-11-23T08:00:00Z"));
        let senseless = node(Announced::Senseless { annotation: "x/ticket".into(), problem: "names no ticket" });
        assert!(problem(&it.update(&senseless, now)).contains("`x/ticket` names no ticket"));
        assert_eq!(it.update(&senseless, now), []);
        for (until, why) in [("2026-11-23T08:00:00Z", "is over"), ("2027-11-23T08:00:00Z", "7 days ahead")] {
            let told = it.update(&maintenance("OPS-7", until), now);
            assert!(problem(&told).contains("`x/until`") && problem(&told).contains(why), "{told:?}");
            assert!(it.known().is_none());
        }
    }

    #[test]
    fn an_api_server_that_goes_away_neither_ends_nor_prolongs_one() {
        let (mut it, now) = (Maintenances::default(), at("2026-11-23T08:00:00Z"));
        it.update(&maintenance("OPS-7", "2026-11-23T09:00:00Z"), now);
        let told = it.update(&NodeUpdate::Unreachable { reason: "gone".into() }, now);
        assert!(problem(&told).contains("ends when it was to end"), "{told:?}");
        assert!(it.known().is_some_and(|it| it.covers(now) && !it.covers(at("2026-11-23T09:00:00Z"))));
        assert!(it.tick(at("2026-11-23T09:00:00Z")).is_some() && it.known().is_none());
    }
}
