//! The part of the kernel side that user space shares: see [`abi`].
#![no_std]

pub mod abi;
