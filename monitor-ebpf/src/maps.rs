//! Every map, with its bound and why.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, ProgramArray, RingBuf},
};
use postern_ebpf::abi::{CpuAccount, Settings, TaskState};

use crate::hooks::ExecRecord;

/// Set before load.
#[unsafe(no_mangle)]
pub static SETTINGS: Settings =
    Settings { quiet_ns: 10_000_000, wake_bytes: 1 << 20, cgroup_hierarchy: 0, reserved: 0 };

/// The one way to user space. Sized at load (`probe.ring_bytes`).
#[map]
pub static RING: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// Lineage of every live process, by thread group id. Bounded by what a node runs: past that, processes are counted
/// as `untracked` and user space guesses. Preallocated, since kernels before 6.1 cannot allocate here.
#[map]
pub static TASKS: HashMap<u32, TaskState> = HashMap::with_max_entries(65_536, 0);

/// The same of those that started since the agent did and found their place here free ([`crate::tasks`]).
#[map]
pub static NEW_TASKS: Array<TaskState> = Array::with_max_entries(TaskState::PLACES, 0);

/// The login class of processes that called `pam_start`, until they exit. Logins under way at once, so small; the
/// oldest goes first, and a lost entry only means that its session is marked by user space.
#[map]
pub static LOGINS: LruHashMap<u32, u32> = LruHashMap::with_max_entries(4_096, 0);

/// What processes were forked from that ended without an exec of their own, while user space asks for it ([`WANT_FORKED`]):
/// they may be gone by the time that it hears what they did to a file. The oldest go first: they are asked for at once.
#[map]
pub static FORKED: LruHashMap<u32, TaskState> = LruHashMap::with_max_entries(8_192, 0);

/// 1 while user space wants [`FORKED`] filled.
#[map]
pub static WANT_FORKED: Array<u32> = Array::with_max_entries(1, 0);

/// Accounting, by the CPU's number: resized at load to the highest that there may be.
#[map]
pub static ACCOUNTS: Array<CpuAccount> = Array::with_max_entries(1, 0);

/// Always empty: programs that call into it keep their own stack (`stack.rs`).
#[map]
pub static NOWHERE: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// When user space was last woken for ordinary records, in nanoseconds since boot: one for all CPUs.
#[map]
pub static LAST_WAKE: Array<u64> = Array::with_max_entries(1, 0);

/// Where an exec record is put together: one slot for what runs already, and one a CPU by its number, resized at load. Not
/// a per-CPU map, whose values may not exceed 32 KiB.
#[map]
pub static EXEC_SCRATCH: Array<ExecRecord> = Array::with_max_entries(2, 0);
