//! `container.*`, `orchestrator.*`, `kubernetes.*` and `postern.container.*`: where a process is, and what it may do.

use std::fmt::{self, Display, Formatter, Write};

use super::capabilities::Sets;
use crate::{
    event::{Container, HostNamespace, Pod, SecurityContext},
    sink::encode::json::{Fields, Object},
};

/// How many labels of a pod an event brings along. Who may create pods decides how many there are.
const LABELS: usize = 64;

/// `container`, `orchestrator` and `kubernetes`. `cluster` is what `orchestrator` has on every event.
pub(super) fn fields(
    container: Option<&Container>,
    context: Option<&SecurityContext>,
    cluster: &Fields,
    top: &mut Object<'_>,
) {
    top.object("container", |fields| {
        if let Some(container) = container {
            self::container(container, fields);
        }
        if let Some(context) = context {
            fields.object("security_context", |fields| fields.boolean("privileged", context.privileged));
        }
    });
    let pod = container.and_then(|container| container.pod.as_deref());
    let uid = pod.map(|pod| &*pod.uid).or_else(|| container?.pod_uid.as_deref());
    top.object("orchestrator", |fields| {
        fields.splice(cluster);
        if cluster.is_empty() && uid.is_some() {
            fields.text("type", "kubernetes");
        }
        fields.maybe_text("namespace", pod.map(|pod| &*pod.namespace));
        if let Some(uid) = uid {
            fields.object("resource", |fields| resource(uid, pod, fields));
        }
    });
    if let Some(uid) = uid {
        let name = container.and_then(|container| container.name.as_deref());
        top.object("kubernetes", |fields| kubernetes(uid, pod, name, fields));
    }
}

/// `postern.container`.
pub(super) fn own(context: &SecurityContext, sets: &mut Sets, fields: &mut Object<'_>) {
    fields.object("capabilities", |fields| {
        sets.write("effective", context.effective, fields);
        sets.write("bounding", context.bounding, fields);
    });
    fields.texts("host_namespaces", context.host_namespaces.iter().copied().map(HostNamespace::as_str));
    fields.text("seccomp", context.seccomp.as_str());
    fields.boolean("no_new_privileges", context.no_new_privileges);
    fields.object("user", |user| user.identifier("id", u64::from(context.user_id)));
}

fn container(container: &Container, fields: &mut Object<'_>) {
    fields.text("id", &container.id);
    fields.maybe_text("name", container.name.as_deref());
    fields.maybe_text("runtime", container.runtime.as_deref());
    if let Some(image) = &container.image {
        fields.object("image", |fields| {
            fields.text("name", &image.name);
            fields.texts("tag", image.tag.as_deref().filter(|tag| !tag.is_empty()));
            fields
                .object("hash", |hash| hash.texts("all", image.digest.as_deref().filter(|digest| !digest.is_empty())));
        });
    }
}

fn resource(uid: &str, pod: Option<&Pod>, fields: &mut Object<'_>) {
    fields.text("type", "pod");
    fields.text("id", uid);
    let Some(pod) = pod else { return };
    fields.text("name", &pod.name);
    if let Some(owner) = &pod.owner {
        fields.object("parent", |parent| parent.text("type", &owner.kind));
    }
    fields.displays("label", pod.labels.iter().take(LABELS).map(|(key, value)| Joined(key, value)));
}

fn kubernetes(uid: &str, pod: Option<&Pod>, container: Option<&str>, fields: &mut Object<'_>) {
    fields.object("pod", |fields| {
        fields.maybe_text("name", pod.map(|pod| &*pod.name));
        fields.text("uid", uid);
    });
    fields.object("container", |fields| fields.maybe_text("name", container));
    let Some(pod) = pod else { return };
    fields.text("namespace", &pod.namespace);
    fields.object("service_account", |fields| fields.maybe_text("name", pod.service_account.as_deref()));
    if let Some(owner) = &pod.owner {
        fields.object("owner", |fields| {
            fields.text("kind", &owner.kind);
            fields.text("name", &owner.name);
        });
    }
    fields.object("labels", |fields| {
        for (position, (key, value)) in pod.labels.iter().take(LABELS).enumerate() {
            // Two keys can look alike without their dots. The first one stands: two fields of one name would make
            // the line unreadable for many. `orchestrator.resource.label` has them all.
            let taken = pod.labels.keys().take(position).any(|other| Undotted(other) == Undotted(key));
            if !taken {
                fields.foreign(Undotted(key), value);
            }
        }
    });
    fields.flag("labels_cut", pod.labels.len() > LABELS);
}

/// A label the way ECS writes one: `key:value`.
struct Joined<'a>(&'a str, &'a str);

impl Display for Joined<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0, self.1)
    }
}

/// A label's key with `_` for its dots. Elasticsearch takes a dot in a name for another level, and `app` cannot be a
/// text and the parent of `app.kubernetes.io/name` at once.
struct Undotted<'a>(&'a str);

impl Display for Undotted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (position, part) in self.0.split('.').enumerate() {
            if position > 0 {
                f.write_char('_')?;
            }
            f.write_str(part)?;
        }
        Ok(())
    }
}

impl PartialEq for Undotted<'_> {
    fn eq(&self, other: &Self) -> bool {
        let undotted = |byte| if byte == b'.' { b'_' } else { byte };
        self.0.len() == other.0.len() && self.0.bytes().map(undotted).eq(other.0.bytes().map(undotted))
    }
}
