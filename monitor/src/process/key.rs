//! Process identity. /proc tells start times in clock ticks and the kernel side in nanoseconds: both are brought down
//! to the tick, so that one process has one id, whoever saw it first and in whichever run of the agent.

use std::sync::Arc;

use postern_ebpf::abi::ProcessKey;
use sha2::{Digest as _, Sha256, digest::core_api::BlockSizeUser as _};

use crate::event::EntityId;

/// `USER_HZ` is 100 on every architecture that the agent runs on. A pid is not used twice within one tick: pids are
/// given out in turn, and there are at least 32,768.
const TICK_NS: u64 = 10_000_000;

/// The key with its start time brought down to the clock tick.
pub fn to_tick(key: ProcessKey) -> ProcessKey {
    ProcessKey::new(key.tgid, key.start_ns - key.start_ns % TICK_NS)
}

/// Names the processes and sessions of one boot.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// The hash behind what is the same for all of them, which takes a whole block of it: a name then costs one more.
    process: Sha256,
    session: Sha256,
}

impl Identity {
    /// `boot_id` is the kernel's, as `/proc/sys/kernel/random/boot_id` spells it.
    pub(super) fn of_boot(boot_id: &str) -> Self {
        Self { process: begun(b"process", boot_id), session: begun(b"session", boot_id) }
    }

    /// ECS `process.entity_id`: 128 bits of a hash over boot id, pid and start time.
    pub(super) fn process(&self, key: ProcessKey) -> EntityId {
        EntityId(ended(&self.process, key))
    }

    /// `postern.session.id`: made in the same way of the process that opened the session, and shorter, for people to type.
    pub(super) fn session(&self, login: ProcessKey) -> Arc<str> {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let digest = ended(&self.session, login);
        let digits = digest[..8].iter().flat_map(|byte| [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        digits.map(char::from).collect::<String>().into()
    }
}

fn begun(purpose: &[u8], boot_id: &str) -> Sha256 {
    let mut text = [purpose, &[0], boot_id.as_bytes()].concat();
    text.resize(text.len().next_multiple_of(Sha256::block_size()), 0);
    Sha256::new().chain_update(text)
}

fn ended(begun: &Sha256, key: ProcessKey) -> [u8; 16] {
    let ProcessKey { tgid, start_ns, .. } = to_tick(key);
    let mut text = [0; 12];
    text[..4].copy_from_slice(&tgid.to_be_bytes());
    text[4..].copy_from_slice(&start_ns.to_be_bytes());
    let hash = begun.clone().chain_update(text).finalize();
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
        let boot = Identity::of_boot("boot");
        assert_eq!(boot.process(exact), boot.process(from_proc));
    }

    #[test]
    fn another_pid_start_or_boot_is_another_id() {
        let boot = Identity::of_boot("boot");
        let id = boot.process(ProcessKey::new(7, 50_000_000));
        assert_ne!(id, boot.process(ProcessKey::new(8, 50_000_000)));
        assert_ne!(id, boot.process(ProcessKey::new(7, 60_000_000)));
        assert_ne!(id, Identity::of_boot("other").process(ProcessKey::new(7, 50_000_000)));
        let session = boot.session(ProcessKey::new(7, 50_000_000));
        assert!(session.len() == 16 && session.bytes().all(|digit| digit.is_ascii_hexdigit()), "{session}");
    }
}
