//! Files as kernels write them, and as nobody should.

use proptest::prelude::*;

use super::*;

const AFTER: &str = "S 41 42 43 34817 44 4194304 1 2 3 4 5 6 7 8 20 0 1 0 123456 9 9 9";

#[test]
fn a_stat_line_is_read_whatever_the_name() {
    for comm in ["sh", "", "a) R 1 1 1 1 (b", ") (", "new\nline", "((("] {
        let found = stat(format!("45 ({comm}) {AFTER}").as_bytes()).expect("a whole line");
        assert_eq!(found.comm, comm.as_bytes());
        assert_eq!((found.parent, found.group, found.session), (41, 42, 43));
        assert_eq!(found.tty, Tty { major: 136, minor: 1 });
        assert_eq!(found.start_ns, 1_234_560_000_000);
        assert!(!found.kernel && !found.ended);
    }
}

#[test]
fn kernel_threads_and_ended_processes_are_told() {
    let kernel = AFTER.replace("4194304", "2129984");
    assert!(stat(format!("9 (kworker/0:1) {kernel}").as_bytes()).expect("a whole line").kernel);
    let zombie = AFTER.replacen('S', "Z", 1);
    assert!(stat(format!("9 (gone) {zombie}").as_bytes()).expect("a whole line").ended);
    let leader = zombie.replace(" 20 0 1 ", " 20 0 3 ");
    assert!(!stat(format!("9 (threads live) {leader}").as_bytes()).expect("a whole line").ended);
}

#[test]
fn a_cut_stat_line_is_refused() {
    let whole = format!("45 (sh) {AFTER}");
    let start = whole.find(" 123456").expect("the start time is in it");
    for end in 0..=start {
        assert_eq!(stat(&whole.as_bytes()[..end]), None, "cut at {end}");
    }
}

#[test]
fn wide_terminal_numbers_are_split() {
    // Major 4, minor 0x12345.
    assert_eq!(tty_of(0x1230_0445), Tty { major: 4, minor: 0x12345 });
    assert_eq!(tty_of(0), Tty::default());
}

const STATUS: &str = "Name:\tsh\nUmask:\t0022\nTgid:\t45\nUid:\t1000\t1001\t1002\t1003\nGid:\t5\t6\t7\t8\nNStgid:\t45\t12\t3\n\
    CapInh:\t0000000000000001\nCapPrm:\t000001ffffffffff\nCapEff:\t00000000a80425fb\nCapBnd:\t000001ffffffffff\n\
    CapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";

#[test]
fn a_status_gives_ids_capabilities_and_the_inner_pid() {
    let found = status(STATUS.as_bytes()).expect("a whole file");
    let credentials = found.credentials;
    assert_eq!((credentials.uid, credentials.euid, credentials.suid), (1000, 1001, 1002));
    assert_eq!((credentials.gid, credentials.egid, credentials.sgid), (5, 6, 7));
    assert_eq!((credentials.cap_inheritable, credentials.cap_effective), (1, 0xa804_25fb));
    assert_eq!((credentials.cap_permitted, credentials.cap_bounding), (0x1ff_ffff_ffff, 0x1ff_ffff_ffff));
    assert_eq!((credentials.no_new_privs, credentials.seccomp_mode), (1, 2));
    assert_eq!((credentials.login_uid, credentials.audit_session), (u32::MAX, u32::MAX));
    assert_eq!((found.inner_pid, found.nested), (3, true));
}

#[test]
fn a_status_without_ids_or_capabilities_is_refused() {
    for key in ["Uid", "Gid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(STATUS.replace(&format!("{key}:"), "Other:").as_bytes()), None, "{key}");
    }
    let bare = status(STATUS.replace("Seccomp:", "Other:").as_bytes()).expect("a kernel without seccomp");
    assert_eq!(bare.credentials.seccomp_mode, u32::MAX);
}

#[test]
fn the_cgroup_is_that_of_the_hierarchy_in_use() {
    assert_eq!(cgroup(b"0::/kubepods.slice/x\n"), b"/kubepods.slice/x");
    assert_eq!(cgroup(b"9:name=systemd:/a\n8:pids:/b\n4:memory:/c\n0::/\n"), b"/b", "hybrid: v2 is not in use");
    assert_eq!(cgroup(b"4:memory:/c\n1:cpu,cpuacct:/d\n0::/\n"), b"/c", "no pids controller");
    assert_eq!(cgroup(b"4:cpu,memory:/c\n"), b"/c", "v1 alone, controllers mounted together");
    assert_eq!(cgroup(b"8:pids:/b\n0::/in/use\n"), b"/in/use");
    assert_eq!(cgroup(b"0::/\n"), b"/");
    assert_eq!(cgroup(b"0::/a:b:c (deleted)\n"), b"/a:b:c", "a path may hold colons; its cgroup was removed");
    assert_eq!(cgroup(b""), b"");
}

#[test]
fn links_and_numbers_are_read() {
    assert_eq!(namespace(b"mnt:[4026531841]"), Some(4_026_531_841));
    assert_eq!(namespace(b"mnt:4026531841"), None);
    assert_eq!(namespace(b"mnt:[99999999999]"), None);
    assert_eq!(single_number(b"4294967295"), Some(u32::MAX));
    assert_eq!(single_number(b"1001\n"), Some(1001));
    assert_eq!(executable(b"/bin/x (deleted)"), (&b"/bin/x"[..], true));
    assert_eq!(executable(b"/bin/x"), (&b"/bin/x"[..], false));
}

