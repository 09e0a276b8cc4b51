//! Names of users and their groups, from the node's own /etc/passwd and /etc/group. Their numbers mean the same users in the initial user
//! namespace only, so names of users inside containers are never looked up here.

use std::sync::Arc;

use rustc_hash::FxHashMap;

/// The longest name that is believed: `useradd(8)` allows 32 bytes, directory services a few more.
const NAME_MAX: usize = 256;

/// The users of a node.
#[derive(Clone, Debug, Default)]
pub struct Passwd {
    names: FxHashMap<u32, Arc<str>>,
    /// The number of each user's first group, by the user's name.
    first_groups: FxHashMap<Arc<str>, u32>,
    groups: Vec<Group>,
    skipped: u64,
}

#[derive(Clone, Debug)]
struct Group {
    id: u32,
    name: Arc<str>,
    members: Vec<Box<str>>,
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
                Some((uid, gid, name)) => {
                    let name: Arc<str> = Arc::from(name);
                    found.first_groups.entry(Arc::clone(&name)).or_insert(gid);
                    found.names.entry(uid).or_insert(name);
                }
                None => found.skipped += 1,
            }
        }
        found
    }

    /// Adds the text of `group(5)`. Lines that are no groups are skipped.
    #[must_use]
    pub fn with_groups(mut self, text: &str) -> Self {
        self.groups = text.lines().filter_map(group).collect();
        self
    }

    /// The groups that a user is in.
    pub fn groups(&self, user: &str) -> Vec<Arc<str>> {
        let first = self.first_groups.get(user);
        let is_in = |group: &&Group| Some(&group.id) == first || group.members.iter().any(|member| **member == *user);
        self.groups.iter().filter(is_in).map(|group| Arc::clone(&group.name)).collect()
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

fn user(line: &str) -> Option<(u32, u32, &str)> {
    let mut fields = line.split(':');
    let (name, _password, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    is_name(name).then_some((uid.parse().ok()?, gid.parse().ok()?, name))
}

fn group(line: &str) -> Option<Group> {
    let mut fields = line.split(':');
    let (name, _password, id, members) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let members = members.split(',').filter(|member| !member.is_empty()).map(Box::from).collect();
    is_name(name).then_some(Group { id: id.parse().ok()?, name: name.into(), members })
}

/// `+` and `-` lines include and exclude those of a network directory.
fn is_name(name: &str) -> bool {
    let plausible = !name.is_empty() && name.len() <= NAME_MAX && !name.starts_with(['+', '-']);
    plausible && !name.contains(char::is_control)
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
    fn groups_are_the_first_and_those_that_name_the_user() {
        let users = Passwd::parse("ops:x:1000:100:::\nroot:x:0:0:::\n")
            .with_groups("root:x:0:\nusers:x:100:\nsre:x:200:root,ops\n+nis:::\nbroken\nadm:x:no:ops\n");
        let names = |user: &str| users.groups(user).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names("ops"), ["users", "sre"]);
        assert_eq!(names("root"), ["root", "sre"]);
        assert_eq!(names("op"), [""; 0]);
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
