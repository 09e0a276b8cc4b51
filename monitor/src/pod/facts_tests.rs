use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn facts(pod: Value) -> PodFacts {
    read(serde_json::from_value(pod).expect("the view takes every pod")).expect("a usable pod")
}

fn metadata(extra: &Value) -> Value {
    let mut metadata = json!({"uid": "u-1", "name": "web", "namespace": "shop"});
    let fields = metadata.as_object_mut().expect("an object");
    fields.extend(extra.as_object().expect("an object").clone());
    metadata
}

const ID_A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const ID_B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

#[test]
fn a_pod_without_status_has_its_names() {
    let facts = facts(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": metadata(&json!({
            "labels": {"app": "web"}, "annotations": null, "managedFields": [{"manager": "x", "fieldsV1": {"f:spec": {}}}],
            "ownerReferences": [
                {"kind": "Job", "name": "not-the-controller", "uid": "1"},
                {"kind": "ReplicaSet", "name": "web-5d", "uid": "2", "controller": true},
            ],
        })),
        "spec": {"serviceAccountName": "web", "containers": [{"name": "main", "image": "registry.example:5000/web:1"}]},
    }));
    assert_eq!((&*facts.pod.name, &*facts.pod.namespace, &*facts.pod.uid), ("web", "shop", "u-1"));
    assert_eq!(facts.pod.service_account.as_deref(), Some("web"));
    assert_eq!(facts.pod.labels.get("app").map(|value| &**value), Some("web"));
    let owner = facts.pod.owner.as_ref().expect("an owner");
    assert_eq!((&*owner.kind, &*owner.name), ("ReplicaSet", "web-5d"));
    let container = &facts.containers[0];
    assert_eq!((&*container.name, container.id.as_deref(), container.kind), ("main", None, ContainerKind::Regular));
    assert_eq!(container.image.as_ref().map(|image| &*image.name), Some("registry.example:5000/web"));
    assert_eq!(facts.cut, 0);
}

#[test]
fn a_mirror_pod_has_the_uid_of_its_static_pod() {
    let annotated = |hash: &str, mirror: &str| {
        let annotations = json!({
            "kubernetes.io/config.hash": hash, "kubernetes.io/config.mirror": mirror,
            "kubernetes.io/config.seen": "2026-01-01T00:00:00Z", "kubernetes.io/config.source": "file",
        });
        facts(json!({"metadata": metadata(&json!({"annotations": annotations}))})).config_hash
    };
    assert_eq!(annotated("0d4b", "0d4b").as_deref(), Some("0d4b"));
    assert_eq!(annotated("0d4b", "something else"), None);
    let alone = json!({"annotations": {"kubernetes.io/config.hash": "0d4b"}});
    assert_eq!(facts(json!({"metadata": metadata(&alone)})).config_hash, None);
}

#[test]
fn init_regular_and_ephemeral_containers_keep_their_kinds() {
    let facts = facts(json!({
        "metadata": metadata(&json!({})),
        "spec": {
            "hostNetwork": true, "hostPID": true,
            "initContainers": [{"name": "setup", "image": "busybox"}],
            "containers": [{"name": "main", "image": "web", "securityContext": {"privileged": true, "runAsUser": 0}}],
            "ephemeralContainers": [{"name": "debugger-x", "image": "busybox", "stdin": true, "targetContainerName": "main"}],
        },
        "status": {
            "initContainerStatuses": [{"name": "setup", "containerID": format!("containerd://{ID_A}")}],
            "containerStatuses": [{"name": "main", "containerID": format!("cri-o://{ID_B}")}],
            "ephemeralContainerStatuses": [{"name": "debugger-x", "containerID": "docker://1234"}],
        },
    }));
    let seen: Vec<_> = facts
        .containers
        .iter()
        .map(|one| (&*one.name, one.kind, one.runtime.as_deref(), one.id.as_deref(), one.privileged))
        .collect();
    assert_eq!(
        seen,
        [
            ("setup", ContainerKind::Init, Some("containerd"), Some(ID_A), false),
            ("main", ContainerKind::Regular, Some("cri-o"), Some(ID_B), true),
            ("debugger-x", ContainerKind::Ephemeral, Some("docker"), Some("1234"), false),
        ]
    );
    assert!(facts.host_network && facts.host_pid && !facts.host_ipc);
}

#[test]
fn a_crash_looping_container_is_known_by_its_last_run() {
    let status = |id: Value| {
        json!({"name": "main", "restartCount": 7, "containerID": id, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
               "lastState": {"terminated": {"exitCode": 1, "containerID": format!("containerd://{ID_A}")}}})
    };
    let run = |id: Value| {
        let facts = facts(json!({
            "metadata": metadata(&json!({})), "spec": {"containers": [{"name": "main"}]},
            "status": {"containerStatuses": [status(id)]},
        }));
        let container = &facts.containers[0];
        (container.id.as_deref().map(str::to_owned), container.previous_id.as_deref().map(str::to_owned))
    };
    // Kubelet names the ended run in both places while it waits.
    assert_eq!(run(json!(format!("containerd://{ID_A}"))), (Some(ID_A.into()), None));
    assert_eq!(run(json!(format!("containerd://{ID_B}"))), (Some(ID_B.into()), Some(ID_A.into())));
    assert_eq!(run(json!(null)), (None, Some(ID_A.into())));
}

