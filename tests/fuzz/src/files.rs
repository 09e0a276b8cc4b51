//! What a fanotify group hands over: whatever the bytes are, it is taken apart or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../monitor/src/files/raw.rs"]
mod raw;

fuzz_target!(|bytes: &[u8]| {
    // Most of what makes an event is its length and its version, which chance seldom finds.
    let mut bytes = bytes.to_vec();
    let length = bytes.len() as u32;
    if let Some(start) = bytes.get_mut(..8) {
        start[..4].copy_from_slice(&length.to_ne_bytes());
        start[4..].copy_from_slice(&[3, 0, 24, 0]);
    }
    for event in raw::events(&bytes).flatten() {
        for place in [event.place, event.from].into_iter().flatten() {
            assert!(place.handle.len() <= 128 && !place.name.is_empty() && place.name.len() <= 255);
            assert!(!place.name.contains(&0));
        }
    }
});
