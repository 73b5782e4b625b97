//! Flow 2: what authorities want, as one plan, and the proof that the kernel obeys.
//!
//! ```text
//! orders ─► plan ─► ruleset ─► (kernel) ─► proof ─► reported
//!             ▲ lifelines                    └─ journal        history: every change once
//! ```
//!
//! In: wishes ([`orders::document`]), the configuration, addresses of lifelines, `now`.
//! Out: a [`plan::Plan`], its text ([`ruleset`]), the check of what the kernel answered ([`ruleset::verify`]), the
//! journal's bytes ([`proof::journal`]) and what may be reported ([`proof::reported`]).
//! Everything here is pure: the effects are carried out by `agent::enforcer` through the traits in [`ports`].

pub mod history;
pub mod lifelines;
pub mod orders;
pub mod plan;
pub mod ports;
pub mod proof;
pub mod ruleset;
