//! What may be said: confirm or roll back ([`confirm`]), where enforcement stands ([`state`]), what the cloud is told
//! ([`reported`]) and what a restart must know ([`journal`]).

pub mod confirm;
pub mod journal;
pub mod reported;
pub mod state;
