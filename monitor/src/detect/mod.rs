//! What is worth an alert: the access policy and the built-in rules. Sees events and nothing else.

mod policy;
mod rules;

pub use policy::{AccessPolicy, AccessRule, Applicant, Mismatch, OnViolation, Window};
pub use rules::{alert, rules};
