//! Lists, watches and what continues them.

use postern::pod::PodUpdate;

use super::{DEADLINE, Watched, of, pod, pod_on, quick};
use crate::harness::api_server::{ApiServer, Asked, Fault, On};

#[test]
fn the_first_list_is_read_page_by_page_and_watched_from() {
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let server = ApiServer::start(names.iter().map(|name| pod(name)).chain([pod_on("elsewhere", "node-2")]));
    server.page(3);
    let mut watched = Watched::start(&server, quick());
    watched.expect_listed(&names);
    server.wait_for_open_watch(DEADLINE);
    watched.stop(&server);

    let requests = server.requests();
    let lists = of(Asked::List, &requests);
    assert_eq!(lists.len(), 3);
    assert_eq!(lists[0].query["resourceVersion"], "0", "the first list may come from the API server's cache");
    assert!(
        lists[1..]
            .iter()
            .all(|list| list.query.contains_key("continue") && !list.query.contains_key("resourceVersion"))
    );
    let watch = of(Asked::Watch, &requests)[0];
    assert_eq!((&*watch.query["allowWatchBookmarks"], &*watch.query["resourceVersion"]), ("true", "1008"));
}

#[test]
fn changes_come_as_they_happen_and_only_those_of_this_node() {
    let server = ApiServer::start([pod("a")]);
    let mut watched = Watched::start(&server, quick());
    watched.expect_listed(&["a"]);
    server.apply(pod_on("elsewhere", "node-2"));
    server.apply(pod("b"));
    watched.expect_applied("b");
    let mut changed = pod("a");
    changed["metadata"]["labels"] = serde_json::json!({"tier": "front"});
    server.apply(changed);
    assert_eq!(watched.expect_applied("a").pod.labels["tier"].as_ref(), "front");
    server.delete("uid-of-b");
    assert_eq!(watched.next(), PodUpdate::Deleted("uid-of-b".into()));
    watched.stop(&server);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_watch_that_ends_is_continued_from_the_last_bookmark() {
    let server = ApiServer::start([pod("a")]);
    let mut watched = Watched::start(&server, quick());
    watched.expect_listed(&["a"]);
    server.wait_for_open_watch(DEADLINE);
    let version = server.bookmark();
    server.end_watches();
    server.wait_for("a second watch", DEADLINE, |requests| of(Asked::Watch, requests).len() == 2);
    server.apply(pod("b"));
    watched.expect_applied("b");
    watched.stop(&server);
    let requests = server.requests();
    assert_eq!(of(Asked::Watch, &requests)[1].query["resourceVersion"], version);
    assert_eq!(of(Asked::List, &requests).len(), 1);
}

#[test]
fn what_happened_between_two_watches_is_not_missed() {
    let mut server = ApiServer::start([pod("a"), pod("b")]);
    let mut watched = Watched::start(&server, quick());
    watched.expect_listed(&["a", "b"]);
    server.wait_for_open_watch(DEADLINE);
    server.stop();
    watched.expect_unreachable("does not answer");
    server.delete("uid-of-a");
    server.apply(pod("c"));
    server.listen();
    watched.expect_reachable();
    assert_eq!(watched.next(), PodUpdate::Deleted("uid-of-a".into()));
    watched.expect_applied("c");
    watched.stop(&server);
    assert_eq!(of(Asked::List, &server.requests()).len(), 1);
}

#[test]
fn a_forgotten_resource_version_costs_one_list_of_what_is_stored() {
    let server = ApiServer::start([pod("a"), pod("b"), pod("c"), pod("d"), pod("e")]);
    let mut watched = Watched::start(&server, quick());
    watched.expect_listed(&["a", "b", "c", "d", "e"]);
    server.wait_for_open_watch(DEADLINE);
    server.compact();
    server.drop_connections();
    watched.expect_listed(&["a", "b", "c", "d", "e"]);
    server.wait_for("a third watch", DEADLINE, |requests| of(Asked::Watch, requests).len() == 3);
    server.delete("uid-of-e");
    assert_eq!(watched.next(), PodUpdate::Deleted("uid-of-e".into()));
    watched.stop(&server);
    let requests = server.requests();
    let lists = of(Asked::List, &requests);
    assert_eq!(lists.len(), 3, "one, and two pages");
    assert_eq!(
        (lists[1].query.get("limit").map(|limit| &**limit), lists[1].query.get("resourceVersion")),
        (Some("3"), None)
    );
}

#[test]
fn a_forgotten_resource_version_said_in_any_form_leads_to_a_list() {
    for fault in [Fault::gone(), Fault::gone_line()] {
        let server = ApiServer::start([pod("a")]);
        server.script(On::Watch, fault);
        let mut watched = Watched::start(&server, quick());
        watched.expect_listed(&["a"]);
        watched.expect_listed(&["a"]);
        server.wait_for("a second watch", DEADLINE, |requests| of(Asked::Watch, requests).len() == 2);
        watched.stop(&server);
    }
}

#[test]
fn a_list_that_expires_between_its_pages_is_begun_again() {
    let server = ApiServer::start([pod("a"), pod("b"), pod("c")]);
    server.page(2);
    server.script(On::List, Fault::Slow(std::time::Duration::ZERO));
    server.script(On::List, Fault::gone());
    let mut watched = Watched::start(&server, quick());
    watched.expect_listed(&["a", "b", "c"]);
    watched.stop(&server);
    assert_eq!(of(Asked::List, &server.requests()).len(), 4);
}

#[test]
fn a_full_node_of_large_pods_is_listed() {
    let large = |number: usize| {
        let mut pod = pod(&format!("pod-{number:03}"));
        let fields: Vec<_> =
            (0..20).map(|n| serde_json::json!({"manager": format!("m{n}"), "fieldsV1": "f".repeat(500)})).collect();
        pod["metadata"]["managedFields"] = serde_json::json!(fields);
        pod
    };
    let server = ApiServer::start((0..250).map(large));
    let mut watched = Watched::start(&server, quick());
    match watched.next() {
        PodUpdate::Listed(pods) => assert_eq!(pods.len(), 250),
        other => panic!("a list was expected, not {other:?}"),
    }
    watched.stop(&server);
}
