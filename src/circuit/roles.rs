//! What heads and MLPs were found to do, with the numbers that say so.

use crate::graph::Node;
use std::fmt;

/// A kind of behaviour. Each has a number from 0 to 1 that is measured, and a threshold from which on the name is given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// At the last position attends to a right answer in the prompt, and copies what it attends to (Wang et al.,
    /// arXiv:2211.00593, name movers). Number: the attention; also half of the answers have to be among the five tokens
    /// that its values write most.
    Mover,
    /// The same with the answer among the five tokens that its values write least (negative name movers).
    NegativeMover,
    /// At the last position attends to a wrong answer, and half of its effect in the circuit goes into queries of other heads
    /// (S-inhibition heads). Number: the attention.
    Inhibition,
    /// On random tokens said twice attends to the token after the same token's first place (Olsson et al.,
    /// arXiv:2209.11895). Number: the mean attention over the second half.
    Induction,
    /// On random tokens said twice attends to the same token's first place (Wang et al.). Number: as above.
    DuplicateToken,
    /// On random tokens said twice attends to the token before (Olsson et al.). Number: the mean attention.
    PreviousToken,
    /// At the last position attends to a place that the task names. Number: the attention.
    Attends(String),
    /// Of an MLP: writes the right answer, not the wrong one, to the logits. Number: its part of the mean logit difference,
    /// through the final norm at its scale in each prompt.
    Writes,
    /// Of an MLP: the opposite.
    WritesAgainst,
}

impl Role {
    /// In a word or two, for figures.
    pub fn short(&self) -> String {
        match self {
            Role::NegativeMover => "neg. mover".into(),
            Role::DuplicateToken => "duplicate".into(),
            Role::PreviousToken => "previous".into(),
            Role::Attends(place) => format!("to {place}"),
            Role::Writes => "writes".into(),
            Role::WritesAgainst => "against".into(),
            role => role.to_string(),
        }
    }

    pub fn threshold(&self) -> f64 {
        match self {
            Role::Mover | Role::NegativeMover | Role::Inhibition => 0.3,
            Role::Induction | Role::DuplicateToken | Role::PreviousToken => 0.4,
            Role::Attends(_) => 0.5,
            Role::Writes | Role::WritesAgainst => 0.1,
        }
    }
}

impl std::str::FromStr for Role {
    type Err = ();

    fn from_str(name: &str) -> Result<Role, ()> {
        if let Some(place) = name.strip_prefix("attends to ") {
            return Ok(Role::Attends(place.to_owned()));
        }
        let all = [
            Role::Mover,
            Role::NegativeMover,
            Role::Inhibition,
            Role::Induction,
            Role::DuplicateToken,
            Role::PreviousToken,
            Role::Writes,
            Role::WritesAgainst,
        ];
        all.into_iter().find(|role| role.to_string() == name).ok_or(())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Mover => "mover",
            Role::NegativeMover => "negative mover",
            Role::Inhibition => "inhibition",
            Role::Induction => "induction",
            Role::DuplicateToken => "duplicate token",
            Role::PreviousToken => "previous token",
            Role::Attends(place) => return write!(f, "attends to {place}"),
            Role::Writes => "writes the answer",
            Role::WritesAgainst => "writes against the answer",
        })
    }
}

/// A role of a node.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    pub node: Node,
    pub role: Role,
    /// The role's number.
    pub value: f64,
    /// More numbers by name.
    pub evidence: Vec<(String, f64)>,
}

impl Found {
    /// The numbers in words.
    pub fn says(&self) -> String {
        let more: String = self.evidence.iter().map(|(name, value)| format!("; {name} {value:.2}")).collect();
        format!("{:.2}, from {} on{more}", self.value, self.role.threshold())
    }
}