#[test]
fn the_connection_is_read_from_the_environment() {
    let environ = b"A=b\0XSSH_CONNECTION=no\0SSH_CONNECTION=192.0.2.7 40022 198.51.100.1 22\0Z=";
    let value = variable(environ, "SSH_CONNECTION").expect("it is set");
    let found = ssh_connection(value).expect("two ends");
    assert_eq!(found.client, "192.0.2.7:40022".parse().expect("an address"));
    assert_eq!(found.server, "198.51.100.1:22".parse().expect("an address"));
    let six = ssh_connection(b"fe80::1%eth0 1 2001:db8::2 22").expect("two ends");
    assert_eq!(six.client, "[fe80::1]:1".parse().expect("an address"));
    for wrong in ["", "1.2.3.4 5", "1.2.3.4 5 6.7.8.9", "1.2.3.4 5 6.7.8.9 22 x", "1.2.3.4 99999 6.7.8.9 22", "a b c d"]
    {
        assert_eq!(ssh_connection(wrong.as_bytes()), None, "{wrong:?}");
    }
}

#[test]
fn the_client_is_read_from_either_variable() {
    let client = |environ: &str| ssh_client(environ.as_bytes()).map(|it| it.to_string());
    for (environ, expected) in [
        ("A=b\0SSH_CONNECTION=192.0.2.7 40022 198.51.100.1 22\0SSH_CLIENT=192.0.2.8 1 22\0", "192.0.2.7:40022"),
        ("SSH_CLIENT=2001:db8::7 40022 22\0", "[2001:db8::7]:40022"),
        ("SSH_CONNECTION=UNKNOWN 65535 UNKNOWN 65535\0SSH_CLIENT=192.0.2.8 1 22\0", "192.0.2.8:1"),
        ("SSH_CONNECTION=::ffff:192.0.2.7 1 ::ffff:192.0.2.8 22\0", "192.0.2.7:1"),
        // Cut behind all that counts.
        ("SSH_CONNECTION=192.0.2.7 40022 198.51.100.1 2", "192.0.2.7:40022"),
    ] {
        assert_eq!(client(environ).as_deref(), Some(expected), "{environ}");
    }
    for none in [
        "",
        "\0\0",
        "SSH_CONNECTION\0",
        "SSH_CLIENT=192.0.2.8 1\0",
        "SSH_CLIENT=192.0.2.8 1 22 x\0",
        "SSH_CLIENT=192.0.2.8  1 22\0",
        "SSH_CLIENT=192.0.2.8 70000 22\0",
        "SSH_CLIENT=192.0.2.8\n 1 22\0",
        "XSSH_CLIENT=192.0.2.8 1 22\0",
        "SSH_CONNECTION=192.0.2.7 4",
    ] {
        assert_eq!(client(none), None, "{none}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = (stat(&bytes), status(&bytes), cgroup(&bytes), single_number(&bytes), namespace(&bytes));
        let _ = (executable(&bytes), variable(&bytes, "SSH_CONNECTION"), ssh_connection(&bytes));
        let _ = ssh_client(&[b"SSH_CLIENT=".as_slice(), &bytes].concat());
    }

    #[test]
    fn any_name_and_numbers_are_read_back(comm in prop::collection::vec(1_u8.., 0..16), start in 0..1_u64 << 40, tty: i32) {
        let mut line = b"45 (".to_vec();
        line.extend_from_slice(&comm);
        line.extend_from_slice(format!(") S 1 1 1 {tty} 1 0 1 2 3 4 5 6 7 8 20 0 1 0 {start} 9\n").as_bytes());
        let found = stat(&line).expect("a whole line");
        prop_assert_eq!(found.comm, comm);
        prop_assert_eq!(found.start_ns, start * NANOSECONDS_PER_TICK);
    }

    #[test]
    fn damaged_files_never_panic(at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
        let mut text = STATUS.as_bytes().to_vec();
        let at = at.index(text.len());
        text[at] = byte;
        let _ = status(&text);
        let _ = status(&text[..cut.index(text.len())]);
    }
}

#[test]
fn connections_are_read_with_both_ends() {
    let line = b"   1: 0100007F:9C56 0100007F:0016 01 00000000:00000000 02:0000A31B 00000000  1000        0 48109 2 0 20 4 30 10 -1\n";
    let connection = connection(line).expect("one");
    let expected = ("127.0.0.1:40022".parse(), "127.0.0.1:22".parse(), 48_109);
    assert_eq!((Ok(connection.local), Ok(connection.remote), connection.inode), expected);
    let six = b"   0: 0000000000000000FFFF00000200000A:9C56 000080FE000000000000000001000000:0016 06 00000000:00000000 00:00000000 00000000     0        0 0 1 0";
    let connection = super::connection(six).expect("one");
    let expected = ("10.0.0.2:40022".parse(), "[fe80::1]:22".parse(), 0);
    assert_eq!((Ok(connection.local), Ok(connection.remote), connection.inode), expected);
    for line in [
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
        "   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 55 1 0",
        "   0: 0100007F:9C56 0100007F:0016 01 00000000:00000000",
        "   0: 01é007F:9C56 0100007F:0016 01 a b c d e 1",
        "",
    ] {
        assert_eq!(super::connection(line.as_bytes()), None, "{line}");
    }
    assert_eq!((socket(b"socket:[48109]"), socket(b"pipe:[1]"), socket(b"socket:[]")), (Some(48_109), None, None));
}
