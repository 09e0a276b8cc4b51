//! Everything that an API server and the network before it do wrong: said once, retried for ever, without a storm of requests, and nothing missed.

use std::{io::Write, time::Duration};

use postern::pod::{ApiMode, ApiSettings, Bounds};

use super::{DEADLINE, NODE, Watched, of, pod, quick};
use crate::harness::api_server::{ApiServer, Asked, Fault, On};

#[test]
fn a_server_that_is_absent_at_first_is_found_when_it_appears() {
    let mut server = ApiServer::prepare([pod("a")]);
    let mut watched = Watched::start(&server, quick());
    watched.expect_unreachable("does not answer");
    server.listen();
    watched.expect_listed(&["a"]);
    watched.expect_reachable();
    watched.stop(&server);
}

#[test]
fn what_denies_the_list_is_said_in_plain_words_and_once() {
    let cases = [
        (Fault::unauthorized(), "does not accept the token (401 Unauthorized"),
        (Fault::forbidden(), "may not list and watch pods (403 Forbidden: pods is forbidden"),
        (Fault::internal(), "refuses (500 InternalError: Internal error occurred: etcdserver"),
        (Fault::Plain(503, "no backend\u{1b}[31m"), "refuses (503 Service Unavailable: no backend\\u{1b}[31m"),
        (
            Fault::Raw(b"HTTP/1.1 302 Found\r\nLocation: https://192.0.2.1/\r\nContent-Length: 0\r\n\r\n".to_vec()),
            "refuses (302 Found",
        ),
        (Fault::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), "does not answer"),
        (Fault::Garbage(b"<html>\xff\0</html>".to_vec()), "makes no sense"),
        (Fault::HalfJson, "makes no sense (EOF while parsing"),
        (Fault::CutShort, "does not answer"),
        (Fault::Drop, "does not answer"),
    ];
    for (fault, words) in cases {
        let server = ApiServer::start([pod("a")]);
        server.script_until_healed(On::List, fault);
        let mut watched = Watched::start(&server, quick());
        watched.expect_unreachable(words);
        server.wait_for("more attempts", DEADLINE, |requests| requests.len() >= 5);
        server.heal();
        watched.expect_listed(&["a"]);
        watched.expect_reachable();
        watched.stop(&server);
    }
}

#[test]
fn an_outage_that_changes_its_cause_says_so() {
    let mut server = ApiServer::prepare([pod("a")]);
    server.script_until_healed(On::List, Fault::forbidden());
    let mut watched = Watched::start(&server, quick());
    watched.expect_unreachable("does not answer");
    server.listen();
    watched.expect_unreachable("403");
    server.heal();
    watched.expect_listed(&["a"]);
    watched.expect_reachable();
    watched.stop(&server);
}

#[test]
fn a_watch_that_is_denied_is_said_though_the_list_is_not() {
    let server = ApiServer::start([pod("a")]);
    server.script_until_healed(On::Watch, Fault::forbidden());
    let mut watched = Watched::start(&server, quick());
    watched.expect_listed(&["a"]);
    watched.expect_unreachable("403");
    server.heal();
    watched.expect_reachable();
    server.apply(pod("b"));
    watched.expect_applied("b");
    watched.stop(&server);
    assert_eq!(of(Asked::List, &server.requests()).len(), 1, "the list stays good");
}

#[test]
fn a_token_that_is_no_longer_known_is_said() {
    let server = ApiServer::start([pod("a")]);
    let mut watched = Watched::start(&server, quick());
    watched.expect_listed(&["a"]);
    server.wait_for_open_watch(DEADLINE);
    server.expect_token("another");
    server.drop_connections();
    watched.expect_unreachable("does not accept the token");
    watched.stop(&server);
}

#[test]
fn a_connection_dropped_in_the_middle_of_a_line_loses_nothing() {
    for fault in [Fault::CutShort, Fault::Drop, Fault::EndAtOnce] {
        let server = ApiServer::start([pod("a")]);
        let dropped = matches!(fault, Fault::Drop);
        server.script(On::Watch, fault);
        let mut watched = Watched::start(&server, quick());
        watched.expect_listed(&["a"]);
        server.apply(pod("b"));
        if dropped {
            watched.expect_unreachable("does not answer");
            watched.expect_reachable();
        }
        watched.expect_applied("b");
        watched.stop(&server);
        assert_eq!(of(Asked::List, &server.requests()).len(), 1);
    }
}

