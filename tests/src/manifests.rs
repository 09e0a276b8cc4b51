//! What must hold of the manifests in `deploy/kustomize`, whatever else changes in them: how little the agent may do, and
//! that the configuration in them is one that the agent takes. No cluster is asked.

use std::path::PathBuf;

use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{ConfigMap, Namespace, ServiceAccount},
    rbac::v1::{ClusterRole, ClusterRoleBinding},
};
use postern::{
    config::{Config, KubernetesMode, Surroundings},
    sink::settings::Target,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/kustomize")
}

/// Every document of a file.
fn documents(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder().join(name)).expect("a manifest");
    serde_saphyr::from_multiple(&text).expect("YAML")
}

fn document(name: &str) -> Value {
    let mut documents = documents(name);
    assert_eq!(documents.len(), 1, "{name}");
    documents.remove(0)
}

/// Holds a document against the API's own type: what the type does not know does not come back from it.
fn typed<T: DeserializeOwned + Serialize>(document: &Value) -> T {
    let object: T = serde_json::from_value(document.clone()).expect("an object of its kind");
    assert_eq!(&serde_json::to_value(&object).expect("JSON"), document, "unknown fields");
    object
}

fn daemon_set() -> Value {
    document("base/daemonset.yaml")
}

/// The one container of the one pod.
fn container() -> Value {
    let pod = daemon_set()["spec"]["template"]["spec"].clone();
    assert_eq!(pod["containers"].as_array().expect("containers").len(), 1);
    assert_eq!((&pod["initContainers"], &pod["ephemeralContainers"]), (&Value::Null, &Value::Null));
    pod["containers"][0].clone()
}

/// The configuration in a `ConfigMap`, as the agent reads it on a node called `node-1`.
fn configuration(name: &str) -> Config {
    let text = document(name)["data"]["postern.yaml"].as_str().expect("a configuration").to_owned();
    let surroundings =
        Surroundings { node_name: Some("node-1".to_owned()), read_secret: |_| Ok("a shared key".to_owned()) };
    Config::parse(&text, name, &surroundings).expect("a configuration without problems")
}

#[test]
fn every_resource_is_listed_and_is_what_the_api_takes() {
    let listed = document("base/kustomization.yaml")["resources"].clone();
    assert_eq!(
        listed,
        json!(["namespace.yaml", "serviceaccount.yaml", "rbac.yaml", "configmap.yaml", "daemonset.yaml"])
    );
    typed::<Namespace>(&document("base/namespace.yaml"));
    typed::<ServiceAccount>(&document("base/serviceaccount.yaml"));
    typed::<ConfigMap>(&document("base/configmap.yaml"));
    typed::<DaemonSet>(&daemon_set());
    let rbac = documents("base/rbac.yaml");
    assert_eq!(rbac.len(), 2);
    typed::<ClusterRole>(&rbac[0]);
    typed::<ClusterRoleBinding>(&rbac[1]);
}

#[test]
fn the_agent_may_read_pods_and_nodes_and_nothing_else() {
    let rbac = documents("base/rbac.yaml");
    let read =
        |resource: &str| json!({ "apiGroups": [""], "resources": [resource], "verbs": ["get", "list", "watch"] });
    assert_eq!(rbac[0]["rules"], json!([read("pods"), read("nodes")]));
    assert_eq!(rbac[1]["roleRef"]["name"], rbac[0]["metadata"]["name"]);
    let account = document("base/serviceaccount.yaml")["metadata"].clone();
    let subject = json!([{ "kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"] }]);
    assert_eq!(rbac[1]["subjects"], subject);
    assert_eq!(daemon_set()["spec"]["template"]["spec"]["serviceAccountName"], account["name"]);
}

#[test]
fn the_container_has_what_it_needs_and_is_not_privileged() {
    let context = container()["securityContext"].clone();
    assert_eq!(context["privileged"], json!(false));
    assert_eq!(context["allowPrivilegeEscalation"], json!(false));
    assert_eq!(context["readOnlyRootFilesystem"], json!(true));
    assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
    let added = json!(["BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH", "SYS_ADMIN"]);
    assert_eq!(context["capabilities"]["add"], added);
    assert_eq!(context["seccompProfile"]["type"], json!("RuntimeDefault"));
}

