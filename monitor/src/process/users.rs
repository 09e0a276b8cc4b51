//! Names of users, from the node's own /etc/passwd. Its numbers mean the same users in the initial user namespace only,
//! so names of users inside containers are never looked up here.

use std::sync::Arc;

use rustc_hash::FxHashMap;

/// The longest name that is believed: `useradd(8)` allows 32 bytes, directory services a few more.
const NAME_MAX: usize = 256;

/// The users of a node.
#[derive(Clone, Debug, Default)]
pub struct Passwd {
    names: FxHashMap<u32, Arc<str>>,
    skipped: u64,
}

impl Passwd {
    /// Reads the text of `passwd(5)`. Where a number has several names the first counts, as it does for the C library.
    /// Lines that are no users are skipped and counted: comments and blank lines are not even that.
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            match user(line) {
                Some((uid, name)) => {
                    found.names.entry(uid).or_insert_with(|| Arc::from(name));
                }
                None => found.skipped += 1,
            }
        }
        found
    }

    /// The name of a user, given the number.
    pub fn name(&self, uid: u32) -> Option<Arc<str>> {
        self.names.get(&uid).cloned()
    }

    /// How many lines were no users.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

fn user(line: &str) -> Option<(u32, &str)> {
    let mut fields = line.split(':');
    let (name, _password, uid, _gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    // `+` and `-` lines include and exclude users of a network directory.
    let plausible = !name.is_empty() && name.len() <= NAME_MAX && !name.starts_with(['+', '-']);
    (plausible && !name.contains(char::is_control)).then_some((uid.parse().ok()?, name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_found_by_number_and_the_first_counts() {
        let users = Passwd::parse("root:x:0:0:root:/root:/bin/bash\ntoor:x:0:0::/root:/bin/sh\nops:x:1000:1000:::\n");
        assert_eq!(users.name(0).as_deref(), Some("root"));
        assert_eq!(users.name(1000).as_deref(), Some("ops"));
        assert_eq!(users.name(1001), None);
        assert_eq!(users.skipped(), 0);
    }

    #[test]
    fn lines_that_are_no_users_are_skipped_and_counted() {
        let long = format!("{}:x:7:7:::", "n".repeat(300));
        let text = format!("# comment\n\n+::::::\n:x:5:5:::\nshort:x:5\nneg:x:-1:0:::\nesc\u{1b}:x:6:6:::\n{long}\n");
        let users = Passwd::parse(&text);
        assert_eq!(users.skipped(), 6);
        assert_eq!(users.name(5), None);
        assert_eq!(users.name(6), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(.*\n){0,20}", uid: u32) {
            let _ = Passwd::parse(&text).name(uid);
        }
    }
}