#[test]
fn garbage_in_a_watch_is_said_and_made_good_by_a_list() {
    let wrong_type = br#"{"type":"ADDED","object":{"metadata":{"uid":"u","name":"n","namespace":"s","labels":7}}}"#;
    let nameless = br#"{"type":"ADDED","object":{"metadata":{"resourceVersion":"7"}}}"#;
    let unknown = br#"{"type":"EXPLODED","object":{}}"#;
    for garbage in [&wrong_type[..], nameless, unknown, b"\xff\xfe\0", b"null", b"[[[[[[[[", b""] {
        let server = ApiServer::start([pod("a")]);
        server.script(On::Watch, Fault::Garbage(garbage.to_vec()));
        let mut watched = Watched::start(&server, quick());
        watched.expect_listed(&["a"]);
        watched.expect_unreachable("makes no sense");
        watched.expect_listed(&["a"]);
        watched.expect_reachable();
        server.apply(pod("b"));
        watched.expect_applied("b");
        watched.stop(&server);
    }
}

#[test]
fn half_an_object_in_a_whole_line_is_made_good_by_a_list() {
    let server = ApiServer::start([pod("a")]);
    server.script(On::Watch, Fault::HalfJson);
    let mut watched = Watched::start(&server, quick());
    watched.expect_listed(&["a"]);
    server.apply(pod("b"));
    watched.expect_unreachable("makes no sense");
    watched.expect_listed(&["a", "b"]);
    watched.expect_reachable();
    watched.stop(&server);
}

#[test]
fn what_does_not_end_is_not_read_to_the_end() {
    let server = ApiServer::start([pod("a")]);
    server.script(On::List, Fault::Endless(70_000));
    server.script(On::Watch, Fault::Endless(70_000));
    let bounds = Bounds { page_bytes: 1 << 16, line_bytes: 1 << 16 };
    let kubeconfig = Some(server.kubeconfig_path().to_owned());
    let mut watched = Watched::with(ApiSettings { mode: ApiMode::Auto, kubeconfig, pace: quick(), bounds }, NODE);
    watched.expect_unreachable("a list longer than");
    watched.expect_listed(&["a"]);
    watched.expect_reachable();
    watched.expect_unreachable("a line longer than");
    watched.expect_listed(&["a"]);
    watched.expect_reachable();
    watched.stop(&server);
}

#[test]
fn a_server_that_does_not_answer_is_asked_again() {
    let server = ApiServer::start([pod("a")]);
    server.script(On::List, Fault::Silent);
    server.script(On::Watch, Fault::Silent);
    let mut watched = Watched::start(&server, super::Pace { answer: Duration::from_millis(200), ..quick() });
    watched.expect_unreachable("no whole answer within 200ms");
    watched.expect_listed(&["a"]);
    server.wait_for("a second watch", DEADLINE, |requests| of(Asked::Watch, requests).len() == 2);
    watched.expect_reachable();
    watched.stop(&server);
}

