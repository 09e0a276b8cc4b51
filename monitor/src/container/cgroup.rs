//! Which container a cgroup path names. Pure and total: a path is text that runtimes, kubelet, systemd and whoever may make
//! cgroups have a hand in.
//!
//! Read from the root to the leaf, and the last container found wins: clusters run within containers, and programs in a
//! container make cgroups of their own below it. A name is taken for a container where a runtime's own mark stands before
//! it, where it is 64 hexadecimal digits, or where it stands below a containerd namespace that everybody has (`default`,
//! `k8s.io`, `moby`). A container that `ctr` made in a namespace of its own name, or `runc` by hand with cgroupfs, is a
//! cgroup like any other.

use std::sync::Arc;

/// A container as its cgroup names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupContainer {
    /// Its full id.
    pub id: Arc<str>,
    /// Its runtime, where the path says so.
    pub runtime: Option<&'static str>,
    /// The UID of its pod, as kubelet spells it: for a static pod, the hash of its manifest.
    pub pod_uid: Option<Arc<str>>,
    /// Its containerd namespace, where the path says so.
    pub namespace: Option<&'static str>,
}

/// How long a container id may be: containerd's own limit (`identifiers.maxLength`).
const ID_MAX: usize = 76;

/// What runtimes put before the id, under the systemd cgroup driver: `<mark>-<id>.scope`, or `<slice>:<mark>:<id>` where
/// the runtime was told of a systemd path and made a plain one of it.
const MARKS: [(&str, &str); 6] = [
    ("cri-containerd", "containerd"),
    ("nerdctl", "containerd"),
    ("crio", "cri-o"),
    ("docker", "docker"),
    ("libpod", "podman"),
    ("runc", "runc"),
];

/// containerd namespaces, and who uses each: cgroupfs paths begin with them.
const NAMESPACES: [(&str, &str); 3] = [("default", "containerd"), ("k8s.io", "containerd"), ("moby", "docker")];

/// The container that a cgroup path names, or is below.
pub fn parse(path: &str) -> Option<CgroupContainer> {
    let mut found = None;
    let mut pod_uid = None;
    let mut above = "";
    for (depth, name) in path.split('/').filter(|name| !name.is_empty()).enumerate() {
        if let Some(uid) = pod(name) {
            pod_uid = Some(uid);
        }
        let namespace = NAMESPACES.iter().find(|(namespace, _)| depth == 1 && *namespace == above);
        if let Some((id, runtime)) = marked(name).or_else(|| plain(name, above)) {
            found = Some(container(id, runtime, pod_uid.clone(), namespace.map(|it| it.0)));
        } else if let Some((namespace, runtime)) = namespace
            && is_id(name)
        {
            found = Some(container(name, Some(*runtime), None, Some(namespace)));
        }
        above = name;
    }
    found
}

fn container(
    id: &str,
    runtime: Option<&'static str>,
    pod_uid: Option<Arc<str>>,
    namespace: Option<&'static str>,
) -> CgroupContainer {
    CgroupContainer { id: id.into(), runtime, pod_uid, namespace }
}

/// `cri-containerd-<id>.scope` or `...:cri-containerd:<id>`.
fn marked(name: &str) -> Option<(&str, Option<&'static str>)> {
    if let Some((rest, id)) = name.rsplit_once(':') {
        let mark = rest.rsplit_once(':').map_or(rest, |(_, mark)| mark);
        let runtime = MARKS.iter().find(|(known, _)| *known == mark)?.1;
        return is_id(id).then_some((id, Some(runtime)));
    }
    let scope = name.strip_suffix(".scope")?;
    MARKS.iter().find_map(|(mark, runtime)| {
        let id = scope.strip_prefix(mark)?.strip_prefix('-')?;
        // `crio-conmon-<id>.scope` is the container's keeper. Only names given by hand are no hash.
        (is_hash(id) || (*mark == "runc" && is_id(id))).then_some((id, Some(*runtime)))
    })
}

/// 64 hexadecimal digits, as cgroupfs paths name containers. CRI-O and podman put their mark before them there too.
fn plain<'a>(name: &'a str, above: &str) -> Option<(&'a str, Option<&'static str>)> {
    if let Some(id) = name.strip_prefix("crio-") {
        return is_hash(id).then_some((id, Some("cri-o")));
    }
    let id = name.strip_prefix("libpod-").unwrap_or(name);
    let runtime = match above {
        "docker" | "moby" => Some("docker"),
        "libpod_parent" => Some("podman"),
        "default" | "k8s.io" => Some("containerd"),
        _ => None,
    };
    is_hash(id).then_some((id, runtime))
}