#[test]
fn the_pod_shares_the_nodes_processes_and_nothing_else() {
    let pod = daemon_set()["spec"]["template"]["spec"].clone();
    assert_eq!(pod["hostPID"], json!(true));
    assert_eq!((&pod["hostNetwork"], &pod["hostIPC"]), (&Value::Null, &Value::Null));
    let volumes = pod["volumes"].as_array().expect("volumes");
    assert!(volumes.iter().all(|volume| volume["hostPath"].is_null()), "{volumes:?}");
    assert_eq!(pod["tolerations"], json!([{ "operator": "Exists" }]));
}

#[test]
fn the_pod_is_bounded_and_asked_how_it_is() {
    let container = container();
    for kind in ["requests", "limits"] {
        for resource in ["cpu", "memory"] {
            assert!(container["resources"][kind][resource].is_string(), "{kind} {resource}");
        }
    }
    assert_eq!(container["livenessProbe"]["exec"]["command"], json!(["/postern", "health"]));
    assert_eq!(container["readinessProbe"]["exec"]["command"], json!(["/postern", "health", "--ready"]));
    assert_eq!(container["image"], json!(format!("localhost/postern:{}", env!("CARGO_PKG_VERSION"))));
    let grace = daemon_set()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64().expect("seconds");
    assert!(grace > configuration("base/configmap.yaml").shutdown_deadline.as_secs(), "{grace} s");
}

#[test]
fn the_configuration_is_one_that_the_agent_takes() {
    let config = configuration("base/configmap.yaml");
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(config.node.as_deref(), Some("node-1"));
    assert_eq!(config.kubernetes.mode, KubernetesMode::Required);
    // The agent looks for it where the volume is mounted.
    assert_eq!(container()["volumeMounts"][0]["mountPath"], json!("/etc/postern"));
    assert_eq!(postern::config::DEFAULT_PATH, "/etc/postern/postern.yaml");
    let admin = config.admin.expect("health is served");
    assert!(admin.ip().is_loopback(), "{admin}");
}

#[test]
fn the_example_with_fluentd_speaks_tls_and_finds_its_files() {
    let config = configuration("overlays/fluentd/configmap.yaml");
    let fluentd = config.sinks.iter().find_map(|sink| match &sink.target {
        Target::Fluentd(settings) => Some(settings),
        _ => None,
    });
    let settings = fluentd.expect("a Fluentd sink");
    let tls = settings.tls.as_ref().expect("TLS");
    assert!(settings.shared_key.is_some());
    let patch = document("overlays/fluentd/daemonset.yaml");
    let mount = &patch["spec"]["template"]["spec"]["containers"][0]["volumeMounts"][0]["mountPath"];
    let ca = tls.ca_file.as_ref().expect("an authority");
    assert!(ca.starts_with(mount.as_str().expect("a path")), "{}", ca.display());
    // The patches change what the base has, by its name.
    for (patch, base) in [("configmap.yaml", "configmap.yaml"), ("daemonset.yaml", "daemonset.yaml")] {
        let names = |document: Value| (document["kind"].clone(), document["metadata"]["name"].clone());
        let patch = names(document(&format!("overlays/fluentd/{patch}")));
        assert_eq!(patch, names(document(&format!("base/{base}"))));
    }
}

#[test]
fn the_overlay_for_older_kernels_adds_one_capability() {
    let overlay = document("overlays/before-linux-5.11/kustomization.yaml");
    assert_eq!(overlay["resources"], json!(["../../base"]));
    assert_eq!(overlay["patches"].as_array().map(Vec::len), Some(1));
    let patch = overlay["patches"][0]["patch"].as_str().expect("a JSON patch");
    let operations: Vec<Value> = serde_saphyr::from_str(patch).expect("YAML");
    let list = "/spec/template/spec/containers/0/securityContext/capabilities/add";
    assert_eq!(operations, [json!({ "op": "add", "path": format!("{list}/-"), "value": "SYS_RESOURCE" })]);
    assert!(daemon_set().pointer(list).is_some_and(Value::is_array), "what it adds to is there");
}
