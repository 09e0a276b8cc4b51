//! The decoder of kernel records: whatever the bytes are, it answers.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the file is the agent's own, taken alone")]

use libfuzzer_sys::fuzz_target;

#[path = "../../../monitor/src/record.rs"]
mod record;

fuzz_target!(|bytes: &[u8]| {
    // Records begin at a multiple of eight bytes, as in the ring.
    let mut aligned = vec![0u64; bytes.len().div_ceil(8)];
    let place = zerocopy::IntoBytes::as_mut_bytes(&mut aligned[..]);
    place[..bytes.len()].copy_from_slice(bytes);
    let record = &mut place[..bytes.len()];
    // Most of what makes a record is its length, which chance seldom finds.
    if let Some(length) = record.get_mut(16..20) {
        length.copy_from_slice(&(bytes.len() as u32).to_ne_bytes());
    }
    if let Ok(record::Record { body: record::Body::Exec(exec), .. }) = record::decode(record) {
        for components in [exec.executable, exec.cwd, exec.cgroup] {
            assert!(components.path().starts_with(b"/"));
        }
        exec.arguments().count();
        assert!(exec.environment.len() <= bytes.len());
    }
});
