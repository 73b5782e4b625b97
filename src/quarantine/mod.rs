//! Flow 2: what authorities want, as one plan, and the proof that the kernel obeys.
//!
//! In: wishes ([`order_document`]), the configuration, addresses of lifelines, `now`.
//! Out: a [`plan::Plan`], its text ([`ruleset`]), the check of what the kernel answered ([`verify`]), the journal's
//! bytes ([`journal`]) and what may be reported ([`reported`]).
//! Everything here is pure: the effects are carried out by `agent::enforcer` through `host/`.

pub mod address_book;
pub mod confirm;
mod disjoint;
pub mod dns_answers;
pub mod history;
pub mod journal;
pub mod lifeline;
pub mod lookups;
pub mod order;
pub mod order_book;
pub mod order_document;
pub mod outlook;
pub mod plan;
pub mod processes;
pub mod reported;
pub mod ruleset;
pub mod severed;
pub mod state;
pub mod trusted_time;
pub mod verify;
