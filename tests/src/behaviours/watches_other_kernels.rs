//! Another kernel than the one the tests run on, with cgroup v2 alone: Debian's own, in a virtual machine.

use jiff::Timestamp;
use serde_json::Value;

use super::Behaviour;
use crate::harness::{
    agent::{action, check_run, is_exec_of, read, text},
    vm::Parts,
};

pub(super) const BEHAVIOURS: &[Behaviour] = &[Behaviour {
    name: "Debian's kernel with cgroup v2 is watched with every sensor",
    unavailable: || Parts::find().err(),
    run: debian,
}];

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const UID: &str = "12345678-9abc-def0-1234-56789abcdef0";

/// A process in a cgroup as kubelet's systemd driver makes it for a container, and in a mount namespace of its own.
fn script() -> String {
    let slice = UID.replace('-', "_");
    let cgroup = format!("/sys/fs/cgroup/kubepods.slice/kubepods-pod{slice}.slice/cri-containerd-{ID}.scope");
    format!(
        "mount -t cgroup2 c /sys/fs/cgroup\n\
         postern doctor\n\
         postern run --output json > /tmp/events 2> /tmp/log &\n\
         agent=$!\n\
         while ! grep -q agent-started /tmp/events; do usleep 50000; kill -0 $agent || break; done\n\
         /bin/true in-the-machine\n\
         mkdir -p {cgroup}\n\
         sh -c 'echo $$ > {cgroup}/cgroup.procs; exec unshare -m /bin/true in-a-container'\n\
         while ! grep -q container-started /tmp/events; do usleep 50000; kill -0 $agent || break; done\n\
         date -s @$(($(date +%s) + 5001)) >/dev/null\n\
         while ! grep -q 'clock was[ ]set' /tmp/events; do usleep 50000; kill -0 $agent || break; done\n\
         /bin/true after-the-clock\n\
         kill $agent\n\
         wait $agent\n\
         cat /tmp/log /tmp/events"
    )
}

fn debian() {
    let console = Parts::find().unwrap_or_else(|missing| panic!("{missing}")).boot(&script());
    for (sensor, rung) in
        [("processes", "typed tracepoints"), ("logins", "uprobes"), ("login-details", "no sshd to watch")]
    {
        let armed = format!("ok      {sensor:<14} {rung}");
        assert!(console.contains(&armed), "{armed}: {console:#?}");
    }
    let is_event = |line: &&String| line.starts_with("{\"@timestamp\"");
    let events: Vec<Value> = console.iter().filter(is_event).map(|line| read(line)).collect();
    check_run(&events);
    let time_of = |marker: &str| {
        let event = events.iter().find(|event| is_exec_of(event, marker)).expect("it was executed");
        text(event, "/@timestamp").parse::<Timestamp>().expect("a time")
    };
    // The clock was set between the two, by more than both machines take: by 5,001 s less the second's fraction, which
    // `date +%s` leaves out.
    let between = time_of("after-the-clock").duration_since(time_of("in-the-machine")).as_secs();
    assert!((5_000..10_000).contains(&between), "{between} s");
    let started = events.iter().find(|event| action(event) == "container-started").expect("a container's start");
    assert_eq!(text(started, "/container/id"), ID);
    assert_eq!(text(started, "/container/runtime"), "containerd");
    assert_eq!(text(started, "/kubernetes/pod/uid"), UID);
    assert_eq!(started["container"]["security_context"]["privileged"], true, "it has all that the machine has");
}
