//! Who may come in. The first rule that matches decides; where none does, the entry is an alert.

use std::{fmt, sync::Arc};

use ipnet::IpNet;
use jiff::tz::{Offset, TimeZone};

use crate::event::{Door, Login, Maintenance, Pod, Timestamp};

/// The configuration's `access` section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessPolicy {
    /// In the order of the file.
    pub allow: Vec<AccessRule>,
    /// What becomes of a session that no rule covers, beside the alert.
    pub on_violation: OnViolation,
}

/// What becomes of a session that no rule covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnViolation {
    /// It is an alert.
    #[default]
    Alert,
    /// Its processes are killed as well.
    Terminate,
}

/// One entry of `access.allow`: all that it names must match; what it does not name, matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRule {
    /// Where the rule stands in the file.
    pub line: usize,
    /// The door.
    pub door: Option<Door>,
    /// User names; empty for any.
    pub users: Vec<Arc<str>>,
    /// Groups of the node, of which the user must be in one; empty for any.
    pub groups: Vec<Arc<str>>,
    /// Key fingerprints (`SHA256:...`); empty for any way to authenticate.
    pub keys: Vec<Arc<str>>,
    /// Ids of SSH certificates; empty for any way to authenticate.
    pub certificates: Vec<Arc<str>>,
    /// Source networks; empty for any. What an environment alone claims is in none.
    pub from: Vec<IpNet>,
    /// Namespaces of the pod that is entered; empty for any.
    pub namespaces: Vec<Arc<str>>,
    /// Names of the pod that is entered, `*` at the end for what begins so; empty for any.
    pub pods: Vec<Arc<str>>,
    /// When.
    pub when: Option<Window>,
    /// Whether only during a maintenance of the node.
    pub during_maintenance: bool,
}

/// Hours of some days of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// From Monday on.
    pub days: [bool; 7],
    /// The first minute of the day.
    pub from: u16,
    /// The minute of the day that is the first behind it. Not after `from` where it is on the next day.
    pub until: u16,
    /// How far the clock that this goes by is ahead of UTC.
    pub offset: Offset,
}

/// Who asks to come in, where to and when.
#[derive(Clone, Copy, Debug)]
pub struct Applicant<'a> {
    /// The login.
    pub login: &'a Login,
    /// The pod that is entered.
    pub pod: Option<&'a Pod>,
    /// The time.
    pub time: Timestamp,
    /// The maintenance that is known of; whether it is on, the time says.
    pub maintenance: Option<&'a Maintenance>,
}

