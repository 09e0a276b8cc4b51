//! What a Debian node does for itself: cron's jobs, the rotation of logs, the timers of its packages, a package that is put in
//! and taken out. All of it is the distribution's own, brought forward by files; init and cron run it. It changes the node,
//! so only a node that is thrown away does it.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::Duration,
};

use super::{Done, told::Told};
use crate::harness::program::{run, until};

const DEADLINE: Duration = Duration::from_secs(30);
/// What marks a node that is thrown away: the unit that plays.
const THROWN_AWAY: &str = "/etc/systemd/system/play.service";
/// Timers of Debian's own packages. Those that a suite does not have are left out.
const TIMERS: [&str; 8] = [
    "apt-daily",
    "apt-daily-upgrade",
    "dpkg-db-backup",
    "e2scrub_all",
    "fstrim",
    "logrotate",
    "man-db",
    "systemd-tmpfiles-clean",
];
/// The timer of the unit that puts the package in and takes it out.
const PACKAGE: &str = "quiet-package";
/// Each marker's echo also adds a line to a file of its name, by which it is counted here.
const MARKED: [(&str, &str, &str); 4] = [
    ("cron jobs of root", "cron", "quiet-cron-root"),
    ("cron jobs of another user", "cron", "quiet-cron-user"),
    ("rotations of a log", "init", "quiet-rotated"),
    ("packages put in", "init", "quiet-package"),
];
const CRON: &str = "/etc/cron.d/quiet";
/// As /etc/crontab has it, but every minute.
const CRONTAB: &str = "SHELL=/bin/sh
* * * * * root /bin/echo quiet-cron-root >> /run/quiet/quiet-cron-root
* * * * * daemon /bin/echo quiet-cron-user >> /run/quiet/quiet-cron-user
* * * * * root echo a line >> /var/log/quiet.log
* * * * * root cd / && run-parts /etc/cron.hourly
*/5 * * * * root cd / && run-parts /etc/cron.daily >/dev/null 2>&1
";
const LOGROTATE: &str = "/var/log/quiet.log {
    size 1
    rotate 3
    compress
    missingok
    postrotate
        /bin/echo quiet-rotated >> /run/quiet/quiet-rotated
    endscript
}
";
const POST_INSTALL: &str = "#!/bin/sh
set -e
systemctl daemon-reload
/bin/echo quiet-package >> /run/quiet/quiet-package
";

/// Chores that go on.
pub(super) struct Chores {
    since: String,
    timers: Vec<&'static str>,
}

