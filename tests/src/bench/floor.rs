//! The barest monitor: each exec with its arguments, from a ring that nobody is woken for to a line in a file. Whoever tells more
//! does this too.

use std::{
    io::{self, Write as _},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use aya::{Btf, EbpfLoader, maps::RingBuf, programs::BtfTracePoint};
use jiff::Timestamp;
use postern::probe::{btf, offsets::KERNEL_BTF};
use serde::Serialize;

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("POSTERN_FLOOR_OBJECT"));

/// How often the ring is drained: so seldom that it takes nothing, and so often that no storm fills it.
const EVERY: Duration = Duration::from_millis(25);
/// Where the arguments begin in a record, after a pid and their length, four bytes each.
const ARGUMENTS: usize = 8;

#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "@timestamp")]
    timestamp: Timestamp,
    event: Event,
    process: Process<'a>,
}

#[derive(Serialize)]
struct Event {
    kind: &'static str,
    category: [&'static str; 1],
    r#type: [&'static str; 1],
    action: &'static str,
}

#[derive(Serialize)]
struct Process<'a> {
    pid: u32,
    args: Vec<&'a str>,
}

/// Tells on standard output, until it is ended.
pub(crate) fn run() -> Result<()> {
    let types = std::fs::read(KERNEL_BTF)?;
    let types = btf::Btf::parse(&types)?;
    let offset = |path: &str| types.member_offset(path).map(u64::from).with_context(|| format!("there is no {path}"));
    let offsets = [offset("task_struct.mm")?, offset("mm_struct.arg_start")?, offset("mm_struct.arg_end")?];
    let mut programs = EbpfLoader::new().override_global("OFFSETS", &offsets[..], true).load(OBJECT)?;
    let program: &mut BtfTracePoint = programs.program_mut("floor").context("the program")?.try_into()?;
    program.load("sched_process_exec", &Btf::from_sys_fs()?)?;
    program.attach()?;
    let mut ring = RingBuf::try_from(programs.map_mut("RING").context("the ring")?)?;
    let mut lines = Vec::new();
    loop {
        let timestamp = Timestamp::now();
        while let Some(record) = ring.next() {
            tell(&mut lines, timestamp, &record)?;
        }
        io::stdout().write_all(&lines)?;
        lines.clear();
        thread::sleep(EVERY);
    }
}

fn tell(lines: &mut Vec<u8>, timestamp: Timestamp, record: &[u8]) -> Result<()> {
    let word = |at: usize| record.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    let (pid, length) = word(0).zip(word(4)).context("a record without a head")?;
    let arguments = record.get(ARGUMENTS..ARGUMENTS + length as usize).context("a record that is too short")?;
    let arguments = arguments.strip_suffix(&[0]).unwrap_or(arguments).split(|&byte| byte == 0);
    let args = arguments.map(|argument| std::str::from_utf8(argument).unwrap_or("")).collect();
    let event = Event { kind: "event", category: ["process"], r#type: ["start"], action: "exec" };
    serde_json::to_writer(&mut *lines, &Line { timestamp, event, process: Process { pid, args } })?;
    lines.push(b'\n');
    Ok(())
}
