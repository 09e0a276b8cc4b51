//! Where events go. Sees events and nothing else.

pub mod encode;
pub mod settings;
