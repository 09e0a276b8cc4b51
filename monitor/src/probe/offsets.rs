//! Turns the table of kernel fields into this kernel's offsets. A field that the agent cannot work without stops it
//! here, with the whole list; any other one that is missing switches its feature off and is named to the user.

use std::fmt;

use object::{File, Object as _, ObjectSection as _, SectionKind};
use postern_ebpf::abi::{ABSENT, FIELDS, Field, KernelFields};
use zerocopy::{FromBytes, IntoBytes};

use super::btf::Btf;

/// The kernel's description of its own types.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// What prefixes the path of an enumerator in the table.
const ENUMERATOR: &str = "enum:";

/// The offsets of one kernel.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// What the programs are given before they are loaded.
    pub fields: KernelFields,
    /// The fields that this kernel does not have.
    pub missing: Vec<Missing>,
}

/// A field that this kernel does not have, and that the agent can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Its name in the table.
    pub name: &'static str,
    /// What is missing from the output without it.
    pub without: &'static str,
}

/// This kernel lacks fields that the agent cannot work without.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct OffsetsError {
    /// All of them, in the table's order.
    pub required: Vec<&'static Field>,
}

impl fmt::Display for OffsetsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("this kernel lacks fields that Postern needs:")?;
        for field in &self.required {
            write!(formatter, " {} ({})", field.name, field.paths.join(" or "))?;
        }
        Ok(())
    }
}

/// Looks every field of the table up in a kernel's types.
pub fn resolve(btf: &Btf<'_>) -> Result<Resolved, OffsetsError> {
    let mut fields = KernelFields::UNSET;
    let mut missing = Vec::new();
    let mut required = Vec::new();
    for (field, value) in FIELDS.iter().zip(values_of(&mut fields)) {
        match (field.paths.iter().find_map(|path| lookup(btf, path)), field.optional) {
            (Some(found), _) => *value = found,
            (None, Some(without)) => missing.push(Missing { name: field.name, without }),
            (None, None) => required.push(field),
        }
    }
    if required.is_empty() { Ok(Resolved { fields, missing }) } else { Err(OffsetsError { required }) }
}

/// The table's values in its order: `KernelFields` is nothing but one `u32` for each entry.
fn values_of(fields: &mut KernelFields) -> &mut [u32] {
    const { assert!(size_of::<KernelFields>() == FIELDS.len() * size_of::<u32>()) };
    <[u32]>::mut_from_bytes(fields.as_mut_bytes()).unwrap_or_default()
}

/// Sets the offsets in the instructions of the kernel programs, where the compiler left [`KernelFields::MARK`].
pub fn set(fields: &KernelFields, programs: &mut [u8]) -> Result<(), object::Error> {
    let mut fields = *fields;
    let values = values_of(&mut fields);
    for place in marks(programs)? {
        if let Some(immediate) = programs.get_mut(place.immediate..place.immediate + size_of::<u32>())
            && let Some(value) = values.get(place.field)
        {
            immediate.copy_from_slice(&value.to_ne_bytes());
        }
    }
    Ok(())
}

/// An instruction that takes the offset of a field.
struct Mark {
    /// Where its immediate is, in bytes of the object file.
    immediate: usize,
    /// Its index in [`FIELDS`].
    field: usize,
}

/// `BPF_ALU64 | BPF_MOV | BPF_K` (RFC 9669, 4.1): a register is set to the immediate.
const MOVE: u8 = 0xb7;

fn marks(programs: &[u8]) -> Result<Vec<Mark>, object::Error> {
    let mut marks = Vec::new();
    for section in File::parse(programs)?.sections().filter(|section| section.kind() == SectionKind::Text) {
        let Some((start, _)) = section.file_range() else { continue };
        for (index, [operation, _, _, _, immediate @ ..]) in section.data()?.as_chunks::<8>().0.iter().enumerate() {
            let is_field = |field: &usize| *field < FIELDS.len();
            let field = usize::try_from(i32::from_ne_bytes(*immediate) ^ KernelFields::MARK).ok().filter(is_field);
            if let Some(field) = field.filter(|_| *operation == MOVE) {
                marks.push(Mark { immediate: start as usize + 8 * index + 4, field });
            }
        }
    }
    Ok(marks)
}

fn lookup(btf: &Btf<'_>, path: &str) -> Option<u32> {
    let found = match path.strip_prefix(ENUMERATOR) {
        Some(name) => btf.enumerator(name),
        None => btf.member_offset(path),
    };
    // The mark for "absent" is no offset: nothing in a kernel is 4 GiB into a struct.
    found.filter(|&value| value != ABSENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_the_table_is_set_in_the_programs() {
        let mut programs = super::super::OBJECT.to_vec();
        let mut unused = vec![true; FIELDS.len()];
        marks(&programs).expect("an object file").iter().for_each(|mark| unused[mark.field] = false);
        let unused: Vec<&str> = FIELDS.iter().zip(unused).filter_map(|(field, it)| it.then_some(field.name)).collect();
        assert_eq!(unused, [""; 0]);
        set(&KernelFields::UNSET, &mut programs).expect("an object file");
        assert_eq!(marks(&programs).expect("an object file").len(), 0);
    }

    #[test]
    fn every_field_of_the_table_is_found_in_the_running_kernel() {
        let bytes = std::fs::read(KERNEL_BTF).expect("a kernel with BTF");
        let btf = Btf::parse(&bytes).expect("the kernel's own BTF is well-formed");
        let resolved = resolve(&btf).expect("every required field is there");
        assert_eq!(resolved.missing, [], "optional fields of a full kernel");
        // Two values that no kernel of the last decade has changed.
        assert_eq!(resolved.fields.path_mnt, 0);
        assert_eq!(resolved.fields.path_dentry, 8);
        assert_ne!(resolved.fields.task_tgid, resolved.fields.task_pid);
    }

    #[test]
    fn a_kernel_without_the_fields_names_every_required_one() {
        let header = [&0xeb9f_u16.to_le_bytes()[..], &[1, 0], &24_u32.to_le_bytes(), &[0; 16]].concat();
        let btf = Btf::parse(&header).expect("no types is well-formed");
        let error = resolve(&btf).expect_err("nothing can be found");
        let required = FIELDS.iter().filter(|field| field.optional.is_none()).count();
        assert_eq!(error.required.len(), required);
        assert!(error.to_string().contains("task_start (task_struct.start_boottime or task_struct.real_start_time)"));
    }
}
