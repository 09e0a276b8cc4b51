//! What each step of an event's way takes by itself: `cargo bench --package postern-tests`.

use divan::{Bencher, black_box, counter::BytesCount};
use postern::{
    detect::{AccessPolicy, AccessRule, Applicant, alert},
    event::{Body, Event, Login, Timestamp},
    pipeline::Pipeline,
    process::{Known, ProcessTable},
    record,
    replay::{self, Exec, Written},
    sink::encode::{Encoder, pretty},
};
use postern_ebpf::abi::{EntryMark, LoginCall};

fn main() {
    divan::main();
}

fn exec(sequence: u64, pid: u32) -> Written {
    let args =
        ["/usr/bin/curl", "--silent", "--show-error", "https://example.invalid/a/path?with=a&query", "-o", "/tmp/out"];
    let exec = Exec { pid, previous: 10, path: "/usr/bin/curl", args: &args, cgroup: "/system.slice/a.service" };
    Written::exec(sequence, exec, |_| {})
}

fn shell(sequence: u64) -> Written {
    let exec = Exec { pid: 10, previous: 0, path: "/bin/bash", args: &["-bash"], cgroup: "/system.slice/a.service" };
    Written::exec(sequence, exec, |_| {})
}

fn told(pipeline: &mut Pipeline, records: &[Written]) -> Vec<Event> {
    for record in records {
        pipeline.record(record.bytes()).expect("a good record");
    }
    pipeline.take_events().collect()
}

/// An exec below a shell, and its end.
fn events() -> Vec<Event> {
    let records = [shell(0), exec(1, 11), Written::exit(2, 11, EntryMark::default())];
    told(&mut replay::pipeline(AccessPolicy::default()), &records)
}

fn login() -> Login {
    let calls = [(LoginCall::Start, "sshd"), (LoginCall::OpenSession, ""), (LoginCall::SessionOpened, "")];
    let records: Vec<Written> =
        calls.iter().zip(0..).map(|(&(call, text), sequence)| Written::login(sequence, 12, call, text)).collect();
    let events = told(&mut replay::pipeline(AccessPolicy::default()), &records);
    let opened = events.iter().find_map(|event| match &event.body {
        Body::SessionOpened(login) => Some(Login::clone(login)),
        _ => None,
    });
    opened.expect("a login")
}

#[divan::bench]
fn decode_record(bencher: Bencher) {
    let written = exec(0, 11);
    bencher.counter(BytesCount::of_slice(written.bytes())).bench(|| record::decode(black_box(written.bytes())));
}

#[divan::bench]
fn decode_process(bencher: Bencher) {
    let written = exec(0, 11);
    let record = record::decode(written.bytes()).expect("a good record");
    let record::Body::Exec(exec) = record.body else { unreachable!("it is an exec") };
    let mut decoder = replay::decoder();
    bencher.bench_local(|| decoder.exec(black_box(&exec), false));
}

#[divan::bench]
fn process_table(bencher: Bencher) {
    let mut table = ProcessTable::default();
    let process = events().iter().find_map(|event| event.lineage.as_ref().map(|it| it.process.clone())).expect("one");
    let mut pid = 0;
    bencher.bench_local(|| {
        pid += 1;
        let key = replay::key(pid);
        let mut process = process.clone();
        std::sync::Arc::make_mut(&mut process).key = key;
        table.insert(Known { process, entry: None, entry_leader: None, container: None, told: 0 });
        table.end(key, false, u64::from(pid));
        table.expire(u64::from(pid));
    });
}

#[divan::bench(args = [1, 10, 100])]
fn access_policy(bencher: Bencher, rules: u32) {
    let rule = |number| AccessRule { users: vec![format!("user-{number}").into()], ..AccessRule::default() };
    let policy = AccessPolicy { allow: (0..rules).map(rule).collect(), ..AccessPolicy::default() };
    let login = login();
    let applicant = Applicant { login: &login, pod: None, maintenance: None, time: Timestamp::UNIX_EPOCH };
    bencher.bench(|| policy.decide(black_box(applicant)));
}

#[divan::bench]
fn built_in_rules(bencher: Bencher) {
    let events = events();
    bencher.bench(|| alert(black_box(&events[1])));
}

#[divan::bench]
fn whole_pipeline(bencher: Bencher) {
    let mut pipeline = replay::pipeline(AccessPolicy::default());
    told(&mut pipeline, &[shell(0)]);
    let (mut sequence, mut pid) = (0, 11);
    let input = || {
        (sequence, pid) = (sequence + 2, pid + 1);
        [exec(sequence - 1, pid), Written::exit(sequence, pid, EntryMark::default())]
    };
    bencher.with_inputs(input).bench_local_values(|records| told(&mut pipeline, &records));
}

#[divan::bench]
fn ecs_line(bencher: Bencher) {
    let events = events();
    let event = events.last().expect("an exec that has ended");
    let mut encoder = Encoder::new(replay::node());
    let mut line = Vec::new();
    bencher.bench_local(|| {
        line.clear();
        encoder.encode(black_box(event), &mut line);
    });
}

#[divan::bench]
fn pretty_line(bencher: Bencher) {
    let events = events();
    let mut line = String::new();
    bencher.bench_local(|| {
        line.clear();
        pretty(black_box(&events[1]), &mut line, true);
    });
}
