//! What is said before anything is sent.

use std::path::PathBuf;

use postern::pod::{ApiMode, ApiSettings, Bounds, ConnectError, PodUpdate, WatchError};

use super::{NODE, Watched, pod, quick};
use crate::harness::api_server::ApiServer;

fn settings(mode: ApiMode, kubeconfig: Option<PathBuf>) -> ApiSettings {
    ApiSettings { mode, kubeconfig, pace: quick(), bounds: Bounds::default() }
}

#[track_caller]
fn expect_standalone(mode: ApiMode, words: &str) {
    let mut watched = Watched::with(settings(mode, None), NODE);
    match watched.next() {
        PodUpdate::Standalone { reason } if reason.contains(words) => {}
        other => panic!("{words:?} was expected, not {other:?}"),
    }
    watched.result().expect("a node alone is no error");
}

#[test]
fn a_machine_without_a_cluster_says_so_once_and_goes_on() {
    expect_standalone(ApiMode::Auto, "no service account");
    expect_standalone(ApiMode::Off, "switched off");
}

#[test]
fn a_machine_without_the_cluster_that_is_required_is_an_error() {
    let error = Watched::with(settings(ApiMode::Required, None), NODE).result().expect_err("nothing to find");
    assert!(matches!(error, WatchError::Connect(ConnectError::NoServiceAccount { .. })), "{error}");
}

#[test]
fn a_kubeconfig_that_cannot_be_used_is_an_error_in_every_mode() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let garbage = folder.path().join("garbage");
    std::fs::write(&garbage, b"]\xff[").expect("a file");
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "{}").expect("a file");
    for path in [garbage, empty, folder.path().join("absent"), folder.path().to_owned()] {
        let error =
            Watched::with(settings(ApiMode::Auto, Some(path.clone())), NODE).result().expect_err("no kubeconfig");
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
    }
}

#[test]
fn a_name_that_no_node_can_have_is_not_asked_for() {
    let server = ApiServer::start([pod("a")]);
    for name in ["", "node-1,status.phase=Running", "node 1", "NODE"] {
        let kubeconfig = Some(server.kubeconfig_path().to_owned());
        let error = Watched::with(settings(ApiMode::Auto, kubeconfig), name).result().expect_err("no node's name");
        assert!(matches!(error, WatchError::NodeName(_)), "{error}");
    }
    assert!(server.requests().is_empty());
}

#[test]
fn the_watch_ends_when_nobody_listens() {
    let server = ApiServer::start([pod("a")]);
    let mut watched = Watched::start(&server, quick());
    watched.expect_listed(&["a"]);
    watched.updates.close();
    server.apply(pod("b"));
    watched.result().expect("an end without an error");
}
