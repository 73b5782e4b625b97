//! `cargo xtask attack`: attackers on a device that is isolated or restricted, and what of them arrives.
//!
//! In: the agent's program, how long each attack lasts. Out: for each attack what arrived while the device was free, which is
//! the control case, what arrived while an order was proven, and whether the order was still carried out afterwards. The
//! attackers are programs of their own (`programs/`, in C), without privilege or with `CAP_NET_RAW` alone.
//!
//! ```text
//! attacks   what is tried, a list          field   the device under attack, and its orders
//! tools     the attackers' programs        ears    what arrives, counted where it would do harm
//! ```
//!
//! Deliberately absent: attackers who are root; whoever has root can stop the agent.

mod attacks;
mod ears;
mod field;
mod tools;

use std::path::PathBuf;
use std::time::Duration;

use edgewarden_lab::site::SiteError;
use serde::Serialize;

pub use attacks::ATTACKS;

/// An attack, and what of it may arrive.
pub struct Attack {
    /// Its name, for people and `--only`.
    pub name: &'static str,
    /// What it does, and as whom.
    pub what: &'static str,
    /// Bytes that may arrive during the attack: what an exception is meant to let pass.
    pub allowed: u64,
    play: fn(&Terms) -> Result<Played, AttackError>,
}

/// How an attack is played.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The program under attack.
    pub agent: PathBuf,
    /// The component's recipe.
    pub recipe: PathBuf,
    /// The lab's program; the one beside the running program when none.
    pub lab: Option<PathBuf>,
    /// How long the attacker goes on.
    pub time: Duration,
}

/// What was seen.
#[derive(Debug, Clone, Default)]
struct Played {
    /// Bytes that arrived while the device was free. Without any the attack shows nothing.
    free: u64,
    /// Bytes that arrived while the order was proven.
    arrived: u64,
    /// What was not as ordered, or not as told, afterwards.
    degraded: Option<String>,
}

/// How an attack ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing arrived but what may, and the order was carried out all the time.
    Held,
    /// More arrived.
    Leaked,
    /// Nothing arrived, but the order was not carried out any more, or the status was not true.
    Degraded,
}

/// One row of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Which attack.
    pub attack: &'static str,
    /// How it ended.
    pub result: Verdict,
    /// Bytes that arrived while the order was proven.
    pub bytes: u64,
    /// Bytes that arrived while the device was free.
    pub free: u64,
    /// What was degraded, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// An attack could not be played.
#[derive(Debug, thiserror::Error)]
pub enum AttackError {
    /// The lab failed.
    #[error("the lab failed")]
    Lab(#[from] SiteError),
    /// An attacker's program could not be built or run.
    #[error("could not {what} the attacker's program {program}: {output}")]
    Tool {
        /// Build or run.
        what: &'static str,
        /// Which one.
        program: &'static str,
        /// What it, or the compiler, said.
        output: String,
    },
    /// A socket or file of the field.
    #[error("could not {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The control case failed: the attack does not work on a free device either.
    #[error("{attack} shows nothing: not a byte arrives while the device is free")]
    NoControl {
        /// Which attack.
        attack: &'static str,
    },
}

impl Attack {
    /// Plays it on a stage of its own. Must be called inside a lab.
    ///
    /// # Errors
    /// When it could not be played, or works on no device at all.
    pub fn play(&self, terms: &Terms) -> Result<Outcome, AttackError> {
        let played = (self.play)(terms)?;
        if played.free == 0 {
            return Err(AttackError::NoControl { attack: self.name });
        }
        let result = if played.arrived > self.allowed {
            Verdict::Leaked
        } else if played.degraded.is_some() {
            Verdict::Degraded
        } else {
            Verdict::Held
        };
        Ok(Outcome {
            attack: self.name,
            result,
            bytes: played.arrived,
            free: played.free,
            why: played.degraded,
        })
    }
}