/// How often each was done.
pub(super) struct Finished(Vec<(&'static str, Option<String>, u64)>);

/// Why they cannot be done here, if they cannot.
pub(super) fn unavailable() -> Option<String> {
    if !Path::new(THROWN_AWAY).exists() {
        return Some("the chores change the machine, and this is no node of `cargo xtask nodes`".to_owned());
    }
    let programs = ["/usr/sbin/cron", "/usr/sbin/logrotate", "/usr/bin/dpkg-deb", "/usr/bin/journalctl"];
    programs.into_iter().find(|path| !Path::new(path).exists()).map(|path| format!("there is no {path}"))
}

impl Chores {
    /// Brings everything forward.
    pub(super) fn start() -> Self {
        let since = said("date", &["+@%s"]);
        fs::create_dir_all("/run/quiet").expect("a folder");
        fs::set_permissions("/run/quiet", Permissions::from_mode(0o1777)).expect("this is root");
        fs::write("/var/log/quiet.log", "a line\n").expect("a log");
        fs::write("/etc/logrotate.d/quiet", LOGROTATE).expect("a rule");
        fs::write(CRON, CRONTAB).expect("a table");
        make_package();
        let has = |timer: &&str| Path::new(&format!("/lib/systemd/system/{timer}.timer")).exists();
        let timers: Vec<&str> = TIMERS.into_iter().filter(has).chain([PACKAGE]).collect();
        for (timer, place) in timers.iter().zip(1_u32..) {
            bring_forward(timer, place);
        }
        said("systemctl", &["daemon-reload"]);
        for timer in &timers {
            said("systemctl", &["restart", &format!("{timer}.timer")]);
        }
        Self { since, timers }
    }

    /// Ends them, waits for those that run, and counts.
    pub(super) fn stop(self) -> Finished {
        fs::remove_file(CRON).expect("it was written");
        said("systemctl", &["stop", "cron.service"]);
        for timer in &self.timers {
            said("systemctl", &["stop", &format!("{timer}.timer")]);
        }
        until("the chores end", DEADLINE, || {
            let states = self.timers.iter().map(|timer| said("systemctl", &["show", "-P", "ActiveState", timer]));
            let is_idle = states.into_iter().all(|state| matches!(&*state, "inactive" | "failed"));
            (is_idle && said("loginctl", &["--no-legend", "list-sessions"]).is_empty()).then_some(())
        });
        let marked = MARKED.into_iter().map(|(what, entry, marker)| {
            let lines = fs::read_to_string(format!("/run/quiet/{marker}")).unwrap_or_default().lines().count();
            (what, Some(format!("{entry} {marker}")), lines as u64)
        });
        let timers = self.timers.iter().map(|timer| (*timer, None, starts(timer, &self.since)));
        Finished(marked.chain(timers).collect())
    }
}

impl Finished {
    pub(super) fn done(self, told: &Told) -> Vec<Done> {
        let done = |(what, sign, done): (&str, Option<String>, u64)| match sign {
            Some(sign) => Done::told(what, done, told.count(&sign)),
            None => Done::witnessed(&format!("runs of {what}.timer's service"), done),
        };
        self.0.into_iter().map(done).collect()
    }
}

/// How often init says that it has begun to start a timer's service (sd-messages(3), `SD_MESSAGE_UNIT_STARTING`).
fn starts(timer: &str, since: &str) -> u64 {
    const STARTING: &str = "MESSAGE_ID=7d4958e842da4a758f6c1cdc7b36dcc5";
    let unit = format!("UNIT={timer}.service");
    said("journalctl", &["--quiet", "--output=cat", "--since", since, STARTING, &unit]).lines().count() as u64
}

/// The timer comes soon, and again some minutes after its service has ended.
fn bring_forward(timer: &str, place: u32) {
    let folder = format!("/run/systemd/system/{timer}.timer.d");
    fs::create_dir_all(&folder).expect("a folder");
    let soon = format!(
        "[Timer]\nOnCalendar=\nOnActiveSec={}\nOnUnitInactiveSec=240\nRandomizedDelaySec=0\nAccuracySec=1s\n\
         Persistent=no\n",
        place * 3
    );
    fs::write(format!("{folder}/soon.conf"), soon).expect("a file");
}

/// A small package with a script that makes init read its units anew, and the unit that puts it in.
fn make_package() {
    let folder = Path::new("/run/quiet-package.d");
    fs::create_dir_all(folder.join("DEBIAN")).expect("a folder");
    fs::create_dir_all(folder.join("usr/share/quiet")).expect("a folder");
    fs::write(folder.join("usr/share/quiet/file"), "content\n").expect("a file");
    let control = "Package: quiet\nVersion: 1\nArchitecture: all\nMaintainer: node\nDescription: nothing\n";
    fs::write(folder.join("DEBIAN/control"), control).expect("a file");
    fs::write(folder.join("DEBIAN/postinst"), POST_INSTALL).expect("a file");
    fs::set_permissions(folder.join("DEBIAN/postinst"), Permissions::from_mode(0o755)).expect("this is root");
    said("dpkg-deb", &["--build", &folder.display().to_string(), "/run/quiet.deb"]);
    // apt's own timers may hold dpkg's lock just then.
    let unit = "[Service]\nType=oneshot\nRestart=on-failure\nRestartSec=3\nExecStart=/usr/bin/dpkg --install /run/quiet.deb\n\
                ExecStart=/usr/bin/dpkg --purge quiet\n";
    fs::write(format!("/run/systemd/system/{PACKAGE}.service"), unit).expect("a unit");
    fs::write(format!("/run/systemd/system/{PACKAGE}.timer"), "[Timer]\nOnActiveSec=1\n").expect("a timer");
}

/// What a program says, which succeeds.
fn said(program: &str, arguments: &[&str]) -> String {
    run(Command::new(program).args(arguments), b"", DEADLINE).succeeded().stdout.trim().to_owned()
}
