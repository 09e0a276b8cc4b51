//! Process identity. /proc tells start times in clock ticks and the kernel side in nanoseconds: both are brought down
//! to the tick, so that one process has one id, whoever saw it first and in whichever run of the agent.

use std::sync::Arc;

use postern_ebpf::abi::ProcessKey;
use sha2::{Digest as _, Sha256};

use crate::event::EntityId;

/// `USER_HZ` is 100 on every architecture that the agent runs on. A pid is not used twice within one tick: pids are
/// given out in turn, and there are at least 32,768.
const TICK_NS: u64 = 10_000_000;

/// The key with its start time brought down to the clock tick.
pub fn to_tick(key: ProcessKey) -> ProcessKey {
    ProcessKey::new(key.tgid, key.start_ns - key.start_ns % TICK_NS)
}

/// ECS `process.entity_id`: 128 bits of a hash over boot id, pid and start time.
pub fn entity_id(boot_id: &str, key: ProcessKey) -> EntityId {
    EntityId(digest(b"process", boot_id, to_tick(key)))
}

/// `postern.session.id`: made in the same way of the process that opened the session, and shorter, for people to type.
pub fn session_id(boot_id: &str, login: ProcessKey) -> Arc<str> {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digest = digest(b"session", boot_id, to_tick(login));
    let digits = digest[..8].iter().flat_map(|byte| [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    digits.map(char::from).collect::<String>().into()
}

fn digest(purpose: &[u8], boot_id: &str, key: ProcessKey) -> [u8; 16] {
    let hash = Sha256::new()
        .chain_update(purpose)
        .chain_update([0])
        .chain_update(boot_id)
        .chain_update(key.tgid.to_be_bytes())
        .chain_update(key.start_ns.to_be_bytes())
        .finalize();
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_same_from_proc_and_from_the_kernel() {
        let exact = ProcessKey::new(4242, 123_456_789_012);
        let from_proc = ProcessKey::new(4242, 123_450_000_000);
        assert_eq!(entity_id("boot", exact), entity_id("boot", from_proc));
    }

    #[test]
    fn another_pid_start_or_boot_is_another_id() {
        let id = entity_id("boot", ProcessKey::new(7, 50_000_000));
        assert_ne!(id, entity_id("boot", ProcessKey::new(8, 50_000_000)));
        assert_ne!(id, entity_id("boot", ProcessKey::new(7, 60_000_000)));
        assert_ne!(id, entity_id("other", ProcessKey::new(7, 50_000_000)));
        let session = session_id("boot", ProcessKey::new(7, 50_000_000));
        assert!(session.len() == 16 && session.bytes().all(|digit| digit.is_ascii_hexdigit()), "{session}");
    }
}
