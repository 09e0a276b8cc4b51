//! The kernel programs. Each file in `hooks` is one attach point; `maps` is all that they share.
//!
//! Built for the BPF target by `monitor/build.rs`, and embedded in the agent.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(unreachable_pub, reason = "the modules of a program share what is theirs by `pub`")]
#![expect(
    clippy::inline_always,
    reason = "what the verifier follows has to be in one function, and bpf-linker has no say"
)]
#![expect(clippy::needless_pass_by_value, reason = "aya's macros hand each program its context by value")]
#![expect(unsafe_code, reason = "kernel memory and maps are raw pointers; the verifier checks each access")]

mod bare;
mod hooks;
mod kernel;
mod maps;
mod ring;
mod stack;
mod tasks;