/// `pod<uid>`, or `kubepods-burstable-pod<uid with underscores>.slice`. A slice's name repeats those above it, so that a
/// kubelet with a cgroup root of its own (kind's has `kubelet.slice`) puts them before `kubepods`. Where the runtime made a
/// plain path of a systemd one, the slice stands before the first colon.
fn pod(name: &str) -> Option<Arc<str>> {
    let name = name.split_once(':').map_or(name, |(slice, _)| slice);
    let uid = match name.strip_suffix(".slice") {
        Some(slice) => {
            let (slices, uid) = slice.rsplit_once("-pod")?;
            slices.split('-').any(|slice| slice == "kubepods").then(|| uid.replace('_', "-"))?
        }
        None => name.strip_prefix("pod")?.to_owned(),
    };
    let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    let is_uuid = uid.len() == 36 && digits == 32;
    (is_uuid || (uid.len() == 32 && digits == 32)).then(|| uid.into())
}

fn is_hash(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_id(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= ID_MAX
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const UID: &str = "12345678-9abc-def0-1234-56789abcdef0";

    fn named(path: &str) -> Option<(String, Option<&'static str>, Option<String>)> {
        parse(path).map(|it| (it.id.to_string(), it.runtime, it.pod_uid.map(|uid| uid.to_string())))
    }

    #[test]
    fn pods_are_found_under_both_drivers() {
        let slice = UID.replace('-', "_");
        for (path, runtime) in [
            (format!("/kubepods/burstable/pod{UID}/{ID}"), None),
            (format!("/kubepods/pod{UID}/{ID}"), None),
            (format!("/system.slice/containerd.service/kubepods/besteffort/pod{UID}/{ID}"), None),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slice}.slice/cri-containerd-{ID}.scope"
                ),
                Some("containerd"),
            ),
            (format!("/kubepods.slice/kubepods-pod{slice}.slice/crio-{ID}.scope"), Some("cri-o")),
            (format!("/kubepods.slice/kubepods-pod{slice}.slice/docker-{ID}.scope/init.scope"), Some("docker")),
            (format!("/docker/{}/kubelet/kubepods/pod{UID}/{ID}", ID.replace('0', "f")), None),
            (
                format!(
                    "/docker/{}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod{slice}.slice/cri-containerd-{ID}.scope",
                    ID.replace('0', "f")
                ),
                Some("containerd"),
            ),
            (
                format!("/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{slice}.slice/crio-{ID}.scope"),
                Some("cri-o"),
            ),
            (format!("/kubepods/burstable/pod{UID}/crio-{ID}"), Some("cri-o")),
            (format!("/kubepods-besteffort-pod{slice}.slice:cri-containerd:{ID}"), Some("containerd")),
            (
                format!("/system.slice/containerd.service/kubepods-pod{slice}.slice:cri-containerd:{ID}"),
                Some("containerd"),
            ),
        ] {
            assert_eq!(named(&path), Some((ID.to_owned(), runtime, Some(UID.to_owned()))), "{path}");
        }
        let other = format!("/system.slice/notkubepods-pod{slice}.slice/cri-containerd-{ID}.scope");
        assert_eq!(parse(&other).expect("a container").pod_uid, None);
    }

    #[test]
    fn static_pods_have_a_hash_for_a_uid() {
        let path = format!("/kubepods/burstable/pod{}/{ID}", &ID[..32]);
        assert_eq!(parse(&path).and_then(|it| it.pod_uid).as_deref(), Some(&ID[..32]));
    }

    #[test]
    fn containers_without_a_pod_are_found() {
        for (path, id, runtime) in [
            (format!("/docker/{ID}"), ID, Some("docker")),
            (format!("/system.slice/docker-{ID}.scope"), ID, Some("docker")),
            ("/default/web-1".to_owned(), "web-1", Some("containerd")),
            (format!("/k8s.io/{ID}"), ID, Some("containerd")),
            (format!("/default/{ID}/inner"), ID, Some("containerd")),
            (format!("/system.slice/nerdctl-{ID}.scope"), ID, Some("containerd")),
            (format!("/machine.slice/libpod-{ID}.scope/container"), ID, Some("podman")),
            (format!("/libpod_parent/libpod-{ID}"), ID, Some("podman")),
            ("/user.slice/runc-by-hand.scope".to_owned(), "by-hand", Some("runc")),
        ] {
            assert_eq!(named(&path), Some((id.to_owned(), runtime, None)), "{path}");
        }
        assert_eq!(parse("/default/web-1").and_then(|it| it.namespace), Some("default"));
    }

    #[test]
    fn other_cgroups_are_no_containers() {
        for path in [
            "",
            "/",
            "/system.slice/ssh.service",
            "/user.slice/user-0.slice/session-3.scope",
            "/kubepods/besteffort/pod12345678-9abc-def0-1234-56789abcdef0",
            "/a/default/web-1",
            "/default/with space",
        ] {
            assert_eq!(parse(path), None, "{path}");
        }
        assert_eq!(parse(&format!("/kubepods.slice/crio-conmon-{ID}.scope")), None);
        assert_eq!(parse(&format!("/kubepods/burstable/pod{UID}/crio-conmon-{ID}")), None);
    }

    proptest! {
        #[test]
        fn any_path_is_survived(path in "(/|kubepods|pod|default|:|cri-containerd-|\\.scope|[0-9a-f]{64}|.){0,12}") {
            if let Some(container) = parse(&path) {
                prop_assert!(!container.id.is_empty() && container.id.len() <= ID_MAX);
            }
        }
    }
}
