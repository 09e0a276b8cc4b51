//! The smallest programs there are: a static ELF file of one segment. Whatever a real program does after its exec would hide
//! what the exec costs.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path};

/// Where the file is mapped. Any page that is not the first will do.
const BASE: u64 = 0x40_0000;
/// Header and program header of a 64-bit ELF file.
const HEADERS: u64 = 64 + 56;

/// What a program does.
#[derive(Clone, Copy)]
pub(crate) enum Program {
    /// `exit(0)`.
    Exit,
    /// `pause()`, until it is killed.
    Pause,
}

impl Program {
    /// Its machine code.
    const fn code(self) -> &'static [u8] {
        #[cfg(target_arch = "x86_64")]
        return match self {
            // mov eax, 60 (exit); xor edi, edi; syscall
            Self::Exit => &[0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05],
            // mov eax, 34 (pause); syscall; jmp to the start
            Self::Pause => &[0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7],
        };
        #[cfg(target_arch = "aarch64")]
        return match self {
            // mov x0, 0; mov x8, 93 (exit); svc 0
            Self::Exit => &[0x00, 0x00, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4],
            // mov x0, 0; mov x1, 0; mov x2, 0; mov x3, 0; mov x8, 73 (ppoll); svc 0; b to the start
            Self::Pause => &[
                0x00, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x80, 0xd2, 0x02, 0x00, 0x80, 0xd2, 0x03, 0x00, 0x80, 0xd2, 0x28,
                0x09, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, 0xfa, 0xff, 0xff, 0x17,
            ],
        };
    }

    /// Writes it to a file that can be executed.
    pub(crate) fn write(self, path: &Path) -> io::Result<()> {
        fs::write(path, self.elf())?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
    }

    fn elf(self) -> Vec<u8> {
        const MACHINE: u16 = if cfg!(target_arch = "x86_64") { 62 } else { 183 };
        let size = HEADERS + self.code().len() as u64;
        let mut file = Vec::new();
        // e_ident: 64 bits, little-endian, version 1.
        file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        // e_type (executable), e_machine, e_version.
        file.extend_from_slice(&2u16.to_le_bytes());
        file.extend_from_slice(&MACHINE.to_le_bytes());
        file.extend_from_slice(&1u32.to_le_bytes());
        // e_entry, e_phoff, e_shoff.
        for value in [BASE + HEADERS, 64, 0] {
            file.extend_from_slice(&value.to_le_bytes());
        }
        // e_flags; e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx.
        file.extend_from_slice(&0u32.to_le_bytes());
        for value in [64u16, 56, 1, 0, 0, 0] {
            file.extend_from_slice(&value.to_le_bytes());
        }
        // p_type (load), p_flags (read, execute); p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align.
        file.extend_from_slice(&1u32.to_le_bytes());
        file.extend_from_slice(&5u32.to_le_bytes());
        for value in [0, BASE, BASE, size, size, 0x1000] {
            file.extend_from_slice(&value.to_le_bytes());
        }
        file.extend_from_slice(self.code());
        file
    }
}
