//! From the API's Pod object to what this program keeps of it. The API server checks most of what it stores, but whoever can create a pod chooses its
//! names, labels and commands: so all of it is bounded here, and what is cut is counted.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    image::parse_image,
    view::{ActionView, ContainerStatusView, ContainerView, OwnerView, PodView},
};
use crate::event::{Image, Owner, Pod};

/// Longest name, UID or id that is kept, in bytes: what the API allows for names (RFC 1123 subdomain).
const NAME_BYTES: usize = 253;
/// Longest image reference that is kept, in bytes.
const IMAGE_BYTES: usize = 1024;
/// Most labels kept of one pod.
const LABELS: usize = 64;
/// Longest label key that is kept, in bytes: a prefix of 253, a slash and a name of 63.
const LABEL_KEY_BYTES: usize = 317;
/// Longest label value that is kept, in bytes: four times what the API allows.
const LABEL_VALUE_BYTES: usize = 252;
/// Most containers kept of one pod, of each kind.
const CONTAINERS: usize = 128;
/// Longest probe or lifecycle command that is kept, in bytes.
const COMMAND_BYTES: usize = 16 * 1024;
/// Most arguments of a probe or lifecycle command that is kept.
const COMMAND_ARGUMENTS: usize = 256;

/// What is known of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// What events show of it.
    pub pod: Arc<Pod>,
    /// For a static pod's mirror: the UID that kubelet runs the pod under, and that its cgroups are named by.
    pub config_hash: Option<Arc<str>>,
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// `spec.hostPID`.
    pub host_pid: bool,
    /// `spec.hostIPC`.
    pub host_ipc: bool,
    /// Its containers: init containers first, ephemeral ones last, each in the order of the spec.
    pub containers: Vec<Arc<ContainerFacts>>,
    /// How many values were left out or shortened because they were too long or too many.
    pub cut: u32,
}

/// What is known of a container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerFacts {
    /// Its name in the pod.
    pub name: Arc<str>,
    /// What it is for.
    pub kind: ContainerKind,
    /// The runtime, as its status names it (`containerd`, `cri-o`, `docker`).
    pub runtime: Option<Arc<str>>,
    /// Its id with the runtime; `None` until kubelet has said so.
    pub id: Option<Arc<str>>,
    /// The id of its run before this one, which ended.
    pub previous_id: Option<Arc<str>>,
    /// Its image; `None` where the API names none.
    pub image: Option<Image>,
    /// Whether its spec asks for `privileged`.
    pub privileged: bool,
    /// The commands that kubelet runs in it.
    pub commands: Vec<PodCommand>,
}

/// What a container is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContainerKind {
    /// Runs before the others, or beside them from before they start.
    Init,
    /// One of the pod's own.
    #[default]
    Regular,
    /// Added to the running pod by a person (`kubectl debug`).
    Ephemeral,
}

/// A command that kubelet runs in a container because the pod says so. Complete: one that is too long to keep is left out and counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodCommand {
    /// When it runs.
    pub purpose: CommandPurpose,
    /// The program and its arguments as the spec has them. Kubelet replaces `$(NAME)` in them before it runs them.
    pub args: Vec<Arc<str>>,
}

/// When kubelet runs a pod's command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandPurpose {
    /// `livenessProbe`.
    Liveness,
    /// `readinessProbe`.
    Readiness,
    /// `startupProbe`.
    Startup,
    /// `lifecycle.postStart`.
    PostStart,
    /// `lifecycle.preStop`.
    PreStop,
}

/// Why an object cannot be used as a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    /// It says not which pod it is.
    #[error("a pod without a UID, a name or a namespace")]
    Nameless,
    /// Its UID, name or namespace is longer than the API allows.
    #[error("a pod whose UID, name or namespace is longer than 253 bytes")]
    Overlong,
}

/// Reads a pod.
pub(super) fn read(view: PodView) -> Result<PodFacts, Unusable> {
    let identity = [&view.metadata.uid, &view.metadata.name, &view.metadata.namespace];
    if identity.iter().any(|text| text.is_empty()) {
        return Err(Unusable::Nameless);
    }
    if identity.iter().any(|text| text.len() > NAME_BYTES) {
        return Err(Unusable::Overlong);
    }
    let mut bounds = Bounds::default();
    let containers = containers(&view, &mut bounds);
    let config_hash = config_hash(&view, &mut bounds);
    let metadata = view.metadata;
    let pod = Pod {
        uid: metadata.uid.into(),
        name: metadata.name.into(),
        namespace: metadata.namespace.into(),
        service_account: view.spec.service_account_name.as_deref().and_then(|name| bounds.some(name, NAME_BYTES)),
        labels: labels(metadata.labels, &mut bounds),
        owner: owner(&metadata.owner_references, &mut bounds),
    };
    Ok(PodFacts {
        pod: Arc::new(pod),
        config_hash,
        host_network: view.spec.host_network,
        host_pid: view.spec.host_pid,
        host_ipc: view.spec.host_ipc,
        containers,
        cut: bounds.cut,
    })
}

/// A static pod's UID on its node. Kubelet deletes a pod that claims to be a mirror and has no static pod behind it, so the claim is only taken from a
/// pod that has both annotations, with the same value, as kubelet writes them.
fn config_hash(view: &PodView, bounds: &mut Bounds) -> Option<Arc<str>> {
    let annotations = &view.metadata.annotations;
    let hash = annotations.config_hash.as_deref()?;
    (annotations.config_mirror.as_deref() == Some(hash)).then(|| bounds.some(hash, NAME_BYTES)).flatten()
}

