//! What somebody in a session left to run later, and what another run of the agent knows of it.

use super::{entry_of, exec, pipeline, replay as feed, session};
use crate::{
    event::{Confidence, EntryType, Event, FileAction},
    files::Touch,
    pipeline::{
        Input, Pipeline,
        left::LATER_NS,
        saved::{Saved, SavedLeft, SavedWhat},
    },
    replay::{self, Exec, Written},
};

const UNIT: &str = "/etc/systemd/system/web.service";
const TABLE: &str = "/etc/cron.d/web";
const PROGRAM: &str = "/etc/cron.daily/web";
const OTHERS: &str = "@daily root others\n";

/// Somebody in a session writes files, and leaves.
fn writes(pipeline: &mut Pipeline) {
    pipeline.input(Input::CronTable { path: TABLE.into(), content: OTHERS.into() }, 0);
    session(pipeline);
    let touch = |path: &str| Touch {
        pid: 110,
        action: FileAction::Created,
        path: Some(path.as_bytes().into()),
        name: b"web".as_slice().into(),
        from: None,
        is_directory: false,
    };
    let touches = [UNIT, TABLE, PROGRAM].map(touch).to_vec();
    pipeline.input(Input::Files { touches, forks: rustc_hash::FxHashMap::default() }, 6_000_000);
    let content = [OTHERS, "@daily root mine\n"].concat().into();
    pipeline.input(Input::CronTable { path: TABLE.into(), content }, 6_000_000);
    feed(pipeline, &[Written::exit(6, 100, super::EntryMark::default())]);
}

/// What one run leaves to the next, by way of its text.
fn hand_on(saved: Saved) -> Saved {
    Saved::parse(&saved.encode().0).expect("what is written is read")
}

/// Who is said to be behind what init and cron run: the unit, the job, one of another's, and the program.
fn behind(pipeline: &mut Pipeline) -> [Option<String>; 4] {
    let job = |pid: u32, path, args: &[&str]| {
        Written::exec(u64::from(pid), Exec { pid, previous: 300, path, args, cgroup: "/" }, |_| {})
    };
    let mut of = |record: Written| {
        let events = feed(pipeline, &[record]);
        let entry = entry_of(events.last().expect("it executed something"));
        let session = entry.session()?;
        assert_eq!(session.confidence, Confidence::Likely);
        Some(format!("{} {}", session.user, session.link.as_deref().expect("linked")))
    };
    of(exec(300, 300, 1, "/usr/sbin/cron", |_| {}, "/system.slice/cron.service"));
    [
        of(exec(301, 301, 1, "/opt/web", |_| {}, "/system.slice/web.service")),
        of(job(302, "/bin/sh", &["/bin/sh", "-c", "mine"])),
        of(job(303, "/bin/sh", &["/bin/sh", "-c", "others"])),
        of(job(304, PROGRAM, &[PROGRAM])),
    ]
}

fn all() -> [Option<String>; 4] {
    let by = |path: &str| Some(format!("ops wrote {path}"));
    [by(UNIT), by(TABLE), None, by(PROGRAM)]
}

#[test]
fn what_was_left_to_run_later_is_its_owners_after_a_restart() {
    let mut before = pipeline();
    writes(&mut before);
    let saved = before.save(false).expect("there is something to keep");
    assert!(before.save(false).is_none(), "nothing is new since");
    assert_eq!(behind(&mut before), all());
    let mut behind_it = pipeline();
    behind_it.restore(&hand_on(saved.clone()), &[], 7_000_000).expect("it is of this boot");
    assert_eq!(behind(&mut behind_it), all());
    let again = behind_it.save(true).expect("asked for");
    assert_eq!(again.left, saved.left, "and after the restart after that");
    // All tables are read when somebody comes in: what stood there before is nobody's, and what is gone is forgotten.
    for (content, mine) in [("@daily root mine\n@daily root new\n", all()[1].clone()), ("", None)] {
        let mut pipeline = pipeline();
        pipeline.restore(&saved, &[], 7_000_000).expect("it is of this boot");
        pipeline.input(Input::CronTable { path: TABLE.into(), content: content.into() }, 7_000_000);
        assert_eq!(behind(&mut pipeline)[1], mine, "{content}");
    }
}

#[test]
fn each_file_that_is_written_is_worth_keeping() {
    let mut pipeline = pipeline();
    writes(&mut pipeline);
    pipeline.save(true);
    session(&mut pipeline);
    pipeline.save(true);
    for path in [UNIT, TABLE, PROGRAM] {
        let name = b"web".as_slice().into();
        let touch = Touch {
            pid: 110,
            action: FileAction::Renamed,
            path: Some(path.as_bytes().into()),
            name,
            from: None,
            is_directory: false,
        };
        let input = Input::Files { touches: vec![touch], forks: rustc_hash::FxHashMap::default() };
        pipeline.input(input, 6_000_000);
        pipeline.input(Input::CronTable { path: TABLE.into(), content: OTHERS.into() }, 6_000_000);
        assert!(pipeline.save(false).is_some(), "{path}");
        assert!(pipeline.save(false).is_none(), "{path}");
    }
}

