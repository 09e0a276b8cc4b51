//! The kernel describes its own types in BTF (`/sys/kernel/btf/vmlinux`). Programs compiled from Rust carry no CO-RE
//! relocations, so user space reads that description and tells the programs where the fields they read are.
//!
//! This is only as much of the format (kernel `Documentation/bpf/btf.rst`) as finding a member's offset or an
//! enumerator's value takes. It is total over arbitrary bytes: every read is bounded, and every walk through
//! types has a limit, so that types which refer to each other in a circle end in "not found".

use std::hash::Hasher;

use rustc_hash::FxHasher;

const MAGIC: u16 = 0xeb9f;
const VERSION: u8 = 1;
/// The header as far as it is used here; later versions of the format add to it.
const HEADER_LENGTH: usize = 24;
/// `struct btf_type`: name offset, kind and count, size or type.
const TYPE_LENGTH: usize = 12;
/// `struct btf_member`: name offset, type, bit offset.
const MEMBER_LENGTH: usize = 12;
/// Typedefs, qualifiers and arrays between a member and its struct: real types have a few.
const MODIFIER_LIMIT: usize = 32;
/// Anonymous structs and unions inside each other: real types have a few.
const ANONYMOUS_DEPTH: usize = 16;
/// Members looked at for one lookup. The largest struct of a kernel has some hundreds.
const MEMBER_BUDGET: usize = 1 << 16;

mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FWD: u32 = 7;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const FLOAT: u32 = 16;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// Why bytes are not BTF that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// It does not begin as little-endian BTF of version 1.
    #[error("not BTF version 1 in little-endian order")]
    Header,
    /// The header names a part outside the bytes.
    #[error("the BTF header names a section beyond the end of the {length} bytes")]
    Section {
        /// How many bytes there are.
        length: usize,
    },
    /// A type ends beyond the section of types.
    #[error("BTF type {id} is cut off")]
    Cut {
        /// The type's number.
        id: u32,
    },
    /// A type of a kind whose length is not known, so that nothing after it can be read.
    #[error("BTF type {id} is of unknown kind {kind}")]
    Kind {
        /// The type's number.
        id: u32,
        /// The kind's number.
        kind: u32,
    },
}

/// One kernel's types, indexed for lookups by name.
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where the type of number `index + 1` begins in `types`.
    offsets: Vec<u32>,
    /// Named structs, unions and typedefs as (hash of the name, number), in order.
    named: Vec<(u32, u32)>,
    /// The numbers of all enumerations.
    enums: Vec<u32>,
}

/// The fixed part of a type.
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    kind: u32,
    /// Members, enumerators or parameters that follow.
    count: usize,
    /// For a struct or union: whether member offsets carry a bit-field's width in their top byte.
    flag: bool,
    /// The type referred to, for kinds that refer to one.
    target: u32,
    /// Where what follows begins in the section of types.
    tail: usize,
}

/// Where a member is: its type and its place in bytes.
#[derive(Clone, Copy)]
struct Place {
    type_id: u32,
    bytes: u32,
}

