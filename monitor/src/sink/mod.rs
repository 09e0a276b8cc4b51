//! Where events go. Sees events and nothing else.

pub mod settings;
