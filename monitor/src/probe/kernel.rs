//! What the kernel that runs is too old for.

/// The first kernel whose programs may follow any typed pointer. A load through one that leads nowhere is to yield zero; Debian's
/// 5.10 has no table of such loads for programs of more than one function, and oopses. 6.1, 6.12 and 6.18 are tried at every
/// start: kernel threads have no memory of their own to read.
const BEARS_NULL: (u32, u32) = (6, 1);

/// Whether programs may read through typed pointers here.
pub(super) fn bears_null() -> bool {
    let release = rustix::system::uname();
    version(&release.release().to_string_lossy()).is_some_and(|version| version >= BEARS_NULL)
}

/// Major and minor version of a release such as `6.1.0-50-cloud-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(version("5.10.0-32-cloud-amd64"), Some((5, 10)));
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18)));
        assert!(version("6.1-rc1") >= Some(BEARS_NULL) && version("5.15.1") < Some(BEARS_NULL));
        assert_eq!((version("strange"), version("6")), (None, None));
    }
}
