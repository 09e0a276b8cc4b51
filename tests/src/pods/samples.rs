//! Pods as clusters have them, all the way from the API server into the table.

use postern::pod::{ContainerKind, PodTable, PodUpdate};
use serde_json::{Value, json};

use super::{NODE, Watched, quick};
use crate::harness::api_server::ApiServer;

const ID: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";
const EARLIER: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const DEBUGGER: &str = "2222222222222222222222222222222222222222222222222222222222222222";

/// The mirror of a static pod of the control plane.
fn static_pod() -> Value {
    let hash = "6b3a1b5c7d8e9f00112233445566778899";
    json!({
        "metadata": {
            "uid": "9d3f0a4e-0000-4000-8000-000000000001", "name": format!("etcd-{NODE}"), "namespace": "kube-system",
            "annotations": {
                "kubernetes.io/config.hash": hash, "kubernetes.io/config.mirror": hash,
                "kubernetes.io/config.seen": "2026-01-01T00:00:00.000000000Z", "kubernetes.io/config.source": "file",
            },
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": NODE, "uid": "n", "controller": true}],
        },
        "spec": {
            "nodeName": NODE, "hostNetwork": true, "priorityClassName": "system-node-critical",
            "containers": [{"name": "etcd", "image": "registry.k8s.io/etcd:3.5.21-0", "livenessProbe": {"httpGet": {"port": 2381}}}],
        },
        "status": {"phase": "Pending"},
    })
}

/// A pod whose container ends again and again, and that somebody debugs.
fn crash_looping_pod() -> Value {
    json!({
        "metadata": {
            "uid": "9d3f0a4e-0000-4000-8000-000000000002", "name": "shop-7f9c-x2x4z", "namespace": "shop",
            "labels": {"app.kubernetes.io/name": "shop", "pod-template-hash": "7f9c"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-7f9c", "uid": "r", "controller": true}],
        },
        "spec": {
            "nodeName": NODE, "serviceAccountName": "shop",
            "initContainers": [{"name": "migrate", "image": "registry.example:5000/shop/migrate:2"}],
            "containers": [{
                "name": "shop", "image": "registry.example:5000/shop/shop:2",
                "readinessProbe": {"exec": {"command": ["/bin/grpc_health_probe", "-addr=:5000"]}},
            }],
            "ephemeralContainers": [{"name": "debugger-8xzrl", "image": "busybox", "targetContainerName": "shop", "stdin": true, "tty": true}],
        },
        "status": {
            "phase": "Running",
            "initContainerStatuses": [{
                "name": "migrate", "ready": true, "containerID": "containerd://3333",
                "state": {"terminated": {"exitCode": 0, "reason": "Completed", "containerID": "containerd://3333"}},
            }],
            "containerStatuses": [{
                "name": "shop", "ready": false, "restartCount": 12, "containerID": format!("containerd://{ID}"),
                "image": "registry.example:5000/shop/shop:2",
                "imageID": "registry.example:5000/shop/shop@sha256:4444444444444444444444444444444444444444444444444444444444444444",
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
                "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "containerID": format!("containerd://{EARLIER}")}},
            }],
            "ephemeralContainerStatuses": [{"name": "debugger-8xzrl", "containerID": format!("containerd://{DEBUGGER}"), "state": {"running": {}}}],
        },
    })
}

#[test]
fn pods_of_every_kind_are_found_by_what_their_cgroups_name() {
    let server = ApiServer::start([static_pod(), crash_looping_pod()]);
    let mut watched = Watched::start(&server, quick());
    let listed = watched.next();
    let mut table = PodTable::default();
    table.apply(&listed, 0);

    let etcd = table.pod_by_uid("6b3a1b5c7d8e9f00112233445566778899").expect("a static pod, by the hash");
    assert_eq!((&*etcd.pod.namespace, etcd.host_network), ("kube-system", true));
    let shop = table.describe(ID, Some("9d3f0a4e-0000-4000-8000-000000000002")).expect("a container, by its id");
    let image = shop.image.expect("an image");
    assert_eq!((shop.name.as_deref(), shop.runtime.as_deref()), (Some("shop"), Some("containerd")));
    assert_eq!((&*image.name, image.tag.as_deref()), ("registry.example:5000/shop/shop", Some("2")));
    assert!(image.digest.is_some_and(|digest| digest.starts_with("sha256:4444")));
    assert_eq!(shop.pod.expect("a pod").owner.as_ref().map(|owner| &*owner.name), Some("shop-7f9c"));
    assert_eq!(&*table.container(EARLIER).expect("the run before").container.name, "shop");
    assert_eq!(table.container(DEBUGGER).expect("the debugger").container.kind, ContainerKind::Ephemeral);
    assert_eq!(table.container("3333").expect("the init container").container.kind, ContainerKind::Init);

    server.delete("9d3f0a4e-0000-4000-8000-000000000002");
    let deleted = watched.next();
    assert!(matches!(deleted, PodUpdate::Deleted(_)), "{deleted:?}");
    table.apply(&deleted, 1);
    assert!(table.container(ID).is_some(), "its last processes end after it is gone");
    watched.stop(&server);
}