#[test]
fn the_image_is_what_runs_with_the_digest_of_the_registry() {
    let digest = format!("sha256:{ID_A}");
    let image = |spec: &str, image: &str, image_id: &str| {
        let facts = facts(json!({
            "metadata": metadata(&json!({})), "spec": {"containers": [{"name": "main", "image": spec}]},
            "status": {"containerStatuses": [{"name": "main", "image": image, "imageID": image_id}]},
        }));
        let image = facts.containers[0].image.clone().unwrap_or_default();
        (image.name.to_string(), image.tag.as_deref().map(str::to_owned), image.digest.as_deref().map(str::to_owned))
    };
    let full = "docker.io/library/web";
    assert_eq!(
        image("web:1", &format!("{full}:1"), &format!("{full}@{digest}")),
        (full.to_owned(), Some("1".to_owned()), Some(digest.clone()))
    );
    // An image that the runtime knows by its id alone.
    assert_eq!(image("web:1", &digest, &digest), ("web".to_owned(), Some("1".to_owned()), None));
    assert_eq!(image("", "", ""), (String::new(), None, None));
}

#[test]
fn commands_of_probes_and_hooks_are_kept_whole_or_not_at_all() {
    let long = "x".repeat(COMMAND_BYTES + 1);
    let facts = facts(json!({
        "metadata": metadata(&json!({})),
        "spec": {"containers": [{
            "name": "main",
            "livenessProbe": {"exec": {"command": ["cat", "/tmp/healthy"]}, "periodSeconds": 5},
            "readinessProbe": {"httpGet": {"path": "/", "port": 80}},
            "startupProbe": {"exec": {"command": [long]}},
            "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "sleep 5"]}}, "postStart": null},
        }]},
    }));
    let commands: Vec<_> = facts.containers[0].commands.iter().map(|one| (one.purpose, one.args.join(" "))).collect();
    assert_eq!(
        commands,
        [
            (CommandPurpose::Liveness, "cat /tmp/healthy".to_owned()),
            (CommandPurpose::PreStop, "sh -c sleep 5".to_owned())
        ]
    );
    assert_eq!(facts.cut, 1);
}

#[test]
fn what_is_too_long_or_too_much_is_cut_and_counted() {
    let mut labels: serde_json::Map<_, _> = (0..LABELS + 3).map(|n| (format!("l{n:03}"), json!("v"))).collect();
    labels.insert("a".to_owned(), json!("\u{1F980}".repeat(LABEL_VALUE_BYTES)));
    labels.insert("k".repeat(LABEL_KEY_BYTES + 1), json!("v"));
    let containers: Vec<_> = (0..CONTAINERS + 2).map(|n| json!({"name": format!("c{n}")})).collect();
    let facts = facts(json!({"metadata": metadata(&json!({"labels": labels})), "spec": {"containers": containers}}));
    assert_eq!(facts.pod.labels.len(), LABELS);
    assert!(facts.pod.labels["a"].len() <= LABEL_VALUE_BYTES);
    assert_eq!(facts.containers.len(), CONTAINERS);
    // One value cut, four labels and one key too many, two containers too many.
    assert_eq!(facts.cut, 1 + 4 + 1 + 2);
}

#[test]
fn a_pod_must_say_which_it_is() {
    let read = |pod: Value| read(serde_json::from_value(pod).expect("the view takes it")).map(|_| ());
    assert_eq!(read(json!({})), Err(Unusable::Nameless));
    assert_eq!(read(json!({"metadata": {"uid": null, "name": "a", "namespace": "b"}})), Err(Unusable::Nameless));
    let long = "n".repeat(NAME_BYTES + 1);
    assert_eq!(read(json!({"metadata": {"uid": "u", "name": long, "namespace": "b"}})), Err(Unusable::Overlong));
}

/// JSON that looks like a pod here and there.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,40}".prop_map(Value::from),
        "(containerd|docker|)(://)?[a-f0-9]{0,70}(@sha256:[a-f0-9]{0,64})?".prop_map(Value::from),
    ];
    let key = prop_oneof![
        prop::sample::select(vec![
            "metadata",
            "uid",
            "name",
            "namespace",
            "labels",
            "annotations",
            "ownerReferences",
            "controller",
            "kind",
            "spec",
            "containers",
            "initContainers",
            "image",
            "status",
            "containerStatuses",
            "containerID",
            "imageID",
            "lastState",
            "terminated",
            "exec",
            "command",
            "livenessProbe",
            "securityContext",
            "privileged",
            "kubernetes.io/config.hash",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,12}",
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(key.clone(), inner, 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_json_makes_it_panic(json in any_json()) {
        if let Ok(view) = serde_json::from_value::<PodView>(json) {
            let _ = read(view);
        }
    }

    #[test]
    fn no_names_and_references_make_it_panic(texts in prop::collection::vec("\\PC{0,300}", 12), label in "\\PC{0,400}") {
        let status = json!({"name": texts[0], "image": texts[1], "imageID": texts[2], "containerID": texts[3],
                            "lastState": {"terminated": {"containerID": texts[4]}}});
        let pod = json!({
            "metadata": {"uid": texts[5], "name": texts[6], "namespace": texts[7], "labels": {(label): texts[8]}},
            "spec": {"containers": [{"name": texts[0], "image": texts[9]}], "serviceAccountName": texts[10]},
            "status": {"containerStatuses": [status]},
        });
        let view = serde_json::from_value::<PodView>(pod).expect("right types");
        if let Ok(facts) = read(view) {
            prop_assert!(facts.pod.labels.values().all(|value| value.len() <= LABEL_VALUE_BYTES));
            prop_assert!(facts.containers.iter().all(|one| one.name.len() <= NAME_BYTES));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = serde_json::from_slice::<PodView>(&bytes);
    }
}
