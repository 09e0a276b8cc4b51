//! Where a program calls a function of a library: the stub in its own procedure linkage table.
//!
//! A uprobe on the function itself would put a breakpoint into the library's page of every process on the node, and that
//! page, no longer shared with the file, makes each of their forks copy the library's page tables. A uprobe on the stub is
//! in nobody's memory but the program's.

use std::{fs, io, path::Path};

use object::{
    File, Object as _, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _, ObjectSymbolTable as _,
    RelocationTarget, SectionKind,
};

/// Programs that are larger are none of those that are looked into.
const SIZE_MAX: u64 = 64 << 20;

/// Why there is no stub to attach to.
#[derive(Debug, thiserror::Error)]
pub(super) enum StubError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// Larger than [`SIZE_MAX`].
    #[error("is {0} bytes long")]
    TooLarge(u64),
    /// No ELF file.
    #[error("is no program: {0}")]
    Elf(#[from] object::Error),
}

/// Offsets in the program's file of its stubs for that function; empty where it does not call it in this way.
pub(super) fn find(program: &Path, function: &str) -> Result<Vec<u64>, StubError> {
    let length = fs::metadata(program)?.len();
    if length > SIZE_MAX {
        return Err(StubError::TooLarge(length));
    }
    let bytes = fs::read(program)?;
    let file = File::parse(&*bytes)?;
    let Some(slots) = slots(&file, function) else { return Ok(Vec::new()) };
    let mut offsets = Vec::new();
    for section in file.sections().filter(|section| section.kind() == SectionKind::Text) {
        let is_table = section.name().is_ok_and(|name| name.starts_with(".plt"));
        if !is_table {
            continue;
        }
        let (start, code) = (section.address(), section.data()?);
        let stubs =
            (0..code.len()).filter(|&at| jump_target(code, at, start).is_some_and(|slot| slots.contains(&slot)));
        offsets.extend(stubs.filter_map(|at| file_offset(&file, start + begin(code, at) as u64)));
    }
    Ok(offsets)
}

/// Addresses where the loader puts the function's address.
fn slots(file: &File<'_>, function: &str) -> Option<Vec<u64>> {
    let symbols = file.dynamic_symbol_table()?;
    let relocations = file.dynamic_relocations()?;
    let is_wanted = |target: RelocationTarget| {
        let RelocationTarget::Symbol(index) = target else { return false };
        symbols.symbol_by_index(index).is_ok_and(|symbol| symbol.name() == Ok(function))
    };
    Some(relocations.filter(|(_, relocation)| is_wanted(relocation.target())).map(|(address, _)| address).collect())
}

/// The slot through which the instruction at `at` jumps: `jmp *disp32(%rip)`.
#[cfg(target_arch = "x86_64")]
fn jump_target(code: &[u8], at: usize, start: u64) -> Option<u64> {
    let [0xff, 0x25, displacement @ ..] = code.get(at..at + 6)? else { return None };
    let displacement = i32::from_le_bytes(displacement.try_into().ok()?);
    (start + at as u64 + 6).checked_add_signed(displacement.into())
}

/// Not looked for on this machine: the function itself takes the breakpoint.
#[cfg(not(target_arch = "x86_64"))]
fn jump_target(_: &[u8], _: usize, _: u64) -> Option<u64> {
    None
}

/// Where the stub of a jump begins: at `endbr64`, and `bnd` before the jump, where there are such.
fn begin(code: &[u8], jump: usize) -> usize {
    let jump = if jump > 0 && code.get(jump - 1) == Some(&0xf2) { jump - 1 } else { jump };
    match jump.checked_sub(4) {
        Some(before) if code.get(before..jump) == Some(&[0xf3, 0x0f, 0x1e, 0xfa]) => before,
        _ => jump,
    }
}

fn file_offset(file: &File<'_>, address: u64) -> Option<u64> {
    let segment = file.segments().find(|it| (it.address()..it.address() + it.size()).contains(&address))?;
    Some(address - segment.address() + segment.file_range().0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_program_that_calls_nothing_has_no_stub() {
        let own = std::env::current_exe().expect("a path");
        assert_eq!(find(&own, "no_such_function_anywhere").expect("a program"), [0; 0]);
        assert!(matches!(find("/proc/self/status".as_ref(), "syslog"), Err(StubError::Elf(_))));
        assert!(matches!(find("/nowhere".as_ref(), "syslog"), Err(StubError::Read(_))));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_jump_is_read_with_what_stands_before_it() {
        let code = [0xf3, 0x0f, 0x1e, 0xfa, 0xf2, 0xff, 0x25, 0x10, 0, 0, 0, 0x90];
        let jumps: Vec<_> =
            (0..code.len()).filter_map(|at| Some((begin(&code, at), jump_target(&code, at, 0x1000)?))).collect();
        assert_eq!(jumps, [(0, 0x1000 + 11 + 0x10)]);
        assert_eq!((begin(&code[5..], 0), begin(&code[4..], 1)), (0, 0));
    }

    proptest! {
        #[test]
        fn any_file_is_borne(bytes in proptest::collection::vec(any::<u8>(), 0..4_096), magic: bool) {
            let mut bytes = bytes;
            if magic && bytes.len() > 64 {
                bytes[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
            }
            let mut file = tempfile::NamedTempFile::new().expect("a file");
            io::Write::write_all(&mut file, &bytes).expect("written");
            // Only that it returns.
            let _ = find(file.path(), "syslog");
        }
    }
}
