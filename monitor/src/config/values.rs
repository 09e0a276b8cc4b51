//! How single values are spelled: sizes, durations, networks, fingerprints, addresses. Each function takes the
//! text of one scalar and either gives the value or says, in words for the operator, what was expected.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use jiff::tz::Offset;

use super::problem::quoted;

/// A value, or what was expected instead.
pub(super) type Parsed<T> = Result<T, String>;

const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const TIMES: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];

/// Bytes: `8MiB`, `512KiB`, `1GiB`, or a plain number.
pub(super) fn size(text: &str) -> Parsed<u64> {
    let wrong = || format!("expected a size such as `8MiB` (units B, KiB, MiB, GiB), found {}", quoted(text));
    let (number, unit) = split(text);
    let factor = match unit {
        "" => 1,
        unit => SIZES.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1,
    };
    number.parse::<u64>().ok().and_then(|count| count.checked_mul(factor)).ok_or_else(wrong)
}

/// A time: `500ms`, `10s`, `2m`, `1h`. The unit is not optional: a bare `10` says nothing.
pub(super) fn duration(text: &str) -> Parsed<Duration> {
    let wrong = || format!("expected a time such as `10s` (units ms, s, m, h), found {}", quoted(text));
    let (number, unit) = split(text);
    let factor = TIMES.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
    number.parse::<u64>().ok().and_then(|count| count.checked_mul(factor)).map(Duration::from_millis).ok_or_else(wrong)
}

fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// A network (`192.0.2.0/24`) or one address.
pub(super) fn network(text: &str) -> Parsed<IpNet> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let net: IpNet = text
        .parse()
        .map_err(|_| format!("expected a network such as `192.0.2.0/24` or an address, found {}", quoted(text)))?;
    if net.addr() != net.network() {
        return Err(format!(
            "{} has bits set behind its prefix: write `{}` for the network or `{}` for the one address",
            quoted(text),
            net.trunc(),
            net.addr()
        ));
    }
    Ok(net)
}

/// A key's fingerprint as sshd logs it and `ssh-keygen -l` prints it: `SHA256:` and 43 base64 characters
/// (RFC 4648, no padding), or `MD5:` and 16 pairs of hexadecimal digits.
pub(super) fn fingerprint(text: &str) -> Parsed<String> {
    let base64 = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
    let sha256 = |rest: &str| rest.len() == 43 && rest.chars().all(base64);
    let md5 = |rest: &str| {
        rest.split(':').count() == 16
            && rest.split(':').all(|pair| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    match text.split_once(':') {
        Some(("SHA256", rest)) if sha256(rest) => Ok(text.to_owned()),
        Some(("MD5", rest)) if md5(rest) => Ok(text.to_ascii_lowercase().replacen("md5", "MD5", 1)),
        _ => Err(format!(
            "expected a fingerprint as `ssh-keygen -l` prints it (`SHA256:` and 43 characters), found {}",
            quoted(text)
        )),
    }
}

/// An absolute path: the agent's working directory means nothing to whoever wrote the file.
pub(super) fn path(text: &str) -> Parsed<PathBuf> {
    if !text.starts_with('/') {
        return Err(format!("expected an absolute path, found {}", quoted(text)));
    }
    Ok(PathBuf::from(text))
}

/// The address of a Fluentd `forward` input.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ForwardAddress {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
}

/// `tls://host:24224` or `tcp://host:24224`; the port may be left out, an IPv6 address stands in brackets.
/// The text is not repeated in messages, since it may hold a password.
pub(super) fn forward_address(text: &str) -> Parsed<ForwardAddress> {
    const SHAPE: &str = "expected an address such as `tls://logs.example:24224` or `tcp://127.0.0.1:24224`";
    let (tls, rest) = match text.split_once("://") {
        Some(("tls", rest)) => (true, rest),
        Some(("tcp", rest)) => (false, rest),
        _ => return Err(SHAPE.into()),
    };
    if rest.contains('@') {
        return Err("user and password do not belong in the address: use `username` and `password`".into());
    }
    let (host, port) = match rest.strip_prefix('[') {
        Some(v6) => {
            let (host, port) = v6.split_once(']').ok_or(SHAPE)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| SHAPE)?;
            (host, port.strip_prefix(':').or(port.is_empty().then_some("24224")).ok_or(SHAPE)?)
        }
        None => rest.split_once(':').unwrap_or((rest, "24224")),
    };
    let port = port.parse().ok().filter(|port| *port != 0).ok_or("the port must be a number from 1 to 65535")?;
    let named =
        !host.is_empty() && host.len() <= 253 && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._:".contains(c));
    if !named {
        return Err(SHAPE.into());
    }
    Ok(ForwardAddress { tls, host: host.to_owned(), port })
}

/// A cluster's name: some providers have spaces, colons and slashes in theirs.
pub(super) fn label(text: &str) -> Parsed<String> {
    if text.len() > 253 {
        return Err(format!("longer than 253 bytes: {}", quoted(text)));
    }
    Ok(text.to_owned())
}

