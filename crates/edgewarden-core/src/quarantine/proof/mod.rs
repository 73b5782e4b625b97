//! What may be said: confirm or roll back ([`standing`]), what stands in the way ([`obstacle`]), where enforcement stands
//! ([`state`]), what the cloud is told ([`reported`]), what a restart must know ([`journal`]), what a packet that must not leave proves ([`canary`]) and whom nobody sees from here
//! ([`elsewhere`]).

pub mod canary;
pub mod elsewhere;
pub mod journal;
mod journal_lists;
pub mod obstacle;
pub mod reported;
pub mod standing;
mod standing_entry;
pub mod state;
