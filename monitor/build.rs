//! Builds the kernel programs, so that the agent can embed them.

#[path = "../monitor-ebpf/object.rs"]
mod object;

fn main() {
    object::build("postern-ebpf", "POSTERN_EBPF_OBJECT");
}
