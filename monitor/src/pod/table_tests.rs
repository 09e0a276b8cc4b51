use proptest::prelude::*;

use super::*;
use crate::event::Pod;

const MINUTE: u64 = 60 * 1_000_000_000;

fn pod(uid: &str, containers: &[(&str, Option<&str>)]) -> Arc<PodFacts> {
    let containers = containers.iter().map(|(id, previous)| ContainerFacts {
        name: "main".into(),
        id: Some((*id).into()),
        previous_id: previous.map(Into::into),
        ..ContainerFacts::default()
    });
    Arc::new(PodFacts {
        pod: Arc::new(Pod { uid: uid.into(), name: format!("pod-{uid}").into(), ..Pod::default() }),
        containers: containers.map(Arc::new).collect(),
        ..PodFacts::default()
    })
}

fn mirror(uid: &str, hash: &str) -> Arc<PodFacts> {
    Arc::new(PodFacts { config_hash: Some(hash.into()), ..PodFacts::clone(&pod(uid, &[])) })
}

fn name_of(table: &PodTable, uid: &str) -> Option<String> {
    table.pod_by_uid(uid).map(|pod| pod.pod.name.to_string())
}

#[test]
fn pods_are_found_by_uid_and_containers_by_id() {
    let mut table = PodTable::default();
    table.apply(&PodUpdate::Listed(vec![pod("a", &[("c1", Some("c0"))]), pod("b", &[])]), 0);
    assert_eq!(name_of(&table, "a").as_deref(), Some("pod-a"));
    assert_eq!(name_of(&table, "x"), None);
    for id in ["c1", "c0"] {
        assert_eq!(&*table.container(id).expect("a container").pod.pod.uid, "a");
    }
    assert!(table.container("c2").is_none());
    let described = table.describe("unheard-of", Some("b")).expect("the pod is known");
    assert_eq!((described.name, described.pod.map(|pod| pod.uid.to_string())), (None, Some("b".to_owned())));
    assert!(table.describe("unheard-of", None).is_none());
}

#[test]
fn a_container_that_has_no_name_yet_is_the_only_one_without_an_id() {
    let with = |names: [(&str, Option<&str>); 3]| {
        let container = |(name, id): (&str, Option<&str>)| ContainerFacts {
            name: name.into(),
            id: id.map(Into::into),
            ..ContainerFacts::default()
        };
        let containers = names.map(container).map(Arc::new).to_vec();
        let mut table = PodTable::default();
        table.apply(&PodUpdate::Applied(Arc::new(PodFacts { containers, ..PodFacts::clone(&pod("a", &[])) })), 0);
        table
    };
    let found = |table: &PodTable, name: Option<&str>| {
        let container = Container {
            id: "unheard-of".into(),
            name: name.map(Into::into),
            pod_uid: Some("a".into()),
            ..Container::default()
        };
        let found = table.find(&container).or_else(|| table.find_unnamed(&container));
        found.map(|found| found.container.name.to_string())
    };
    let one = with([("init", Some("c0")), ("main", None), ("proxy", Some("c2"))]);
    assert_eq!(found(&one, None).as_deref(), Some("main"));
    assert_eq!(found(&one, Some("proxy")).as_deref(), Some("proxy"));
    assert_eq!(found(&one, Some("other")), None);
    assert_eq!(found(&with([("init", Some("c0")), ("main", None), ("proxy", None)]), None), None);
    assert_eq!(found(&with([("init", Some("c0")), ("main", Some("c1")), ("proxy", Some("c2"))]), None), None);
}

#[test]
fn a_deleted_pod_is_remembered_for_a_while() {
    let mut table = PodTable::default();
    table.apply(&PodUpdate::Applied(pod("a", &[("c1", None)])), 0);
    table.apply(&PodUpdate::Deleted("a".into()), MINUTE);
    table.apply(&PodUpdate::Reachable, 5 * MINUTE);
    assert!(table.pod_by_uid("a").is_some() && table.container("c1").is_some());
    assert_eq!((table.counts().living, table.counts().remembered), (0, 1));
    table.apply(&PodUpdate::Reachable, 6 * MINUTE);
    assert!(table.pod_by_uid("a").is_none() && table.container("c1").is_none());
    assert_eq!(table.counts(), TableCounts::default());
}

#[test]
fn a_new_list_forgets_nobody_at_once() {
    let mut table = PodTable::default();
    table.apply(&PodUpdate::Listed(vec![pod("a", &[("c1", None)]), pod("b", &[])]), 0);
    table.apply(&PodUpdate::Deleted("b".into()), 0);
    table.apply(&PodUpdate::Listed(vec![pod("c", &[])]), MINUTE);
    assert!(table.pod_by_uid("a").is_some() && table.pod_by_uid("b").is_some() && table.container("c1").is_some());
    assert_eq!(table.counts().living, 1);
    table.apply(&PodUpdate::Listed(vec![pod("c", &[])]), 6 * MINUTE);
    assert!(table.pod_by_uid("a").is_none() && table.pod_by_uid("b").is_none() && table.pod_by_uid("c").is_some());
}

