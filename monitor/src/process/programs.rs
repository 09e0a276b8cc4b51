//! The programs that were executed last. What runs comes again and again, from the same place and as the same user: then it is one
//! and the same for all of them, and nothing of it is put together anew.

use std::sync::Arc;

use postern_ebpf::abi::{Credentials, ExecFlags, FileIdentity, Tty};
use zerocopy::{Immutable, IntoBytes};

use crate::{event::Program, record::Exec};

/// How many are remembered: a node is busy with fewer at once.
const REMEMBERED: usize = 128;
/// Longer names are not: they do not come again, or somebody wants to fill memory.
const LONGEST: usize = 1_024;
/// What else a record says of a program.
const FLAGS: u32 = ExecFlags::PATH_CUT | ExecFlags::SCRIPT | ExecFlags::MEMFD | ExecFlags::SCRIPT_MEMFD;

/// See the module.
#[derive(Debug)]
pub(super) struct Programs([Option<Box<Known>>; REMEMBERED]);

#[derive(Debug)]
struct Known {
    facts: Facts,
    /// As [`names`] has them.
    names: [Box<[u8]>; 3],
    program: Arc<Program>,
}

/// All that a program is made of but its names.
#[repr(C)]
#[derive(Debug, IntoBytes, Immutable)]
struct Facts {
    file: FileIdentity,
    credentials: Credentials,
    tty: Tty,
    comm: [u8; 16],
    flags: u32,
    is_of_node: u32,
}

impl Default for Programs {
    fn default() -> Self {
        Self([const { None }; REMEMBERED])
    }
}

impl Programs {
    /// The program of this record, if it was put here. Whether the node's users are its users is not in the record.
    pub(super) fn get(&self, exec: &Exec<'_>, is_of_node: bool) -> Option<Arc<Program>> {
        let known = self.0[place(exec)].as_ref()?;
        let mut names = known.names.iter().zip(names(exec));
        let is_known = is_same(known.facts.as_bytes(), Facts::of(exec, is_of_node).as_bytes())
            && names.all(|(known, name)| is_same(known, name));
        is_known.then(|| Arc::clone(&known.program))
    }

    /// Remembers the program of this record.
    pub(super) fn put(&mut self, exec: &Exec<'_>, is_of_node: bool, program: &Arc<Program>) {
        let names = names(exec);
        if names.iter().map(|name| name.len()).sum::<usize>() <= LONGEST {
            let (facts, names) = (Facts::of(exec, is_of_node), names.map(Box::from));
            self.0[place(exec)] = Some(Box::new(Known { facts, names, program: Arc::clone(program) }));
        }
    }
}

impl Facts {
    fn of(exec: &Exec<'_>, is_of_node: bool) -> Self {
        let body = exec.body;
        Self {
            file: body.file,
            credentials: body.credentials,
            tty: body.tty,
            comm: body.comm,
            flags: body.flags & FLAGS,
            is_of_node: is_of_node.into(),
        }
    }
}

/// Whoever has the same parent and executes the same file comes to the same place.
fn place(exec: &Exec<'_>) -> usize {
    (exec.body.file.inode as usize ^ exec.body.parent.tgid as usize) % REMEMBERED
}

/// The script's, the file's and the directory's.
fn names<'a>(exec: &Exec<'a>) -> [&'a [u8]; 3] {
    // How a program was named matters where it is a script's interpreter.
    let script = if exec.body.flags & ExecFlags::SCRIPT == 0 { &[] } else { exec.filename };
    [script, exec.executable.bytes(), exec.cwd.bytes()]
}

/// Whether both are the same bytes, a word at a time: the static build's `memcmp` takes them one by one.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let ((words, rest), (other_words, other_rest)) = (one.as_chunks(), other.as_chunks());
    let is_same_word = |(one, other): (&[u8; 8], &[u8; 8])| u64::from_ne_bytes(*one) == u64::from_ne_bytes(*other);
    one.len() == other.len()
        && words.iter().zip(other_words).all(is_same_word)
        && rest.iter().zip(other_rest).all(|(one, other)| one == other)
}

#[cfg(test)]
mod tests {
    use postern_ebpf::abi::ExecBody;

    use super::*;
    use crate::{
        record::{self, Body},
        replay::{self, Written},
    };

    type Change = fn(&mut ExecBody);

    /// A record of a script, whose file's and directory's names are the two of `path`.
    fn written(path: &str, script: &str, change: Change) -> Written {
        let exec = replay::Exec { pid: 7, previous: 6, path, args: &[script], cgroup: "" };
        Written::exec(0, exec, |body| {
            (body.tail.filename, body.tail.argv) = (body.tail.argv, 0);
            (body.tail.executable, body.tail.cwd) = (2, 2);
            body.flags = ExecFlags::SCRIPT;
            change(body);
        })
    }

    fn with<T>(written: &Written, what: impl FnOnce(&Exec<'_>) -> T) -> T {
        match record::decode(written.bytes()).expect("a record").body {
            Body::Exec(exec) => what(&exec),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_program_is_the_same_only_where_all_that_it_is_made_of_is() {
        let all: [(Written, bool); 12] = [
            (written("/d/f", "s", |_| {}), true),
            (written("/d/f", "s", |_| {}), false),
            (written("/d/g", "s", |_| {}), true),
            (written("/e/f", "s", |_| {}), true),
            (written("/d/f", "t", |_| {}), true),
            (written("/d/f", "s", |body| (body.tail.executable, body.tail.cwd) = (3, 1)), true),
            (written("/d/f", "s", |body| body.flags |= ExecFlags::PATH_CUT), true),
            (written("/d/f", "s", |body| body.comm[0] = b'x'), true),
            (written("/d/f", "s", |body| body.tty.minor = 1), true),
            (written("/d/f", "s", |body| body.credentials.euid = 1), true),
            (written("/d/f", "s", |body| body.file.links = 0), true),
            (written("/d/f", "s", |body| body.file.device = 1), true),
        ];
        for (number, (one, is_of_node)) in all.iter().enumerate() {
            let mut programs = Programs::default();
            let program = Arc::new(Program::default());
            with(one, |exec| programs.put(exec, *is_of_node, &program));
            for (other_number, (other, is_of_node)) in all.iter().enumerate() {
                let found = with(other, |exec| programs.get(exec, *is_of_node));
                assert_eq!(found.is_some(), number == other_number, "{number} {other_number}");
                assert!(found.is_none_or(|found| Arc::ptr_eq(&found, &program)));
            }
        }
    }

    #[test]
    fn bytes_that_differ_anywhere_are_not_the_same() {
        for length in 0..20 {
            let one: Vec<u8> = (0..length).collect();
            assert!(is_same(&one, &one.clone()));
            assert!(!is_same(&one, &[&*one, &[0]].concat()));
            for at in 0..one.len() {
                let mut other = one.clone();
                other[at] ^= 0x80;
                assert!(!is_same(&one, &other), "{length} {at}");
            }
        }
    }

    #[test]
    fn long_names_are_not_remembered() {
        let (mut programs, long) = (Programs::default(), "x".repeat(LONGEST));
        let exec = replay::Exec { pid: 7, previous: 6, path: &long, args: &[], cgroup: "" };
        with(&Written::exec(0, exec, |_| {}), |exec| {
            programs.put(exec, true, &Arc::default());
            assert!(programs.get(exec, true).is_none());
        });
    }
}
