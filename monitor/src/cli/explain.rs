//! `postern check --explain`: which access rule decides on a login.

use std::{io::Write, net::IpAddr, sync::Arc};

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser as _},
};

use crate::{
    config::access::DOORS,
    detect::{AccessPolicy, Applicant},
    event::{Door, EntryType, Login, Maintenance, Pod, Source, Timestamp},
    exit::Exit,
};

/// A login that nobody tried.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "With --explain")]
pub struct LoginOptions {
    /// By which door.
    #[arg(long, default_value = "sshd", requires = "explain",
        value_parser = PossibleValuesParser::new(DOORS.map(EntryType::as_str)).map(|text| door(&text)))]
    pub door: Door,
    /// Who.
    #[arg(long, default_value = "", value_name = "NAME", requires = "explain", hide_default_value = true)]
    pub user: String,
    /// A group that the user is in; may be given more than once.
    #[arg(long = "group", value_name = "NAME", requires = "explain")]
    pub groups: Vec<String>,
    /// Fingerprint of the key (`SHA256:...`).
    #[arg(long, value_name = "FINGERPRINT", requires = "explain")]
    pub key: Option<String>,
    /// Id in the certificate.
    #[arg(long, value_name = "ID", requires = "explain")]
    pub certificate: Option<String>,
    /// From which address.
    #[arg(long, value_name = "ADDRESS", requires = "explain")]
    pub from: Option<IpAddr>,
    /// Into which pod.
    #[arg(long, value_name = "NAMESPACE/NAME", requires = "explain", value_parser = pod)]
    pub pod: Option<Pod>,
    /// When; default: now.
    #[arg(long, value_name = "TIME", requires = "explain")]
    pub time: Option<Timestamp>,
    /// During a maintenance of the node under this ticket.
    #[arg(long, value_name = "TICKET", requires = "explain")]
    pub maintenance: Option<String>,
}

fn door(text: &str) -> Door {
    // The parser before has let nothing else through.
    Door::parse(text).unwrap_or_default()
}

fn pod(text: &str) -> Result<Pod, String> {
    let (namespace, name) = text.split_once('/').ok_or("expected NAMESPACE/NAME")?;
    Ok(Pod { namespace: namespace.into(), name: name.into(), ..Pod::default() })
}

/// Says of each rule up to the one that decides whether it matches.
pub(super) fn explain(policy: &AccessPolicy, options: &LoginOptions, out: &mut impl Write) -> Exit {
    let login = Login {
        door: options.door,
        user: options.user.as_str().into(),
        groups: options.groups.iter().map(|group| Arc::from(&**group)).collect(),
        key_fingerprint: options.key.as_deref().map(Arc::from),
        certificate: options.certificate.as_deref().map(Arc::from),
        source: Source { ip: options.from, ..Source::default() },
        ..Login::default()
    };
    let time = options.time.unwrap_or_else(Timestamp::now);
    let maintenance = options.maintenance.as_deref().map(|ticket| Maintenance {
        ticket: ticket.into(),
        since: time,
        until: Timestamp::MAX,
    });
    let applicant = Applicant { login: &login, pod: options.pod.as_ref(), time, maintenance: maintenance.as_ref() };
    for rule in &policy.allow {
        // A closed pipe changes nothing about the answer, which is the exit code.
        let Some(mismatch) = rule.mismatch(applicant) else {
            // Whoever asks says no more of the address than which it is.
            let proviso = if rule.from.is_empty() { "" } else { ", where PAM or sshd's log tells the address" };
            let _ = writeln!(out, "line {}: allows it{proviso}", rule.line);
            return Exit::Success;
        };
        let _ = writeln!(out, "line {}: {mismatch}", rule.line);
    }
    let _ = writeln!(out, "no rule allows it: an alert");
    Exit::No
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::AccessRule;

    #[test]
    fn each_rule_is_named_up_to_the_one_that_decides() {
        let rule = |line, users: &[&str]| AccessRule {
            line,
            users: users.iter().map(|&user| user.into()).collect(),
            ..AccessRule::default()
        };
        let policy = AccessPolicy {
            allow: vec![rule(3, &["ops"]), rule(5, &["root"]), rule(7, &[])],
            ..AccessPolicy::default()
        };
        let explained = |policy: &AccessPolicy, user: &str| {
            let mut out = Vec::new();
            let options = LoginOptions { user: user.into(), door: Door::Sshd, ..LoginOptions::default() };
            let exit = explain(policy, &options, &mut out);
            (exit, String::from_utf8(out).expect("text"))
        };
        let said = "line 3: `users` does not match\nline 5: allows it\n";
        assert_eq!(explained(&policy, "root"), (Exit::Success, said.to_owned()));
        assert_eq!(explained(&AccessPolicy::default(), "root").0, Exit::No);
        let by_address =
            AccessRule { line: 4, from: vec!["192.0.2.0/24".parse().expect("a network")], ..AccessRule::default() };
        let policy = AccessPolicy { allow: vec![by_address], ..AccessPolicy::default() };
        let mut out = Vec::new();
        let options = LoginOptions { from: "192.0.2.7".parse().ok(), ..LoginOptions::default() };
        assert_eq!(explain(&policy, &options, &mut out), Exit::Success);
        assert_eq!(out, b"line 4: allows it, where PAM or sshd's log tells the address\n");
        let during = AccessRule { line: 2, during_maintenance: true, ..AccessRule::default() };
        let policy = AccessPolicy { allow: vec![during], ..AccessPolicy::default() };
        assert_eq!(explained(&policy, "root").1, "line 2: `during` does not match\nno rule allows it: an alert\n");
        let options = LoginOptions { maintenance: Some("OPS-7".into()), door: Door::Sshd, ..LoginOptions::default() };
        assert_eq!(explain(&policy, &options, &mut Vec::new()), Exit::Success);
    }
}
