//! What authorities want: an order as they write it ([`document`]) and as it is meant ([`order`]), all live ones
//! ([`book`]), and the time they end by ([`trusted_time`]).

pub mod book;
mod deployed;
pub mod document;
pub mod order;
pub mod trusted_time;
