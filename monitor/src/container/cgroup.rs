//! placeholder
use std::sync::Arc;
/// A container as its cgroup names it.
#[derive(Clone, Debug)]
pub struct CgroupContainer {
    /// id
    pub id: Arc<str>,
    /// runtime
    pub runtime: Option<&'static str>,
    /// pod
    pub pod_uid: Option<Arc<str>>,
}
/// parse
pub fn parse(path: &str) -> Option<CgroupContainer> {
    let name = path.rsplit('/').next()?;
    let id = name.strip_suffix(".scope").unwrap_or(name).rsplit(['-', ':']).next()?;
    (path.starts_with("/default/") || id.len() == 64).then(|| CgroupContainer {
        id: id.into(),
        runtime: None,
        pod_uid: None,
    })
}
