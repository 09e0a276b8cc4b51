//! Image references, as container runtimes and pod specs write them: `[registry/]repository[:tag][@digest]`
//! (the reference grammar of the OCI distribution project).

use crate::event::Image;

/// Takes a reference apart. Nothing is added that is not there: an absent tag is not `latest`, an absent registry not Docker Hub.
///
/// A bare `sha256:...` is an image's own id and no name: the result's name is then empty, and its digest `None`, for the id of an image's
/// configuration is not the digest that a registry knows it by.
pub fn parse_image(reference: &str) -> Image {
    let reference = reference.split_once("://").map_or(reference, |(_, rest)| rest);
    if is_digest(reference) {
        return Image::default();
    }
    let (named, digest) = match reference.split_once('@') {
        Some((named, digest)) => (named, Some(digest)),
        None => (reference, None),
    };
    // A colon before the last slash belongs to the registry's port.
    let after_slash = named.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match named[after_slash..].split_once(':') {
        Some((last, tag)) => (&named[..after_slash + last.len()], Some(tag)),
        None => (named, None),
    };
    Image {
        name: name.into(),
        tag: tag.filter(|tag| !tag.is_empty()).map(Into::into),
        digest: digest.filter(|digest| is_digest(digest)).map(Into::into),
    }
}

/// `algorithm:hex`, with a hash as long as those in use.
fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hash)| {
        matches!(algorithm, "sha256" | "sha384" | "sha512")
            && hash.len() >= 64
            && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::parse_image;

    const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[track_caller]
    fn check(reference: &str, name: &str, tag: Option<&str>, digest: Option<&str>) {
        let image = parse_image(reference);
        assert_eq!((&*image.name, image.tag.as_deref(), image.digest.as_deref()), (name, tag, digest), "{reference}");
    }

    #[test]
    fn takes_references_apart() {
        check("busybox", "busybox", None, None);
        check("busybox:1.36", "busybox", Some("1.36"), None);
        check("registry.example:5000/a/b", "registry.example:5000/a/b", None, None);
        check("registry.example:5000/a/b:v1", "registry.example:5000/a/b", Some("v1"), None);
        check(&format!("quay.example/a@{DIGEST}"), "quay.example/a", None, Some(DIGEST));
        check(&format!("quay.example/a:v1@{DIGEST}"), "quay.example/a", Some("v1"), Some(DIGEST));
        check(&format!("docker-pullable://a/b@{DIGEST}"), "a/b", None, Some(DIGEST));
    }

    #[test]
    fn an_image_id_is_no_name() {
        check(DIGEST, "", None, None);
        check(&format!("docker://{DIGEST}"), "", None, None);
    }

    #[test]
    fn odd_references_are_taken_as_they_come() {
        check("", "", None, None);
        check("a:", "a", None, None);
        check("a@b", "a", None, None);
        check("a/:b", "a/", Some("b"), None);
        check("@", "", None, None);
    }
}
