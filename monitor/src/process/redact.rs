//! Secrets in arguments. A command line is the wrong place for one, yet it is where they are found; the stream must not
//! become a second such place. Only values go; the rest of the argument stays for the analyst.

use std::sync::Arc;

const REPLACEMENT: &str = "<redacted>";

/// Parts of a name that make its value a secret.
const NAMES: [&str; 10] =
    ["password", "passwd", "passphrase", "secret", "token", "apikey", "api-key", "api_key", "accesskey", "access_key"];

/// Replaces the secrets among `args`; says whether there were any.
pub(super) fn redact(args: &mut [Arc<str>]) -> bool {
    let mut any = false;
    let mut next_is_secret = false;
    // The program's own name is no argument.
    for arg in args.iter_mut().skip(1) {
        let replaced = if std::mem::take(&mut next_is_secret) && !arg.starts_with('-') {
            Some(REPLACEMENT.into())
        } else {
            next_is_secret = arg.starts_with('-') && !arg.contains('=') && names_a_secret(arg);
            without_value(arg).or_else(|| without_url_password(arg)).or_else(|| without_authorization(arg))
        };
        if let Some(replaced) = replaced {
            *arg = replaced;
            any = true;
        }
    }
    any
}

fn names_a_secret(name: &str) -> bool {
    // Options that name a file of secrets carry none themselves.
    let name = name.trim_start_matches('-').to_ascii_lowercase();
    !name.ends_with("file") && NAMES.iter().any(|part| name.contains(part))
}

/// `--password=x`, `TOKEN=x`.
fn without_value(arg: &str) -> Option<Arc<str>> {
    let (name, value) = arg.split_once('=')?;
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    (is_name && !value.is_empty() && names_a_secret(name)).then(|| format!("{name}={REPLACEMENT}").into())
}

/// `scheme://user:password@host`.
fn without_url_password(arg: &str) -> Option<Arc<str>> {
    let (scheme, rest) = arg.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (userinfo, _) = authority.rsplit_once('@')?;
    let (user, password) = userinfo.split_once(':')?;
    (!password.is_empty()).then(|| format!("{scheme}://{user}:{REPLACEMENT}{}", &rest[userinfo.len()..]).into())
}

/// `Authorization: Bearer x`.
fn without_authorization(arg: &str) -> Option<Arc<str>> {
    let (name, value) = arg.split_once(':')?;
    let secret = ["authorization", "proxy-authorization", "x-api-key", "x-auth-token", "private-token"];
    (!value.trim().is_empty() && secret.contains(&name.to_ascii_lowercase().as_str()))
        .then(|| format!("{name}: {REPLACEMENT}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(args: &[&str]) -> (Vec<String>, bool) {
        let mut args: Vec<Arc<str>> = args.iter().map(|&arg| arg.into()).collect();
        let any = redact(&mut args);
        (args.iter().map(ToString::to_string).collect(), any)
    }

    #[test]
    fn values_of_secrets_go_and_their_names_stay() {
        for (args, expected) in [
            (["curl", "--password=hunter2"], ["curl", "--password=<redacted>"]),
            (["env", "DB_PASSWORD=hunter2"], ["env", "DB_PASSWORD=<redacted>"]),
            (["psql", "postgres://app:hunter2@db/x"], ["psql", "postgres://app:<redacted>@db/x"]),
            (["-H", "Authorization: Bearer abc"], ["-H", "Authorization: <redacted>"]),
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
        ] {
            assert_eq!(redacted(&args), (args.map(String::from).to_vec(), false));
        }
    }
}