#[test]
fn a_slow_server_is_waited_for() {
    let server = ApiServer::start([pod("a")]);
    server.script(On::List, Fault::Slow(Duration::from_millis(300)));
    server.script(On::Watch, Fault::Slow(Duration::from_millis(300)));
    let mut watched = Watched::start(&server, quick());
    watched.expect_listed(&["a"]);
    server.apply(pod("b"));
    watched.expect_applied("b");
    watched.stop(&server);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_watch_gone_silent_is_given_up_when_its_time_is_over() {
    let server = ApiServer::start([pod("a")]);
    server.script(On::Watch, Fault::Mute);
    let mut watched = Watched::start(&server, super::Pace { watch: Duration::from_secs(1), ..quick() });
    watched.expect_listed(&["a"]);
    server.apply(pod("b"));
    watched.expect_applied("b");
    watched.stop(&server);
    let requests = server.requests();
    let both = of(Asked::Watch, &requests);
    assert_eq!((&*both[0].query["timeoutSeconds"], &*both[1].query["resourceVersion"]), ("1", "1001"));
}

#[test]
fn a_server_that_asks_for_a_pause_gets_it() {
    let server = ApiServer::start([pod("a")]);
    server.script(On::List, Fault::too_many_requests(Duration::from_secs(1)));
    let mut watched = Watched::start(&server, quick());
    watched.expect_unreachable("429 TooManyRequests");
    watched.expect_listed(&["a"]);
    watched.expect_reachable();
    watched.stop(&server);
    let requests = server.requests();
    assert!(requests[1].at - requests[0].at >= Duration::from_secs(1));
}

#[test]
fn a_proxy_that_asks_for_a_pause_gets_it() {
    let server = ApiServer::start([pod("a")]);
    let answer = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 5\r\n\r\nlater";
    server.script(On::List, Fault::Raw(answer.to_vec()));
    let mut watched = Watched::start(&server, quick());
    watched.expect_unreachable("429 Too Many Requests: later");
    watched.expect_listed(&["a"]);
    watched.expect_reachable();
    watched.stop(&server);
    let requests = server.requests();
    assert!(requests[1].at - requests[0].at >= Duration::from_secs(1));
}

#[test]
fn an_explanation_that_does_not_end_is_not_read_to_the_end() {
    let server = ApiServer::start([pod("a")]);
    let head = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 9000000000\r\n\r\n";
    server.script(On::List, Fault::Raw([&head[..], &vec![b'x'; 100_000]].concat()));
    let mut watched = Watched::start(&server, quick());
    watched.expect_unreachable("refuses (length limit exceeded");
    watched.expect_listed(&["a"]);
    watched.expect_reachable();
    watched.stop(&server);
}

#[test]
fn a_server_that_cannot_prove_who_it_is_gets_no_token() {
    let (server, other) = (ApiServer::start([pod("a")]), ApiServer::start([]));
    let trusts_other = std::fs::read_to_string(other.kubeconfig_path()).expect("a kubeconfig file");
    let mut leads_here = tempfile::NamedTempFile::new().expect("a temporary file");
    let kubeconfig = trusts_other.replace(&other.address().to_string(), &server.address().to_string());
    leads_here.write_all(kubeconfig.as_bytes()).expect("a file to write to");
    let kubeconfig = Some(leads_here.path().to_owned());
    let settings = ApiSettings { mode: ApiMode::Auto, kubeconfig, pace: quick(), bounds: Bounds::default() };
    let mut watched = Watched::with(settings, NODE);
    watched.expect_unreachable("invalid peer certificate");
    watched.stop(&server);
    assert!(server.requests().is_empty());
}

#[test]
fn no_fault_makes_a_storm_of_requests() {
    let faults = [
        (On::Watch, Fault::EndAtOnce),
        (On::Watch, Fault::gone()),
        (On::Watch, Fault::gone_line()),
        (On::Watch, Fault::Drop),
        (On::Watch, Fault::Garbage(b"?".to_vec())),
        (On::Any, Fault::internal()),
    ];
    for (on, fault) in faults {
        let server = ApiServer::start([pod("a")]);
        server.script_until_healed(on, fault.clone());
        let pace =
            super::Pace { retry_min: Duration::from_millis(10), retry_max: Duration::from_millis(80), ..quick() };
        let mut watched = Watched::start(&server, pace);
        // A list that succeeds leads to a watch at once; every other request follows a failure, and a wait.
        let waits = |requests: &[super::Request]| {
            let after_wait = |pair: &[super::Request]| (pair[0].asked, pair[1].asked) != (Asked::List, Asked::Watch);
            let pairs = requests.windows(2).filter(|pair| after_wait(pair));
            pairs.map(|pair| pair[1].at - pair[0].at).collect::<Vec<_>>()
        };
        server.wait_for("six waits", DEADLINE, |requests| waits(requests).len() >= 6);
        watched.cancel.cancel();
        watched.result().expect("a watch that is cancelled ends well");
        for (wait, least) in waits(&server.requests()).iter().zip([10, 20, 40, 80, 80, 80]) {
            assert!(*wait >= Duration::from_millis(least), "{fault:?}: {wait:?} is less than {least} ms");
        }
    }
}