#[test]
fn what_is_damaged_old_or_contradicts_the_sessions_is_left_out() {
    let mut before = pipeline();
    writes(&mut before);
    let saved = before.save(true).expect("asked for");
    let behind_after = |change: &dyn Fn(&mut SavedLeft), now_ns: u64| {
        let mut saved = saved.clone();
        saved.left.iter_mut().for_each(change);
        let mut pipeline = pipeline();
        pipeline.restore(&hand_on(saved), &[], now_ns).expect("it is of this boot");
        assert!(pipeline.known_tables().len() <= 1);
        behind(&mut pipeline)
    };
    assert_eq!(behind_after(&|_| {}, 7_000_000), all());
    let nothing = [const { None }; 4];
    assert_eq!(behind_after(&|_| {}, 6_000_000 + LATER_NS), nothing, "a day is over");
    assert_eq!(behind_after(&|_| {}, 5_999_999), nothing, "of the future");
    assert_eq!(behind_after(&|left| left.by.session.user = "eve".into(), 7_000_000), nothing);
    assert_eq!(behind_after(&|left| left.by.session.allowed = true, 7_000_000), nothing);
    assert_eq!(behind_after(&|left| left.by.session.door = "console".into(), 7_000_000), nothing);
    assert_eq!(behind_after(&|left| left.by.session.door = "window".into(), 7_000_000), nothing);
    assert_eq!(behind_after(&|left| left.by.observed = "nothing".into(), 7_000_000), nothing);
    // One whose session is not known any more stands for itself.
    let other = |left: &mut SavedLeft| (left.by.session.id, left.by.session.user) = ("1".into(), "eve".into());
    assert_eq!(behind_after(&other, 7_000_000)[0].as_deref(), Some(&*format!("eve wrote {UNIT}")));
    let elsewhere = |left: &mut SavedLeft| match &mut left.what {
        SavedWhat::CronJob(path, _) | SavedWhat::CronProgram(path) => *path = "/etc/passwd".into(),
        SavedWhat::Unit(_) | SavedWhat::AtJobs(_) => {}
    };
    assert_eq!(behind_after(&elsewhere, 7_000_000), [all()[0].clone(), None, None, None], "no file of cron's");
}

#[test]
fn a_file_full_of_it_is_bounded_as_what_is_seen_is() {
    let mut before = pipeline();
    writes(&mut before);
    let saved = before.save(true).expect("asked for");
    let what: [fn(usize) -> SavedWhat; 4] = [
        |it| SavedWhat::Unit(format!("{it}.service")),
        |it| SavedWhat::CronJob(format!("/etc/cron.d/{it}"), "x".into()),
        |it| SavedWhat::CronJob(TABLE.into(), it.to_string()),
        |it| SavedWhat::CronProgram(format!("/etc/cron.daily/{it}")),
    ];
    for what in what {
        let mut full = saved.clone();
        full.left = (0..1_024).map(|it| SavedLeft { what: what(it), ..saved.left[0].clone() }).collect();
        let mut pipeline = pipeline();
        pipeline.restore(&full, &[], 7_000_000).expect("it is of this boot");
        let kept = pipeline.save(true).expect("asked for").left.len();
        assert!((64..=512).contains(&kept), "{kept}");
    }
}

#[test]
fn a_job_of_ats_is_its_owners_after_a_restart() {
    let mut before = pipeline();
    writes(&mut before);
    let mut saved = before.save(true).expect("asked for");
    // Users have no names here: as if one had asked.
    saved.left =
        vec![SavedLeft { what: SavedWhat::AtJobs("ops".into()), how: "at (pid 7)".into(), ..saved.left[0].clone() }];
    let mut pipeline = pipeline();
    pipeline.restore(&hand_on(saved), &[], 7_000_000).expect("it is of this boot");
    let mark = super::EntryMark {
        login: replay::key(400),
        leader: replay::key(401),
        class: super::LoginClass::At as u32,
        server: 0,
    };
    let events: Vec<Event> = feed(
        &mut pipeline,
        &[
            exec(400, 400, 1, "/usr/sbin/atd", |_| {}, "/"),
            Written::login(401, 400, super::LoginCall::Start, "atd"),
            Written::login(402, 400, super::LoginCall::OpenSession, ""),
            Written::login(403, 400, super::LoginCall::SessionOpened, ""),
            exec(404, 401, 400, "/bin/sh", |body| body.entry = mark, "/"),
        ],
    );
    let entry = entry_of(events.last().expect("it executed something"));
    let session = entry.session().expect("whoever asked");
    assert_eq!(
        (entry.entry_type(), &*session.user, session.link.as_deref()),
        (EntryType::At, "ops", Some("at (pid 7)"))
    );
}
