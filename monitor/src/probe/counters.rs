//! The kernel side's own accounting, summed over CPUs.

use aya::maps::{Map, MapData, MapError, PerCpuArray};
use postern_ebpf::abi::{HookCounters, HookId};

/// Reads the `COUNTERS` map.
pub struct CounterReader(PerCpuArray<MapData, [u64; FIELDS]>);

const FIELDS: usize = size_of::<HookCounters>() / size_of::<u64>();

impl CounterReader {
    pub(super) fn new(map: Map) -> Result<Self, MapError> {
        Ok(Self(PerCpuArray::try_from(map)?))
    }

    /// The figures of every hook.
    pub fn read(&self) -> Result<Vec<(HookId, HookCounters)>, MapError> {
        HookId::ALL.iter().map(|&hook| Ok((hook, self.hook(hook)?))).collect()
    }

    fn hook(&self, hook: HookId) -> Result<HookCounters, MapError> {
        let mut sum = [0u64; FIELDS];
        for cpu in self.0.get(&(hook as u32), 0)?.iter() {
            for (total, value) in sum.iter_mut().zip(cpu) {
                *total += value;
            }
        }
        Ok(zerocopy::transmute!(sum))
    }
}
