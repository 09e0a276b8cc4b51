//! The kernel side of the agent: it finds where this kernel keeps what the programs read, loads and attaches them, and
//! reads their records.

pub mod btf;
mod counters;
mod kernel;
mod library;
mod login_files;
pub mod offsets;
mod ring;
mod sensor;
mod stub;
mod tasks;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, MapError},
};
pub use counters::CounterReader;
pub use login_files::LoginFiles;
pub use postern_ebpf::abi::HookId;
use postern_ebpf::abi::{CgroupHierarchy, EntryMark, Inheritance, ProcessKey, Settings, TaskState};
pub use ring::Ring;
pub use sensor::{Armed, Sensor};
use zerocopy::{FromBytes as _, IntoBytes as _};

use self::btf::Btf;
pub use self::offsets::Missing;

/// The kernel programs, as `build.rs` made them.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("POSTERN_EBPF_OBJECT"));

/// How the kernel side is set up.
#[derive(Clone, Debug)]
pub struct ProbeSettings {
    /// Size of the ring, in bytes: a power of two, and a multiple of the page size.
    pub ring_bytes: u32,
    /// Whether to try the kernel's typed tracepoints before its raw ones.
    pub typed_tracepoints: bool,
    /// Where the node's own root file system is seen, to find its libraries.
    pub host_root: PathBuf,
}

