//! What authorities want: an order as they write it ([`document`], `process_rule`) and as it is meant ([`order`]), all live ones
//! ([`book`]), the time they end by ([`trusted_time`]), and their end where nobody is left to end them ([`solitude`]).

pub mod book;
mod deployed;
pub mod document;
pub mod leftover;
pub mod order;
pub(crate) mod process_rule;
pub mod remotes;
pub mod solitude;
pub mod trusted_time;
