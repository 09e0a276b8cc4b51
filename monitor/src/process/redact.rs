//! Secrets in arguments. A command line is the wrong place for one, yet it is where they are found; the stream must not
//! become a second such place. Only values go; the rest of the argument stays for the analyst.

use std::borrow::Cow;

use crate::event::Arguments;

const REPLACEMENT: &str = "<redacted>";

/// Parts of a name that make its value a secret.
const NAMES: [&str; 10] =
    ["password", "passwd", "passphrase", "secret", "token", "apikey", "api-key", "api_key", "accesskey", "access_key"];

/// The arguments without the secrets among them; `None` if there are none.
pub fn redact(args: &Arguments) -> Option<Arguments> {
    // Most command lines hold nothing that could be one.
    if !may_name_one(args.text().as_bytes()) || !args.iter().skip(1).any(may_hold_a_secret) {
        return None;
    }
    let mut any = false;
    let mut next_is_secret = false;
    let replaced = args.iter().enumerate().map(|(position, arg)| {
        // The program's own name is no argument.
        if position == 0 {
            return Cow::Borrowed(arg);
        }
        let replaced = if std::mem::take(&mut next_is_secret) && !arg.starts_with('-') {
            Some(REPLACEMENT.into())
        } else {
            next_is_secret = arg.starts_with('-') && !arg.contains('=') && names_a_secret(arg);
            without_value(arg)
                .or_else(|| without_url_password(arg))
                .or_else(|| without_authorization(arg))
                .or_else(|| without_piped_password(arg))
        };
        any |= replaced.is_some();
        replaced.map_or(Cow::Borrowed(arg), Cow::Owned)
    });
    let replaced = replaced.collect();
    any.then_some(replaced)
}

/// Whether [`may_hold_a_secret`] may be true of any argument. Looks at every byte, and so at many of them at once.
fn may_name_one(args: &[u8]) -> bool {
    let Some((_, rest)) = args.split_first() else { return false };
    // Without branches, so that the compiler sees how.
    let found = |before: u8, byte: u8| {
        let is_option = u8::from(before == 0) & u8::from(byte == b'-');
        is_option | u8::from(byte == b'=') | u8::from(byte == b':') | u8::from(byte == b'|')
    };
    args.iter().zip(rest).fold(0, |any, (&before, &byte)| any | found(before, byte)) != 0
}

/// Every secret is named by an option, stands behind a `=` or a `:`, or goes through a pipe.
fn may_hold_a_secret(arg: &str) -> bool {
    arg.bytes().any(|byte| matches!(byte, b'=' | b':' | b'|')) || (arg.starts_with('-') && names_a_secret(arg))
}

fn names_a_secret(name: &str) -> bool {
    // Options that name a file of secrets carry none themselves.
    let name = name.trim_start_matches('-').as_bytes();
    !ends_with(name, b"file") && NAMES.iter().any(|part| contains(name, part.as_bytes()))
}

fn ends_with(text: &[u8], end: &[u8]) -> bool {
    text.len().checked_sub(end.len()).is_some_and(|at| text[at..].eq_ignore_ascii_case(end))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}

/// `--password=x`, `TOKEN=x`.
fn without_value(arg: &str) -> Option<String> {
    let (name, value) = arg.split_once('=')?;
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    (is_name && !value.is_empty() && names_a_secret(name)).then(|| format!("{name}={REPLACEMENT}"))
}

/// `scheme://user:password@host`.
fn without_url_password(arg: &str) -> Option<String> {
    let (scheme, rest) = arg.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (userinfo, _) = authority.rsplit_once('@')?;
    let (user, password) = userinfo.split_once(':')?;
    (!password.is_empty()).then(|| format!("{scheme}://{user}:{REPLACEMENT}{}", &rest[userinfo.len()..]))
}

/// `Authorization: Bearer x`.
fn without_authorization(arg: &str) -> Option<String> {
    let (name, value) = arg.split_once(':')?;
    let secret = ["authorization", "proxy-authorization", "x-api-key", "x-auth-token", "private-token"];
    (!value.trim().is_empty() && secret.iter().any(|it| name.eq_ignore_ascii_case(it)))
        .then(|| format!("{name}: {REPLACEMENT}"))
}

/// `echo x | sudo -S`, in a shell's command: so do people, and Azure's agent where a script is to run as another user.
fn without_piped_password(arg: &str) -> Option<String> {
    let (at, _) = arg.match_indices('|').find(|(at, _)| is_sudo_that_reads(&arg[at + 1..]))?;
    let (said, rest) = arg.split_at(at);
    let password = ["echo ", "printf "].iter().filter_map(|word| Some(said.rfind(word)? + word.len())).max()?;
    Some(format!("{}{REPLACEMENT} {rest}", &said[..password]))
}

/// Whether the command is one of `sudo(8)` that takes the password from its standard input.
fn is_sudo_that_reads(command: &str) -> bool {
    let mut words = command.split('|').next().unwrap_or_default().split_whitespace();
    let is_sudo = words.next().is_some_and(|program| program.rsplit('/').next() == Some("sudo"));
    let reads =
        |word: &str| word == "--stdin" || !word.starts_with("--") && word.starts_with('-') && word.contains('S');
    is_sudo && words.any(reads)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(args: &[&str]) -> (Vec<String>, bool) {
        let args: Arguments = args.iter().collect();
        let redacted = redact(&args);
        let any = redacted.is_some();
        (redacted.unwrap_or(args).iter().map(String::from).collect(), any)
    }

    #[test]
    fn values_of_secrets_go_and_their_names_stay() {
        for (args, expected) in [
            (["curl", "--password=hunter2"], ["curl", "--password=<redacted>"]),
            (["env", "DB_PASSWORD=hunter2"], ["env", "DB_PASSWORD=<redacted>"]),
            (["psql", "postgres://app:hunter2@db/x"], ["psql", "postgres://app:<redacted>@db/x"]),
            (["-H", "Authorization: Bearer abc"], ["-H", "Authorization: <redacted>"]),
            (["-c", "echo a;b | sudo -S -u ops /s.sh"], ["-c", "echo <redacted> | sudo -S -u ops /s.sh"]),
            (["-c", "id|id; printf '%s' p|/bin/sudo -kS id"], ["-c", "id|id; printf <redacted> |/bin/sudo -kS id"]),
        ] {
            assert_eq!(redacted(&args), (expected.map(String::from).to_vec(), true));
        }
        assert_eq!(redacted(&["x", "--api-key", "k", "y"]).0, ["x", "--api-key", "<redacted>", "y"]);
    }

    #[test]
    fn what_is_no_secret_stays() {
        for args in [
            ["ls", "-l", "a=b"],
            ["kubelet", "--token-file=/etc/token", "--v=2"],
            ["git", "clone", "https://example.org/a:b@c"],
            ["passwd", "--password", "--quiet"],
            ["sh", "-c", "echo list | sudo tee /x | sort -S 1"],
            ["sh", "-c", "cat list | sudo -S tee /x"],
        ] {
            assert_eq!(redacted(&args), (args.map(String::from).to_vec(), false));
        }
    }
}