/// What keeps the agent from watching.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No BTF.
    #[error(
        "cannot read the kernel's types from {path}: {source}. Postern needs a kernel built with CONFIG_DEBUG_INFO_BTF"
    )]
    NoBtf {
        /// Where it should be.
        path: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// BTF that makes no sense.
    #[error("the kernel's types in /sys/kernel/btf/vmlinux make no sense: {0}")]
    Btf(#[from] btf::BtfError),
    /// Fields that are needed and are not there.
    #[error(transparent)]
    Offsets(#[from] offsets::OffsetsError),
    /// The embedded object is none.
    #[error("the embedded eBPF object makes no sense: {0}")]
    Object(#[from] object::Error),
    /// The kernel refused the programs or a map.
    #[error("the kernel refused the eBPF programs: {0}")]
    Load(#[from] aya::EbpfError),
    /// It cannot be known for how many processors there must be room.
    #[error("cannot read from {path} which processors there may be: {source}")]
    Processors {
        /// Where it should be.
        path: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A program was refused or could not be attached, and nothing else gives what it gives.
    #[error("cannot attach {program}: {source}")]
    Attach {
        /// Which program.
        program: &'static str,
        /// Why not.
        source: aya::programs::ProgramError,
    },
    /// A map is not as expected.
    #[error("cannot use the map {map}: {source}")]
    Map {
        /// Which map.
        map: &'static str,
        /// Why not.
        source: MapError,
    },
    /// The embedded object lacks a map or program that this agent was built for.
    #[error("the embedded eBPF object has no {0}")]
    Embedded(&'static str),
}

/// How much waits in the ring before its reader is woken: what 20,000 executions a second fill in some 35 ms.
const WAKE_BYTES: u64 = 384 << 10;

/// The kernel's types, by which programs are loaded and attached: some ten megabytes, not to be kept longer than that takes.
pub struct Types(aya::Btf);

impl Types {
    /// Those of the kernel that runs.
    pub fn read() -> Result<Self, ProbeError> {
        Ok(Self(aya::Btf::from_sys_fs().map_err(|error| ProbeError::Load(error.into()))?))
    }
}

/// The loaded kernel side. Dropping it detaches everything.
pub struct Probe {
    ebpf: Ebpf,
    missing: Vec<Missing>,
    /// Whether this kernel tells of all that runs.
    tells_tasks: bool,
}

impl Probe {
    /// Resolves offsets, and loads programs and maps; attaches nothing yet.
    pub fn load(settings: &ProbeSettings, types: &Types) -> Result<Self, ProbeError> {
        let fields =
            fs::read(offsets::KERNEL_BTF).map_err(|source| ProbeError::NoBtf { path: offsets::KERNEL_BTF, source })?;
        let resolved = offsets::resolve(&Btf::parse(&fields)?)?;
        let told = Settings {
            quiet_ns: u64::try_from(Ring::QUIET.as_nanos()).unwrap_or(u64::MAX),
            wake_bytes: WAKE_BYTES.min(u64::from(settings.ring_bytes / 4)),
            cgroup_hierarchy: cgroup_hierarchy() as u32,
            reserved: 0,
        };
        let mut programs = OBJECT.to_vec();
        offsets::set(&resolved.fields, &mut programs)?;
        let processors = processors()?;
        let ebpf = EbpfLoader::new()
            .btf(Some(&types.0))
            .override_global("SETTINGS", told.as_bytes(), true)
            .map_max_entries("RING", settings.ring_bytes)
            .map_max_entries("ACCOUNTS", processors)
            .map_max_entries("EXEC_SCRATCH", 1 + processors)
            .load(&programs)?;
        Ok(Self { ebpf, missing: resolved.missing, tells_tasks: false })
    }

    /// What this kernel does not tell.
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// Attaches every sensor; one that is not needed and cannot be attached says so in its place.
    pub fn arm(&mut self, settings: &ProbeSettings, types: &Types) -> Result<Vec<Armed>, ProbeError> {
        Sensor::ALL.iter().map(|sensor| sensor.arm(&mut self.ebpf, &types.0, settings)).collect()
    }

    /// Prepares for [`Self::running`] and [`Self::inherited`]. The error says why this kernel does not tell.
    pub fn watch_tasks(&mut self, types: &Types) -> Result<(), String> {
        for program in [running(), tasks::INHERITED] {
            tasks::load(&mut self.ebpf, &types.0, program).map_err(|error| sensor::chain(&error))?;
        }
        self.tells_tasks = true;
        Ok(())
    }

    /// What it tells of is not all that runs.
    pub fn ignore_tasks(&mut self) {
        self.tells_tasks = false;
    }

    /// Whether this kernel tells of all that runs.
    pub fn tells_tasks(&self) -> bool {
        self.tells_tasks
    }

    /// Every process that runs, one exec record behind the other, each at a multiple of eight bytes, without arguments, and with the
    /// process that executed its program for its previous one. The error says what is wrong.
    pub fn running(&mut self) -> Result<Vec<u8>, String> {
        tasks::read(&mut self.ebpf, running()).map_err(|error| sensor::chain(&error))
    }

    /// What each process that runs goes on with, where that is another's program or a login; nothing of any on a kernel that does
    /// not tell.
    pub fn inherited(&mut self) -> Result<Vec<Inheritance>, String> {
        if !self.tells_tasks {
            return Ok(Vec::new());
        }
        let told = tasks::read(&mut self.ebpf, tasks::INHERITED).map_err(|error| sensor::chain(&error))?;
        // The kernel writes each of them as a whole.
        Ok(told.chunks_exact(size_of::<Inheritance>()).filter_map(|it| Inheritance::read_from_bytes(it).ok()).collect())
    }

    /// Login programs that run already and are not where login programs usually are. Says which cannot be watched, and why.
    pub fn watch_login_programs<'a>(&mut self, programs: impl Iterator<Item = &'a Path>) -> Vec<String> {
        sensor::watch_login_programs(&mut self.ebpf, programs)
    }

    /// The reading end of the ring; there is one.
    pub fn ring(&mut self) -> Result<Ring, ProbeError> {
        let ring = self.ebpf.take_map("RING").ok_or(ProbeError::Embedded("map RING"))?;
        let last_wake = self.ebpf.take_map("LAST_WAKE").ok_or(ProbeError::Embedded("map LAST_WAKE"))?;
        Ring::new(ring, last_wake).map_err(|source| ProbeError::Map { map: "RING", source })
    }

    /// A reader of the hooks' counters; there is one.
    pub fn counters(&mut self) -> Result<CounterReader, ProbeError> {
        let map = self.ebpf.take_map("ACCOUNTS").ok_or(ProbeError::Embedded("map ACCOUNTS"))?;
        CounterReader::new(map).map_err(|source| ProbeError::Map { map: "ACCOUNTS", source })
    }

    /// Has the kernel side remember, or no longer, what processes were forked from that end without an exec of their own.
    pub fn want_forked(&mut self, wanted: bool) -> Result<(), ProbeError> {
        let failed = |source| ProbeError::Map { map: "WANT_FORKED", source };
        let map = self.ebpf.map_mut("WANT_FORKED").ok_or(ProbeError::Embedded("map WANT_FORKED"))?;
        let mut words = Array::<_, u32>::try_from(map).map_err(failed)?;
        words.set(0, u32::from(wanted), 0).map_err(failed)
    }

    /// The lineage of a process that runs, or that ended a moment ago without an exec of its own.
    pub fn lineage(&self, pid: u32) -> Option<TaskState> {
        let places = Array::<_, [u8; size_of::<TaskState>()]>::try_from(self.ebpf.map("NEW_TASKS")?).ok()?;
        let at_its_place: TaskState = zerocopy::transmute!(places.get(&TaskState::place(pid), 0).ok()?);
        if at_its_place.tgid == pid {
            return Some(at_its_place);
        }
        ["TASKS", "FORKED"].into_iter().find_map(|name| {
            let tasks = HashMap::<_, u32, [u8; size_of::<TaskState>()]>::try_from(self.ebpf.map(name)?).ok()?;
            // An error says that it is not there.
            Some(zerocopy::transmute!(tasks.get(&pid, 0).ok()?))
        })
    }

    /// Tells the kernel side of processes that were there before it. What it has seen itself since then stands. Returns
    /// how many it had no room for.
    pub fn seed(&mut self, processes: impl Iterator<Item = (ProcessKey, EntryMark)>) -> Result<u64, ProbeError> {
        const NO_EXIST: u64 = 1;
        let failed = |source| ProbeError::Map { map: "TASKS", source };
        let map = self.ebpf.map_mut("TASKS").ok_or(ProbeError::Embedded("map TASKS"))?;
        let mut tasks = HashMap::<_, u32, [u8; size_of::<TaskState>()]>::try_from(map).map_err(failed)?;
        let mut refused = 0;
        for (process, entry) in processes {
            let state = TaskState { image: process, entry, tgid: process.tgid, reported: 1, forked: 0 };
            let bytes: [u8; size_of::<TaskState>()] = zerocopy::transmute!(state);
            match tasks.insert(process.tgid, bytes, NO_EXIST) {
                Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(MapError::SyscallError(_)) => refused += 1,
                result => result.map_err(failed)?,
            }
        }
        Ok(refused)
    }
}

/// The program that tells what runs.
fn running() -> &'static str {
    if kernel::bears_null() { tasks::RUNNING } else { tasks::RUNNING_UNTYPED }
}

/// cgroup v1 and the hybrid hierarchy name containers under the v1 controllers; v2 knows no other place.
fn cgroup_hierarchy() -> CgroupHierarchy {
    let controllers = fs::read_to_string("/proc/1/cgroup").unwrap_or_default();
    let has = |name: &str| {
        controllers.lines().filter_map(|line| line.split(':').nth(1)).any(|list| list.split(',').any(|it| it == name))
    };
    if has("pids") {
        CgroupHierarchy::Pids
    } else if has("memory") {
        CgroupHierarchy::Memory
    } else {
        CgroupHierarchy::Unified
    }
}

/// One more than the highest number that a processor may have.
fn processors() -> Result<u32, ProbeError> {
    const PATH: &str = "/sys/devices/system/cpu/possible";
    let error = |source| ProbeError::Processors { path: PATH, source };
    let possible = fs::read_to_string(PATH).map_err(error)?;
    highest(&possible).and_then(|last| last.checked_add(1)).ok_or_else(|| error(io::ErrorKind::InvalidData.into()))
}

/// The highest of the kernel's list of processors, which may have gaps (Documentation/admin-guide/cputopology.rst).
fn highest(processors: &str) -> Option<u32> {
    processors.trim_end().rsplit(['-', ',']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::highest;

    #[test]
    fn processors_with_gaps_between_them_all_have_room() {
        let lists = [("0\n", Some(0)), ("0-3\n", Some(3)), ("0-3,8-11\n", Some(11)), ("0,5\n", Some(5)), ("\n", None)];
        assert_eq!(lists.map(|(list, _)| highest(list)), lists.map(|(_, last)| last));
    }
}