/// The first thing that a rule names and that does not match, by its key in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch(pub &'static str);

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` does not match", self.0)
    }
}

impl AccessPolicy {
    /// Whether sessions that no rule covers are to be ended.
    pub fn terminates(&self) -> bool {
        self.on_violation == OnViolation::Terminate
    }

    /// Whether a rule speaks of this user, of what was shown, or of where it came from.
    pub fn names(&self, login: &Login) -> bool {
        let has = |list: &[Arc<str>], found: Option<&Arc<str>>| found.is_some_and(|found| list.contains(found));
        self.allow.iter().any(|rule| {
            has(&rule.users, Some(&login.user))
                || has(&rule.keys, login.key_fingerprint.as_ref())
                || has(&rule.certificates, login.certificate.as_ref())
                || login.source.ip.is_some_and(|ip| rule.from.iter().any(|it| it.contains(&ip)))
        })
    }

    /// The first rule that covers the applicant, if one does.
    pub fn decide(&self, applicant: Applicant<'_>) -> Option<&AccessRule> {
        self.allow.iter().find(|rule| rule.mismatch(applicant).is_none())
    }
}

impl AccessRule {
    /// Why it does not cover the applicant; `None` where it does.
    pub fn mismatch(&self, Applicant { login, pod, time, maintenance }: Applicant<'_>) -> Option<Mismatch> {
        let one_of = |list: &[Arc<str>], found: Option<&Arc<str>>| {
            list.is_empty() || found.is_some_and(|found| list.contains(found))
        };
        let proven = login.source.ip.filter(|_| !login.source.claimed);
        let matches = [
            ("door", self.door.is_none_or(|door| door == login.door)),
            ("users", one_of(&self.users, Some(&login.user))),
            ("groups", self.groups.is_empty() || login.groups.iter().any(|group| self.groups.contains(group))),
            ("keys", one_of(&self.keys, login.key_fingerprint.as_ref())),
            ("certificates", one_of(&self.certificates, login.certificate.as_ref())),
            ("from", self.from.is_empty() || proven.is_some_and(|ip| self.from.iter().any(|it| it.contains(&ip)))),
            ("namespaces", one_of(&self.namespaces, pod.map(|pod| &pod.namespace))),
            ("pods", self.pods.is_empty() || pod.is_some_and(|pod| self.pods.iter().any(|it| is_named(it, &pod.name)))),
            ("when", self.when.is_none_or(|window| window.contains(time))),
            ("during", !self.during_maintenance || maintenance.is_some_and(|it| it.covers(time))),
        ];
        matches.into_iter().find(|(_, matches)| !matches).map(|(key, _)| Mismatch(key))
    }
}

fn is_named(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or_else(|| pattern == name, |start| name.starts_with(start))
}

impl Window {
    /// Whether that time is in it. What begins before midnight and ends behind it belongs to the day of its beginning.
    pub fn contains(&self, time: Timestamp) -> bool {
        let clock = time.to_zoned(TimeZone::fixed(self.offset));
        // Between 0 and 1439.
        let minute = (i16::from(clock.hour()) * 60 + i16::from(clock.minute())) as u16;
        let day = usize::from(clock.weekday().to_monday_zero_offset().unsigned_abs());
        let on = |day: usize| self.days[day % 7];
        if self.from < self.until {
            return on(day) && (self.from..self.until).contains(&minute);
        }
        minute >= self.from && on(day) || minute < self.until && on(day + 6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EntryType, Source};

    fn login(user: &str, key: Option<&str>, ip: Option<&str>) -> Login {
        Login {
            door: EntryType::Sshd,
            user: user.into(),
            source: Source { ip: ip.map(|ip| ip.parse().expect("an address")), ..Source::default() },
            key_fingerprint: key.map(Into::into),
            ..Login::default()
        }
    }

    fn applicant(login: &Login) -> Applicant<'_> {
        Applicant { login, pod: None, time: Timestamp::UNIX_EPOCH, maintenance: None }
    }

    #[test]
    fn all_that_a_rule_names_must_match_and_the_first_that_matches_decides() {
        let by_key = AccessRule {
            line: 1,
            door: Some(EntryType::Sshd),
            users: vec!["ops".into()],
            keys: vec!["SHA256:a".into()],
            from: vec!["192.0.2.0/24".parse().expect("a network")],
            ..AccessRule::default()
        };
        let console = AccessRule { line: 2, door: Some(EntryType::Console), ..AccessRule::default() };
        let anything_of_root = AccessRule { line: 3, users: vec!["root".into()], ..AccessRule::default() };
        let policy = AccessPolicy { allow: vec![by_key, console, anything_of_root], ..AccessPolicy::default() };
        for (user, key, ip, decided) in [
            ("ops", Some("SHA256:a"), Some("192.0.2.7"), Ok(1)),
            ("ops", Some("SHA256:b"), Some("192.0.2.7"), Err("keys")),
            ("ops", None, Some("192.0.2.7"), Err("keys")),
            ("ops", Some("SHA256:a"), Some("198.51.100.7"), Err("from")),
            ("ops", Some("SHA256:a"), None, Err("from")),
            ("root", None, None, Ok(3)),
        ] {
            let login = login(user, key, ip);
            let found = policy.decide(applicant(&login)).map(|rule| rule.line);
            assert_eq!(found, decided.ok(), "{user} {key:?} {ip:?}");
            if let Err(key) = decided {
                assert_eq!(policy.allow[0].mismatch(applicant(&login)), Some(Mismatch(key)));
            }
        }
        let mut claimed = login("ops", Some("SHA256:a"), Some("192.0.2.7"));
        claimed.source.claimed = true;
        assert_eq!(policy.allow[0].mismatch(applicant(&claimed)), Some(Mismatch("from")));
        assert_eq!(AccessPolicy::default().decide(applicant(&login("root", None, None))), None);
        for (user, key, ip, named) in [
            ("ops", None, None, true),
            ("eve", Some("SHA256:a"), None, true),
            ("eve", None, Some("192.0.2.9"), true),
            ("eve", Some("SHA256:b"), Some("198.51.100.7"), false),
        ] {
            assert_eq!(policy.names(&login(user, key, ip)), named, "{user} {key:?} {ip:?}");
        }
    }

    #[test]
    fn groups_certificates_and_pods_are_named_too() {
        let in_groups = Login { groups: vec!["users".into(), "sre".into()], ..login("ops", None, None) };
        let rule = |rule: AccessRule| {
            move |login: &Login, pod: Option<&Pod>| {
                rule.mismatch(Applicant { login, pod, time: Timestamp::UNIX_EPOCH, maintenance: None }).is_none()
            }
        };
        let by_group = rule(AccessRule { groups: vec!["sre".into()], ..AccessRule::default() });
        assert_eq!((by_group(&in_groups, None), by_group(&login("ops", None, None), None)), (true, false));

        let with = Login { certificate: Some("ops@example".into()), ..Login::default() };
        let by_certificate = rule(AccessRule { certificates: vec!["ops@example".into()], ..AccessRule::default() });
        assert_eq!((by_certificate(&with, None), by_certificate(&in_groups, None)), (true, false));

        let pod =
            |namespace: &str, name: &str| Pod { namespace: namespace.into(), name: name.into(), ..Pod::default() };
        let by_pod = rule(AccessRule {
            namespaces: vec!["shop".into()],
            pods: vec!["web-*".into(), "db".into()],
            ..AccessRule::default()
        });
        for (namespace, name, covered) in
            [("shop", "web-1", true), ("shop", "db", true), ("shop", "db-1", false), ("bank", "web-1", false)]
        {
            assert_eq!(by_pod(&with, Some(&pod(namespace, name))), covered, "{namespace}/{name}");
        }
        assert!(!by_pod(&with, None));
    }

    #[test]
    fn a_rule_for_a_maintenance_holds_while_one_is_on_and_at_no_other_time() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let rule = AccessRule { during_maintenance: true, ..AccessRule::default() };
        let on = Maintenance {
            ticket: "OPS-7".into(),
            since: at("2026-11-23T08:00:00Z"),
            until: at("2026-11-23T09:00:00Z"),
        };
        let login = login("ops", None, None);
        let mismatch =
            |time, maintenance| rule.mismatch(Applicant { login: &login, pod: None, time: at(time), maintenance });
        assert_eq!(mismatch("2026-11-23T08:00:00Z", Some(&on)), None);
        assert_eq!(mismatch("2026-11-23T08:59:59Z", Some(&on)), None);
        assert_eq!(mismatch("2026-11-23T07:59:59Z", Some(&on)), Some(Mismatch("during")));
        assert_eq!(mismatch("2026-11-23T09:00:00Z", Some(&on)), Some(Mismatch("during")));
        assert_eq!(mismatch("2026-11-23T08:30:00Z", None), Some(Mismatch("during")));
    }

    #[test]
    fn a_window_may_end_on_the_next_day() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        // 2026-11-23 is a Monday.
        let mut days = [false; 7];
        days[0] = true;
        let day = Window { days, from: 8 * 60, until: 18 * 60, offset: Offset::UTC };
        let night = Window { days, from: 22 * 60, until: 6 * 60, offset: Offset::constant(1) };
        for (time, in_day, in_night) in [
            ("2026-11-23T07:59:59Z", false, false),
            ("2026-11-23T08:00:00Z", true, false),
            ("2026-11-23T17:59:00Z", true, false),
            ("2026-11-23T18:00:00Z", false, false),
            ("2026-11-23T20:59:00Z", false, false),
            ("2026-11-23T21:00:00Z", false, true),
            ("2026-11-24T04:59:00Z", false, true),
            ("2026-11-24T05:00:00Z", false, false),
            ("2026-11-24T08:00:00Z", false, false),
            ("2026-11-24T21:00:00Z", false, false),
            ("2026-11-23T04:00:00Z", false, false),
        ] {
            assert_eq!((day.contains(at(time)), night.contains(at(time))), (in_day, in_night), "{time}");
        }
        let always = Window { days: [true; 7], from: 0, until: 0, offset: Offset::UTC };
        assert!(always.contains(at("2026-11-23T00:00:00Z")) && always.contains(at("2026-11-23T23:59:00Z")));
    }
}