impl<'a> Btf<'a> {
    /// Indexes the types in `bytes`, the whole content of `/sys/kernel/btf/vmlinux` or of a `.BTF` section.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let (types, strings) = sections(bytes)?;
        // A type of a real kernel takes some 24 bytes on average.
        let mut btf = Self {
            types,
            strings,
            offsets: Vec::with_capacity(types.len() / 20),
            named: Vec::new(),
            enums: Vec::new(),
        };
        let mut at = 0;
        while at < types.len() {
            let id = btf.offsets.len() as u32 + 1;
            let found = type_at(types, at).ok_or(BtfError::Cut { id })?;
            let tail = tail_length(found.kind, found.count).ok_or(BtfError::Kind { id, kind: found.kind })?;
            let end = found.tail + tail;
            if end > types.len() {
                return Err(BtfError::Cut { id });
            }
            btf.offsets.push(at as u32);
            match found.kind {
                kind::STRUCT | kind::UNION | kind::TYPEDEF if found.name != 0 => {
                    btf.named.push((name_hash(btf.string(found.name)), id));
                }
                kind::ENUM | kind::ENUM64 => btf.enums.push(id),
                _ => {}
            }
            at = end;
        }
        btf.named.sort_unstable();
        Ok(btf)
    }

    /// How many types there are.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether there is no type at all.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// The offset in bytes of a member, by a path such as `task_struct.seccomp.mode`. Embedded structs, unions and
    /// arrays (their first element) are entered, anonymous ones without being named; pointers are not followed.
    /// Where several structs have the name, the first that has the whole path counts. A bit-field has no offset.
    pub fn member_offset(&self, path: &str) -> Option<u32> {
        let (root, members) = path.split_once('.')?;
        self.composites(root).find_map(|id| self.path_offset(id, members))
    }

    /// The value of an enumerator, whichever enumeration has it, if it fits 32 bits. A negative one keeps its bits.
    pub fn enumerator(&self, name: &str) -> Option<u32> {
        self.enums.iter().find_map(|&id| {
            let found = self.get(id)?;
            let step = enumerator_length(found.kind);
            (0..found.count).find_map(|index| {
                let at = found.tail + index * step;
                if !self.string_is(u32_at(self.types, at)?, name) {
                    return None;
                }
                let high = if found.kind == kind::ENUM64 { u32_at(self.types, at + 8)? } else { 0 };
                (high == 0).then(|| u32_at(self.types, at + 4)).flatten()
            })
        })
    }

    /// Every struct or union of that name, in the order of their numbers, typedefs of anonymous ones included.
    fn composites(&self, name: &str) -> impl Iterator<Item = u32> {
        let hash = name_hash(name.as_bytes());
        let first = self.named.partition_point(|&(other, _)| other < hash);
        self.named[first..]
            .iter()
            .take_while(move |&&(other, _)| other == hash)
            .map(|&(_, id)| id)
            .filter(move |&id| self.get(id).is_some_and(|found| self.string_is(found.name, name)))
    }

    fn path_offset(&self, id: u32, members: &str) -> Option<u32> {
        let mut budget = MEMBER_BUDGET;
        let mut place = Place { type_id: id, bytes: 0 };
        for name in members.split('.') {
            if name.is_empty() {
                return None;
            }
            let inner = self.member(place.type_id, name, ANONYMOUS_DEPTH, &mut budget)?;
            place = Place { type_id: inner.type_id, bytes: place.bytes.checked_add(inner.bytes)? };
        }
        Some(place.bytes)
    }

    fn member(&self, id: u32, name: &str, depth: usize, budget: &mut usize) -> Option<Place> {
        let composite = self.composite(id)?;
        for index in 0..composite.count {
            *budget = budget.checked_sub(1)?;
            let at = composite.tail + index * MEMBER_LENGTH;
            let member_name = u32_at(self.types, at)?;
            let type_id = u32_at(self.types, at + 4)?;
            let offset = u32_at(self.types, at + 8)?;
            let (bits, width) = if composite.flag { (offset & 0x00ff_ffff, offset >> 24) } else { (offset, 0) };
            if width != 0 || bits % 8 != 0 {
                continue;
            }
            let bytes = bits / 8;
            if self.string_is(member_name, name) {
                return Some(Place { type_id, bytes });
            }
            if depth > 0
                && self.string(member_name).is_empty()
                && let Some(inner) = self.member(type_id, name, depth - 1, budget)
            {
                return Some(Place { type_id: inner.type_id, bytes: bytes.checked_add(inner.bytes)? });
            }
        }
        None
    }

    /// The struct or union that a type is, behind typedefs, qualifiers and arrays.
    fn composite(&self, mut id: u32) -> Option<Type> {
        for _ in 0..MODIFIER_LIMIT {
            let found = self.get(id)?;
            id = match found.kind {
                kind::STRUCT | kind::UNION => return Some(found),
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => found.target,
                kind::ARRAY => u32_at(self.types, found.tail)?,
                _ => return None,
            };
        }
        None
    }

    fn get(&self, id: u32) -> Option<Type> {
        let offset = *self.offsets.get(id.checked_sub(1)? as usize)?;
        type_at(self.types, offset as usize)
    }

    /// The string at an offset, without its end mark; empty if there is none.
    fn string(&self, offset: u32) -> &'a [u8] {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        rest.split(|&byte| byte == 0).next().unwrap_or_default()
    }

    fn string_is(&self, offset: u32, name: &str) -> bool {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        rest.starts_with(name.as_bytes()) && rest.get(name.len()) == Some(&0)
    }
}

fn sections(bytes: &[u8]) -> Result<(&[u8], &[u8]), BtfError> {
    let header = bytes.get(..HEADER_LENGTH).ok_or(BtfError::Header)?;
    let length = u32_at(header, 4).ok_or(BtfError::Header)? as usize;
    if header[..2] != MAGIC.to_le_bytes() || header[2] != VERSION || length < HEADER_LENGTH {
        return Err(BtfError::Header);
    }
    let section = |at: usize| {
        let start = length.checked_add(u32_at(header, at)? as usize)?;
        bytes.get(start..start.checked_add(u32_at(header, at + 4)? as usize)?)
    };
    section(8).zip(section(16)).ok_or(BtfError::Section { length: bytes.len() })
}

fn type_at(types: &[u8], at: usize) -> Option<Type> {
    let part = types.get(at..at + TYPE_LENGTH)?;
    let about = u32_at(part, 4)?;
    Some(Type {
        name: u32_at(part, 0)?,
        // The kernel refuses BTF with other bits than these set until it gives them a meaning, and it has begun to
        // widen the count from 16 bits to 24 and the kind from 5 bits to 7: reading them wide is right for both.
        kind: about >> 24 & 0x7f,
        count: (about & 0x00ff_ffff) as usize,
        flag: about >> 31 != 0,
        target: u32_at(part, 8)?,
        tail: at + TYPE_LENGTH,
    })
}

/// How many bytes follow the fixed part of a type.
fn tail_length(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION => count * MEMBER_LENGTH,
        kind::ENUM | kind::ENUM64 => count * enumerator_length(kind),
        kind::FUNC_PROTO => count * 8,
        kind::DATASEC => count * 12,
        kind::PTR
        | kind::FWD
        | kind::TYPEDEF
        | kind::VOLATILE
        | kind::CONST
        | kind::RESTRICT
        | kind::FUNC
        | kind::FLOAT
        | kind::TYPE_TAG => 0,
        _ => return None,
    })
}

fn enumerator_length(kind: u32) -> usize {
    if kind == kind::ENUM64 { 12 } else { 8 }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn name_hash(name: &[u8]) -> u32 {
    let mut hasher = FxHasher::default();
    hasher.write(name);
    hasher.finish() as u32
}

#[cfg(test)]
#[path = "btf_tests.rs"]
mod tests;
