//! Builds the barest kernel program, which the benchmark compares with.

#[path = "../monitor-ebpf/object.rs"]
mod object;

fn main() {
    object::build("postern-floor", "POSTERN_FLOOR_OBJECT");
}
