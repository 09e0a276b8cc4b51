//! SSH servers that may let somebody in without PAM, told by the names of their programs.

use postern_ebpf::abi::SSH_SERVERS;

/// A name and its closing zero, as two numbers, and which of their bits are its.
#[derive(Clone, Copy)]
struct Name {
    text: [u64; 2],
    bits: [u64; 2],
}

const NAMES: [Name; SSH_SERVERS.len()] = {
    let mut names = [Name { text: [0; 2], bits: [0; 2] }; SSH_SERVERS.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = name(SSH_SERVERS[index].as_bytes());
        index += 1;
    }
    names
};

/// Whether this is the name of one, by its first 16 bytes.
#[inline(always)]
pub fn is_server(name: [u64; 2]) -> bool {
    // Most names are told from all of them by their first four bytes, of which each is one short instruction.
    if !NAMES.iter().any(|server| server.text[0] as u32 == name[0] as u32) {
        return false;
    }
    let mut index = 0;
    while index < NAMES.len() {
        let Name { text, bits } = NAMES[index];
        if name[0] & bits[0] == text[0] && name[1] & bits[1] == text[1] {
            return true;
        }
        index += 1;
    }
    false
}

const fn name(text: &[u8]) -> Name {
    // The kernel keeps no more of a name.
    assert!(text.len() < 16);
    let (mut bytes, mut bits) = ([[0; 8]; 2], [[0; 8]; 2]);
    let mut index = 0;
    while index <= text.len() {
        bits[index / 8][index % 8] = 0xff;
        if index < text.len() {
            bytes[index / 8][index % 8] = text[index];
        }
        index += 1;
    }
    Name {
        text: [u64::from_ne_bytes(bytes[0]), u64::from_ne_bytes(bytes[1])],
        bits: [u64::from_ne_bytes(bits[0]), u64::from_ne_bytes(bits[1])],
    }
}