/// The first minute of the day, and the one behind the last: `08:00-18:00`. `24:00` is the first of the next day.
pub(super) fn minutes(text: &str) -> Parsed<(u16, u16)> {
    let both = text.split_once('-').and_then(|(from, until)| Some((clock(from)?, clock(until)? % DAY)));
    let plausible = both.filter(|(from, until)| *from < DAY && from != until);
    plausible.ok_or_else(|| format!("expected hours such as `08:00-18:00`, found {}", quoted(text)))
}

/// How far a clock is ahead of UTC: `+01:00`.
pub(super) fn offset(text: &str) -> Parsed<Offset> {
    let seconds = |text: &str| {
        let ahead = match text.split_at_checked(1)? {
            ("+", ahead) => i32::from(clock(ahead)?),
            ("-", ahead) => -i32::from(clock(ahead)?),
            _ => return None,
        };
        Offset::from_seconds(ahead * 60).ok()
    };
    seconds(text).ok_or_else(|| format!("expected an offset such as `+01:00`, found {}", quoted(text)))
}

const DAY: u16 = 24 * 60;

/// Minutes: `HH:MM`, up to `24:00`.
fn clock(text: &str) -> Option<u16> {
    let digits =
        |text: &str| (text.len() == 2 && text.bytes().all(|it| it.is_ascii_digit())).then(|| text.parse().ok());
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes): (u16, u16) = (digits(hours)??, digits(minutes)??);
    let all = hours * 60 + minutes;
    (minutes < 60 && all <= DAY).then_some(all)
}

/// A name that goes into metrics and messages.
pub(super) fn name(text: &str) -> Parsed<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty() || text.len() > 253 || !text.chars().all(plain) {
        return Err(format!("expected at most 253 letters, digits, `-`, `_` and `.`, found {}", quoted(text)));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units_and_do_not_overflow() {
        assert_eq!(size("8MiB"), Ok(8 << 20));
        assert_eq!(size("64 KiB"), Ok(65_536));
        assert_eq!(size("4096"), Ok(4096));
        for wrong in ["", "MiB", "8MB", "-1", "1.5MiB", "99999999999999999999", "18446744073709551615GiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_duration_names_its_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        for wrong in ["10", "s", "10 parsecs", "18446744073709551615h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_network_with_host_bits_is_a_question_and_not_a_guess() {
        assert_eq!(network("192.0.2.0/24"), Ok("192.0.2.0/24".parse().expect("a network")));
        assert_eq!(network("2001:db8::7"), Ok("2001:db8::7/128".parse().expect("a network")));
        let message = network("192.0.2.5/24").expect_err("host bits");
        assert!(message.contains("`192.0.2.0/24`") && message.contains("`192.0.2.5`"), "{message}");
        assert!(network("192.0.2.0/33").is_err());
    }

    #[test]
    fn fingerprints_are_those_of_ssh_keygen() {
        let sha = format!("SHA256:{}", "a".repeat(43));
        assert_eq!(fingerprint(&sha), Ok(sha.clone()));
        assert!(fingerprint(&format!("{sha}=")).is_err(), "padding");
        assert!(fingerprint("SHA256:...").is_err());
        assert!(fingerprint("MD5:aa:bb").is_err());
        assert_eq!(fingerprint(&format!("MD5:{}", ["AB"; 16].join(":"))), Ok(format!("MD5:{}", ["ab"; 16].join(":"))));
    }

    #[test]
    fn hours_may_end_on_the_next_day() {
        assert_eq!(minutes("08:00-18:30"), Ok((480, 1_110)));
        assert_eq!(minutes("22:00-06:00"), Ok((1_320, 360)));
        assert_eq!(minutes("08:00-24:00"), Ok((480, 0)));
        for wrong in ["8:00-18:00", "08:00", "08:00-08:00", "24:00-08:00", "08:60-09:00", "08:00-25:00", "aa:bb-cc:dd"]
        {
            assert!(minutes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(offset("+01:30").map(Offset::seconds), Ok(5_400));
        assert_eq!(offset("-08:00").map(Offset::seconds), Ok(-28_800));
        for wrong in ["01:00", "+1", "+99:00", "CET", ""] {
            assert!(offset(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn forward_addresses() {
        let of = |tls, host: &str, port| Ok(ForwardAddress { tls, host: host.into(), port });
        assert_eq!(forward_address("tls://logs.example:24224"), of(true, "logs.example", 24224));
        assert_eq!(forward_address("tcp://127.0.0.1"), of(false, "127.0.0.1", 24224));
        assert_eq!(forward_address("tls://[::1]:9"), of(true, "::1", 9));
        for wrong in [
            "logs:1",
            "http://a:1",
            "tcp://:1",
            "tcp://a:0",
            "tcp://a:b",
            "tcp://[::1",
            "tcp://[x]:1",
            "tcp://a/b",
            "tcp://a:1:2",
        ] {
            assert!(forward_address(wrong).is_err(), "{wrong}");
        }
        let message = forward_address("tcp://me:hunter2@a:1").expect_err("a password in the address");
        assert!(!message.contains("hunter2"), "{message}");
    }
}
