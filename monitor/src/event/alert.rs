//! Alerts: an event that a rule names.

use std::sync::Arc;

/// A rule that fired.
#[derive(Clone, Debug)]
pub struct Alert {
    /// The rule.
    pub rule: &'static Rule,
    /// One sentence for a person to read.
    pub message: Arc<str>,
    /// Sequence number of the event that it fired on, which went out just before.
    pub trigger: u64,
}

/// A built-in rule.
#[derive(Debug)]
pub struct Rule {
    /// Stable id (`postern-access-not-allowed`).
    pub id: &'static str,
    /// Short name.
    pub name: &'static str,
    /// What it means and why it matters.
    pub description: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// MITRE ATT&CK techniques that it points to.
    pub techniques: &'static [Technique],
}

/// ECS `event.severity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// 21.
    Low,
    /// 47.
    Medium,
    /// 73.
    High,
    /// 99.
    Critical,
}

impl Severity {
    /// The number that Elastic's own rules use for this level (`risk_score`).
    pub const fn as_number(self) -> u8 {
        match self {
            Self::Low => 21,
            Self::Medium => 47,
            Self::High => 73,
            Self::Critical => 99,
        }
    }

    /// The level's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// A MITRE ATT&CK technique and the tactic it serves.
#[derive(Debug)]
pub struct Technique {
    /// `TA0001`.
    pub tactic_id: &'static str,
    /// `Initial Access`.
    pub tactic: &'static str,
    /// `T1078`.
    pub id: &'static str,
    /// `Valid Accounts`.
    pub name: &'static str,
}
