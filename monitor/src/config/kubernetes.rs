//! The `kubernetes` section: where pods are looked up, and which annotations of the node announce a maintenance.

use std::{path::PathBuf, sync::Arc};

use super::{
    problem::quoted,
    reader::{Located, Reader, Section, choice},
    values::{Parsed, path},
};
use crate::pod::AnnotationKeys;

/// The `kubernetes` section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kubernetes {
    /// Whether to look for an API server.
    pub mode: KubernetesMode,
    /// A kubeconfig file, where the service account is not to be used.
    pub kubeconfig: Option<PathBuf>,
    /// The annotations of the Node object that announce a maintenance; none where it is not to be watched.
    pub maintenance: Maintenance,
}

/// Whether to look for an API server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KubernetesMode {
    /// Use one where there is one.
    #[default]
    Auto,
    /// Do not.
    Off,
    /// Do not become ready without one.
    Required,
}

/// How a maintenance is announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintenance {
    /// Whether the Node object is watched where there is an API server.
    pub watch: bool,
    /// The annotations.
    pub keys: AnnotationKeys,
}

impl Default for Maintenance {
    fn default() -> Self {
        Self { watch: true, keys: AnnotationKeys::default() }
    }
}

impl Kubernetes {
    /// Whether the Node object is watched, should there be an API server.
    pub fn watches_node(&self) -> bool {
        self.mode != KubernetesMode::Off && self.maintenance.watch
    }
}

pub(super) fn read(reader: &mut Reader, found: &Located<'_>) -> Kubernetes {
    let Some(section) = reader.section(found, &["kubeconfig", "maintenance", "mode"]) else {
        return Kubernetes::default();
    };
    let modes = [("auto", KubernetesMode::Auto), ("off", KubernetesMode::Off), ("required", KubernetesMode::Required)];
    let mode = reader.get(&section, "mode", "`auto`, `off` or `required`", choice(&modes)).unwrap_or_default();
    let kubeconfig = reader.get(&section, "kubeconfig", "a path", path);
    if mode == KubernetesMode::Off && kubeconfig.is_some() {
        reader.problem(&section.key_spot("kubeconfig"), "has no use with `mode: off`");
    }
    Kubernetes { mode, kubeconfig, maintenance: maintenance(reader, &section) }
}

fn maintenance(reader: &mut Reader, parent: &Section<'_>) -> Maintenance {
    let mut maintenance = Maintenance::default();
    let Some(section) = reader.subsection(parent, "maintenance", &["ticket", "until", "watch"]) else {
        return maintenance;
    };
    let watch = reader.get(&section, "watch", "`auto` or `off`", choice(&[("auto", true), ("off", false)]));
    maintenance.watch = watch.unwrap_or(maintenance.watch);
    let keys = &mut maintenance.keys;
    for (name, key) in [("ticket", &mut keys.ticket), ("until", &mut keys.until)] {
        if let Some(given) = reader.get(&section, name, "an annotation's name", annotation) {
            *key = given;
        }
    }
    if keys.ticket == keys.until {
        reader.problem(&section.spot, "`ticket` and `until` cannot be the same annotation");
    }
    maintenance
}

/// A name as annotations have them: a DNS subdomain, a slash, and a name.
fn annotation(text: &str) -> Parsed<Arc<str>> {
    let wrong = || {
        let wanted = "expected an annotation's name such as `example.com/maintenance-ticket`";
        Err(format!("{wanted}, found {}", quoted(text)))
    };
    let Some((prefix, name)) = text.split_once('/') else { return wrong() };
    let is_domain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let good = (1..=253).contains(&prefix.len())
        && (1..=63).contains(&name.len())
        && prefix.bytes().all(is_domain)
        && name.bytes().all(is_name);
    if good { Ok(text.into()) } else { wrong() }
}