fn labels(labels: BTreeMap<String, String>, bounds: &mut Bounds) -> BTreeMap<Arc<str>, Arc<str>> {
    let mut kept = BTreeMap::new();
    for (key, value) in labels {
        if key.len() > LABEL_KEY_BYTES || kept.len() >= LABELS {
            bounds.count(1);
        } else {
            kept.insert(key.into(), bounds.text(&value, LABEL_VALUE_BYTES));
        }
    }
    kept
}

fn owner(references: &[OwnerView], bounds: &mut Bounds) -> Option<Owner> {
    let controller = references.iter().find(|reference| reference.controller)?;
    Some(Owner { kind: bounds.text(&controller.kind, NAME_BYTES), name: bounds.text(&controller.name, NAME_BYTES) })
}

fn containers(view: &PodView, bounds: &mut Bounds) -> Vec<Arc<ContainerFacts>> {
    let (spec, status) = (&view.spec, &view.status);
    let groups = [
        (ContainerKind::Init, &spec.init_containers, &status.init),
        (ContainerKind::Regular, &spec.containers, &status.regular),
        (ContainerKind::Ephemeral, &spec.ephemeral_containers, &status.ephemeral),
    ];
    let mut found = Vec::new();
    for (kind, specs, statuses) in groups {
        bounds.count(specs.len().saturating_sub(CONTAINERS));
        for spec in specs.iter().take(CONTAINERS) {
            let status = statuses.iter().find(|status| status.name == spec.name);
            found.push(Arc::new(container(kind, spec, status, bounds)));
        }
    }
    found
}

fn container(
    kind: ContainerKind,
    spec: &ContainerView,
    status: Option<&ContainerStatusView>,
    bounds: &mut Bounds,
) -> ContainerFacts {
    let (runtime, id) = status.map(|status| container_id(&status.container_id, bounds)).unwrap_or_default();
    let (_, previous_id) =
        status.map(|status| container_id(&status.last_state.terminated.container_id, bounds)).unwrap_or_default();
    ContainerFacts {
        name: bounds.text(&spec.name, NAME_BYTES),
        kind,
        runtime,
        previous_id: previous_id.filter(|previous| Some(previous) != id.as_ref()),
        id,
        image: image(spec, status, bounds),
        privileged: spec.security_context.privileged,
        commands: commands(spec, bounds),
    }
}

/// `containerd://<id>` apart.
fn container_id(text: &str, bounds: &mut Bounds) -> (Option<Arc<str>>, Option<Arc<str>>) {
    match text.split_once("://") {
        Some((runtime, id)) if !id.is_empty() && id.len() <= NAME_BYTES => {
            (bounds.some(runtime, NAME_BYTES), Some(id.into()))
        }
        Some((_, id)) if id.len() > NAME_BYTES => {
            bounds.count(1);
            (None, None)
        }
        _ => (None, None),
    }
}

/// The image that runs, else the image that is asked for. Some runtimes give the image's own id for its name: then the spec's name stands.
fn image(spec: &ContainerView, status: Option<&ContainerStatusView>, bounds: &mut Bounds) -> Option<Image> {
    let parse = |bounds: &mut Bounds, reference: &str| {
        if reference.len() > IMAGE_BYTES {
            bounds.count(1);
            return Image::default();
        }
        parse_image(reference)
    };
    let mut image = status.map(|status| parse(bounds, &status.image)).unwrap_or_default();
    if image.name.is_empty() {
        image = parse(bounds, &spec.image);
    }
    if let Some(digest) = status.and_then(|status| parse(bounds, &status.image_id).digest) {
        image.digest = Some(digest);
    }
    (!image.name.is_empty()).then_some(image)
}

fn commands(spec: &ContainerView, bounds: &mut Bounds) -> Vec<PodCommand> {
    let actions: [(CommandPurpose, &ActionView); 5] = [
        (CommandPurpose::Liveness, &spec.liveness_probe),
        (CommandPurpose::Readiness, &spec.readiness_probe),
        (CommandPurpose::Startup, &spec.startup_probe),
        (CommandPurpose::PostStart, &spec.lifecycle.post_start),
        (CommandPurpose::PreStop, &spec.lifecycle.pre_stop),
    ];
    let mut kept = Vec::new();
    for (purpose, action) in actions {
        let command = &action.exec.command;
        let bytes: usize = command.iter().map(String::len).sum();
        if command.len() > COMMAND_ARGUMENTS || bytes > COMMAND_BYTES {
            bounds.count(1);
        } else if !command.is_empty() {
            kept.push(PodCommand { purpose, args: command.iter().map(|arg| arg.as_str().into()).collect() });
        }
    }
    kept
}

/// Keeps texts short, and counts what that costs.
#[derive(Default)]
struct Bounds {
    cut: u32,
}

impl Bounds {
    fn count(&mut self, cut: usize) {
        self.cut = self.cut.saturating_add(u32::try_from(cut).unwrap_or(u32::MAX));
    }

    fn text(&mut self, text: &str, most: usize) -> Arc<str> {
        if text.len() > most {
            self.count(1);
        }
        text[..text.floor_char_boundary(most)].into()
    }

    fn some(&mut self, text: &str, most: usize) -> Option<Arc<str>> {
        (!text.is_empty()).then(|| self.text(text, most))
    }
}

#[cfg(test)]
#[path = "facts_tests.rs"]
mod tests;
