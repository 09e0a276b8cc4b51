//! After a loss.

use postern_ebpf::abi::{HookCounters, HookId};
use rustc_hash::FxHashMap;

use super::*;
use crate::pipeline::Input;

const SECOND_NS: u64 = 1_000_000_000;
/// By then all that is told of here has started.
const ASKED_NS: u64 = 200 * SECOND_NS;
/// How long after one stock is taken the next may be.
const EVERY_NS: u64 = 10 * SECOND_NS;

/// What runs, as the kernel side tells it: by pid, whose program, and whose parent.
fn running(all: &[(u32, u32, u32)]) -> Vec<u8> {
    let mut records = Vec::new();
    for &(pid, image, parent) in all {
        let told = exec(0, pid, image, "/bin/late", |body| of_file(body, parent), "/");
        records.extend_from_slice(told.bytes());
        records.resize(records.len().next_multiple_of(8), 0);
    }
    records
}

fn of_file(body: &mut ExecBody, parent: u32) {
    body.file.inode = 7;
    body.parent = key(parent);
}

/// Answers what runs at that time.
fn answer(pipeline: &mut Pipeline, all: &[(u32, u32, u32)], asked_ns: u64) -> Vec<Event> {
    assert!(pipeline.asks_what_runs(asked_ns));
    let records = running(all);
    let args = pipeline.unseen(&records).into_iter().map(|pid| (pid, format!("late\0{pid}\0").into_bytes())).collect();
    pipeline.input(Input::Running { records, args, asked_ns }, asked_ns);
    pipeline.take_events().collect()
}

/// Something is lost, and stock is taken.
fn take_stock(pipeline: &mut Pipeline, all: &[(u32, u32, u32)]) -> Vec<Event> {
    lose(pipeline);
    assert!(answer(pipeline, all, ASKED_NS).is_empty());
    answer(pipeline, all, ASKED_NS + SECOND_NS)
}

fn lose(pipeline: &mut Pipeline) {
    assert!(!pipeline.asks_what_runs(ASKED_NS));
    let counters = HookCounters { lost: 1, ..HookCounters::default() };
    pipeline.input(Input::Counters(vec![(HookId::Exec, counters)]), ASKED_NS);
    assert_eq!(names(&pipeline.take_events().collect::<Vec<_>>()), ["events-lost"]);
}

/// A service, and a program below it.
fn known() -> Pipeline {
    let mut pipeline = pipeline();
    let service = exec(0, 100, 1, "/bin/service", |body| of_file(body, 1), "/");
    let child = exec(1, 110, 100, "/bin/child", |body| of_file(body, 100), "/");
    replay(&mut pipeline, &[service, child]);
    pipeline
}

#[test]
fn what_executed_unseen_is_told_where_it_belongs() {
    let mut pipeline = known();
    // 120 executed, and 121 below it; 122 was forked from it and executed nothing.
    let all = [(100, 100, 1), (110, 110, 100), (120, 120, 100), (121, 121, 120), (122, 120, 120)];
    let events = take_stock(&mut pipeline, &all);
    let told: Vec<_> = events.iter().filter_map(|event| event.lineage.as_ref()).collect();
    let pids: Vec<u32> = told.iter().map(|lineage| lineage.process.key.tgid).collect();
    assert_eq!((names(&events), pids), (vec!["exec"; 2], vec![120, 121]));
    for lineage in &told {
        assert!(lineage.process.seeded);
        assert_eq!(lineage.entry.as_ref().map(|entry| entry.leader), Some(key(100)));
    }
    assert_eq!(told[1].parent.as_ref().map(|parent| parent.key), Some(key(120)));
    assert!(!pipeline.asks_what_runs(u64::MAX), "once for each loss");
}

#[test]
fn a_record_that_was_under_way_is_not_told_twice() {
    let mut pipeline = known();
    lose(&mut pipeline);
    let all = [(100, 100, 1), (110, 110, 100), (120, 120, 100), (130, 130, 100)];
    assert!(answer(&mut pipeline, &all[..3], ASKED_NS).is_empty());
    assert!(!pipeline.asks_what_runs(ASKED_NS + 1));
    let late = exec(2, 120, 100, "/bin/late", |body| of_file(body, 100), "/");
    assert_eq!(names(&replay(&mut pipeline, &[late])), ["exec"]);
    // 130 came later: its record may be under way now.
    assert!(answer(&mut pipeline, &all, ASKED_NS + SECOND_NS).is_empty());
}

#[test]
fn what_ended_unseen_ends_once_the_records_are_read() {
    let mut pipeline = known();
    let third = exec(2, 120, 100, "/bin/child", |body| of_file(body, 100), "/");
    replay(&mut pipeline, &[third]);
    lose(&mut pipeline);
    let all = [(100, 100, 1)];
    assert!(answer(&mut pipeline, &all, ASKED_NS).is_empty(), "a record may tell of their ends still");
    let told = replay(&mut pipeline, &[Written::exit(3, 120, EntryMark::default())]);
    assert_eq!(told[0].end().expect("an end").exit_code, Some(0));
    let events = answer(&mut pipeline, &all, ASKED_NS + SECOND_NS);
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!(event.lineage.as_ref().map(|lineage| lineage.process.key), Some(key(110)));
    assert_eq!(event.end().expect("an end").exit_code, None);
}

#[test]
fn a_session_whose_end_was_lost_closes() {
    let mut pipeline = pipeline();
    let calls = [(LoginCall::Start, "sshd"), (LoginCall::OpenSession, ""), (LoginCall::SessionOpened, "")];
    let login = calls.iter().zip(0..).map(|(&(call, text), sequence)| Written::login(sequence, 12, call, text));
    replay(&mut pipeline, &login.collect::<Vec<_>>());
    assert_eq!(names(&take_stock(&mut pipeline, &[(100, 100, 1)])), ["exec", "session-closed"]);
}

#[test]
fn nobody_ends_by_an_answer_that_makes_no_sense() {
    let mut pipeline = known();
    let mut records = running(&[(100, 100, 1)]);
    records.extend_from_slice(&[0xff; 40]);
    lose(&mut pipeline);
    pipeline.input(Input::Running { records, args: FxHashMap::default(), asked_ns: ASKED_NS }, ASKED_NS);
    assert_eq!(pipeline.malformed(), 1);
    assert!(answer(&mut pipeline, &[(100, 100, 1)], ASKED_NS + EVERY_NS).is_empty(), "it begins anew");
}