#[test]
fn a_pod_that_comes_back_lives() {
    let mut table = PodTable::default();
    let a = pod("a", &[("c1", None)]);
    table.apply(&PodUpdate::Listed(vec![a.clone()]), 0);
    table.apply(&PodUpdate::Listed(vec![]), MINUTE);
    table.apply(&PodUpdate::Listed(vec![a]), 2 * MINUTE);
    table.apply(&PodUpdate::Reachable, 60 * MINUTE);
    assert!(table.pod_by_uid("a").is_some() && table.container("c1").is_some());
    assert_eq!((table.counts().living, table.counts().remembered), (1, 0));
}

#[test]
fn a_containers_earlier_runs_are_remembered_for_a_while() {
    let mut table = PodTable::default();
    table.apply(&PodUpdate::Applied(pod("a", &[("c1", None)])), 0);
    table.apply(&PodUpdate::Applied(pod("a", &[("c2", Some("c1"))])), MINUTE);
    table.apply(&PodUpdate::Applied(pod("a", &[("c3", Some("c2"))])), 2 * MINUTE);
    assert!(["c1", "c2", "c3"].iter().all(|id| table.container(id).is_some()));
    table.apply(&PodUpdate::Applied(pod("a", &[("c3", Some("c2"))])), 8 * MINUTE);
    assert!(table.container("c1").is_none());
    assert!(["c2", "c3"].iter().all(|id| table.container(id).is_some()));
}

#[test]
fn a_static_pod_is_found_by_its_hash_which_nobody_else_can_take() {
    let mut table = PodTable::default();
    table.apply(&PodUpdate::Applied(mirror("real", "hash")), 0);
    table.apply(&PodUpdate::Applied(mirror("thief", "hash")), 0);
    table.apply(&PodUpdate::Applied(mirror("thief-2", "real")), 0);
    assert_eq!(name_of(&table, "hash").as_deref(), Some("pod-real"));
    assert_eq!(name_of(&table, "real").as_deref(), Some("pod-real"));
    assert_eq!(table.counts().refused, 1);
    // Kubelet makes the mirror anew: it has another UID, and the static pod the same.
    table.apply(&PodUpdate::Deleted("real".into()), 0);
    table.apply(&PodUpdate::Applied(mirror("real-2", "hash")), MINUTE);
    assert_eq!(name_of(&table, "hash").as_deref(), Some("pod-real-2"));
    table.apply(&PodUpdate::Reachable, 10 * MINUTE);
    assert_eq!(name_of(&table, "hash").as_deref(), Some("pod-real-2"));
}

#[test]
fn what_it_holds_is_bounded() {
    let mut table = PodTable::default();
    for n in 0..PODS + 10 {
        table.apply(&PodUpdate::Applied(pod(&format!("p{n}"), &[(&format!("c{n}"), None)])), 0);
    }
    assert_eq!((table.counts().living, table.counts().refused), (PODS, 10));
    table.apply(&PodUpdate::Listed(vec![]), 1);
    let counts = table.counts();
    assert_eq!((counts.living, counts.remembered, counts.containers), (0, REMEMBERED, REMEMBERED));
}

fn any_update() -> impl Strategy<Value = PodUpdate> {
    let one = (0..6_u8, prop::collection::vec((0..9_u8, prop::option::of(0..9_u8)), 0..3), prop::option::of(0..6_u8))
        .prop_map(|(uid, ids, hash)| {
            let ids: Vec<_> =
                ids.iter().map(|(id, previous)| (format!("c{id}"), previous.map(|id| format!("c{id}")))).collect();
            let ids: Vec<_> = ids.iter().map(|(id, previous)| (&**id, previous.as_deref())).collect();
            let facts = PodFacts::clone(&pod(&format!("u{uid}"), &ids));
            Arc::new(PodFacts { config_hash: hash.map(|hash| format!("u{hash}").into()), ..facts })
        });
    prop_oneof![
        one.clone().prop_map(PodUpdate::Applied),
        (0..6_u8).prop_map(|uid| PodUpdate::Deleted(format!("u{uid}").into())),
        prop::collection::vec(one, 0..5).prop_map(PodUpdate::Listed),
    ]
}

proptest! {
    /// Whatever comes in whatever order, the living are the pods applied and not deleted since, and the figures agree.
    #[test]
    fn the_living_are_always_found(updates in prop::collection::vec((any_update(), 0..3 * MINUTE), 0..40)) {
        let mut table = PodTable::default();
        let mut living = std::collections::BTreeSet::new();
        let mut now = 0;
        for (update, later) in updates {
            now += later;
            table.apply(&update, now);
            match update {
                PodUpdate::Listed(pods) => living = pods.iter().map(|pod| pod.pod.uid.clone()).collect(),
                PodUpdate::Applied(pod) => _ = living.insert(pod.pod.uid.clone()),
                PodUpdate::Deleted(uid) => _ = living.remove(&uid),
                _ => {}
            }
            prop_assert_eq!(table.counts().living, living.len());
            for uid in &living {
                prop_assert_eq!(table.pod_by_uid(uid).map(|pod| pod.pod.uid.clone()), Some(uid.clone()));
            }
        }
        table.apply(&PodUpdate::Listed(vec![]), now);
        table.apply(&PodUpdate::Reachable, now + 6 * MINUTE);
        let TableCounts { refused, cut, .. } = table.counts();
        prop_assert_eq!(table.counts(), TableCounts { refused, cut, ..TableCounts::default() });
        prop_assert!(table.mirrors.is_empty());
    }
}
