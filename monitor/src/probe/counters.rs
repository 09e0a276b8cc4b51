//! The kernel side's own accounting, summed over CPUs.

use aya::maps::{Array, Map, MapData, MapError};
use postern_ebpf::abi::{CpuAccount, HookCounters, HookId};

/// Reads the `ACCOUNTS` map.
pub struct CounterReader(Array<MapData, [u64; WORDS]>);

const WORDS: usize = size_of::<CpuAccount>() / size_of::<u64>();

impl CounterReader {
    pub(super) fn new(map: Map) -> Result<Self, MapError> {
        Ok(Self(Array::try_from(map)?))
    }

    /// The figures of every hook.
    pub fn read(&self) -> Result<Vec<(HookId, HookCounters)>, MapError> {
        let mut sum = [0u64; WORDS];
        for cpu in self.0.iter() {
            for (total, value) in sum.iter_mut().zip(cpu?) {
                *total += value;
            }
        }
        let CpuAccount { hooks, .. } = zerocopy::transmute!(sum);
        Ok(HookId::ALL.into_iter().zip(hooks).collect())
    }
}
