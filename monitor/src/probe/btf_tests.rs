//! Types made by hand, the running kernel's own, and both of them damaged.

use proptest::prelude::*;

use super::*;

/// Writes BTF: strings are added as they are named, types are numbered from 1.
struct Writer {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Writer {
    fn new() -> Self {
        Self { types: Vec::new(), strings: vec![0], count: 0 }
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        at
    }

    fn words(&mut self, words: &[u32]) {
        self.types.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }

    fn add(&mut self, kind: u32, name: &str, count: u32, target: u32) -> u32 {
        let name = self.name(name);
        self.words(&[name, kind << 24 | count, target]);
        self.count += 1;
        self.count
    }

    /// Members as (name, type, offset in bits).
    fn composite(&mut self, kind: u32, name: &str, members: &[(&str, u32, u32)]) -> u32 {
        let id = self.add(kind, name, members.len() as u32, 0);
        for (member, type_id, bits) in members {
            let member = self.name(member);
            self.words(&[member, *type_id, *bits]);
        }
        id
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_le_bytes().to_vec();
        bytes.extend_from_slice(&[VERSION, 0]);
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        bytes.extend([24, 0, types, types, strings].iter().flat_map(|word: &u32| word.to_le_bytes()));
        bytes.extend_from_slice(&self.types);
        bytes.extend_from_slice(&self.strings);
        bytes
    }
}

fn sample() -> Vec<u8> {
    let mut to = Writer::new();
    let int = to.add(kind::INT, "int", 0, 4);
    to.words(&[32]);
    let counter = to.composite(kind::STRUCT, "", &[("counter", int, 32)]);
    let atomic = to.add(kind::TYPEDEF, "atomic_t", 0, counter);
    let volatile = to.add(kind::VOLATILE, "", 0, atomic);
    let array = to.add(kind::ARRAY, "", 0, 0);
    to.words(&[volatile, int, 7]);
    let hidden = to.composite(kind::UNION, "", &[("other", int, 0), ("list", array, 64)]);
    to.composite(kind::STRUCT, "thing", &[("wrong", int, 0)]);
    let pointer = to.add(kind::PTR, "", 0, counter);
    to.composite(kind::STRUCT, "thing", &[("first", int, 0), ("", hidden, 128), ("far", pointer, 512)]);
    let flagged = to.composite(kind::STRUCT, "packed", &[("bit", int, 1 << 24 | 8), ("plain", int, 64)]);
    let at = to.types.len() - 3 * 12 + 4;
    to.types[at..at + 4].copy_from_slice(&(1 << 31 | kind::STRUCT << 24 | 2).to_le_bytes());
    assert_eq!(flagged, 10);
    to.add(kind::ENUM, "small", 2, 4);
    for (name, value) in [("zero", 0), ("minus", u32::MAX)] {
        let name = to.name(name);
        to.words(&[name, value]);
    }
    to.add(kind::ENUM64, "large", 2, 8);
    for (name, low, high) in [("fits", 5, 0), ("too_large", 5, 1)] {
        let name = to.name(name);
        to.words(&[name, low, high]);
    }
    to.bytes()
}

#[test]
fn members_are_found_through_everything_that_embeds_them() {
    let bytes = sample();
    let btf = Btf::parse(&bytes).expect("well-formed");
    assert_eq!(btf.len(), 12);
    assert_eq!(btf.member_offset("thing.wrong"), Some(0));
    assert_eq!(btf.member_offset("thing.other"), Some(16), "in an anonymous union of the second struct of the name");
    assert_eq!(btf.member_offset("thing.list.counter"), Some(16 + 8 + 4), "array, volatile, typedef, struct");
    assert_eq!(btf.member_offset("atomic_t.counter"), Some(4), "a typedef names an anonymous struct");
    assert_eq!(btf.member_offset("thing.far"), Some(64));
    assert_eq!(btf.member_offset("thing.far.counter"), None, "pointers are not followed");
    assert_eq!(btf.member_offset("packed.plain"), Some(8));
    assert_eq!(btf.member_offset("packed.bit"), None, "a bit-field has no offset in bytes");
}

#[test]
fn what_is_not_there_is_not_found() {
    let bytes = sample();
    let btf = Btf::parse(&bytes).expect("well-formed");
    for path in ["", ".", "thing", "thing.", "thing.firs", "thing.firsts", "thing.first.", "nothing.first", "int.x"] {
        assert_eq!(btf.member_offset(path), None, "{path:?}");
    }
}

#[test]
fn enumerators_are_found_by_value_of_either_width() {
    let bytes = sample();
    let btf = Btf::parse(&bytes).expect("well-formed");
    assert_eq!(btf.enumerator("zero"), Some(0));
    assert_eq!(btf.enumerator("minus"), Some(u32::MAX));
    assert_eq!(btf.enumerator("fits"), Some(5));
    assert_eq!(btf.enumerator("too_large"), None);
    assert_eq!(btf.enumerator("small"), None, "the enumeration's own name is no enumerator");
}

#[test]
fn types_in_a_circle_end_in_not_found() {
    let mut to = Writer::new();
    to.add(kind::TYPEDEF, "round", 0, 2);
    to.add(kind::CONST, "", 0, 1);
    // Each level doubles the work of the one above unless the whole lookup is bounded.
    let members: Vec<_> = (0..64).map(|_| ("", 3, 0)).collect();
    to.composite(kind::STRUCT, "deep", &members);
    let bytes = to.bytes();
    let btf = Btf::parse(&bytes).expect("well-formed");
    assert_eq!(btf.member_offset("round.x"), None);
    assert_eq!(btf.member_offset("deep.x"), None);
}

#[test]
fn bytes_that_are_not_btf_say_why() {
    let bytes = sample();
    assert_eq!(Btf::parse(&[]).err(), Some(BtfError::Header));
    assert_eq!(Btf::parse(&bytes[1..]).err(), Some(BtfError::Header));
    let cut = &bytes[..bytes.len() - 1];
    assert_eq!(Btf::parse(cut).err(), Some(BtfError::Section { length: cut.len() }));
    let mut short = Writer::new();
    short.add(kind::STRUCT, "x", 9, 0);
    assert_eq!(Btf::parse(&short.bytes()).err(), Some(BtfError::Cut { id: 1 }));
    let mut unknown = Writer::new();
    unknown.add(kind::PTR, "", 0, 0);
    unknown.add(99, "", 0, 0);
    assert_eq!(Btf::parse(&unknown.bytes()).err(), Some(BtfError::Kind { id: 2, kind: 99 }));
}

fn probe_all(bytes: &[u8]) {
    let Ok(btf) = Btf::parse(bytes) else { return };
    for path in ["thing.list.counter", "deep.x", "round.x", "task_struct.seccomp.mode", "file.f_path"] {
        let _ = btf.member_offset(path);
    }
    let _ = btf.enumerator("fits");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn damaged_types_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
        let mut bytes = sample();
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        probe_all(&bytes);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        probe_all(&bytes);
        probe_all(&[&MAGIC.to_le_bytes()[..], &[VERSION, 0, 24, 0, 0, 0], &bytes].concat());
    }
}

proptest! {
    // Each case copies and indexes some megabytes.
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_damaged_kernel_never_panics(
        cut in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
    ) {
        let mut bytes = std::fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with BTF");
        for (index, byte) in changes {
            // The header stays, so that the types behind it are reached.
            let at = HEADER_LENGTH + index.index(bytes.len() - HEADER_LENGTH);
            bytes[at] = byte;
        }
        probe_all(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        probe_all(&bytes);
    }
}
