//! How an event becomes text: JSON in the Elastic Common Schema for machines, one aligned line for people. What is
//! emitted is listed once, in [`fields`]; the JSON Schema, the list of fields for readers and the check of real output
//! all come from there, so that none of them can say something else than the others.

mod command_line;
pub mod conformance;
mod ecs;
mod escape;
pub mod fields;
mod json;
mod pretty;
pub mod schema;
mod sentence;
mod timestamp;

#[cfg(test)]
pub(crate) mod samples;

pub use conformance::check_line;
pub use ecs::{Encoder, Tail};
pub(crate) use escape::Foreign;
pub use pretty::pretty;
pub use schema::json_schema;
