//! What isolation never cuts: which lifelines there are ([`lifeline`], [`proxy`]), where their addresses come from
//! ([`lookups`], asked with [`dns_message`], hurried by [`dns_questions`]; [`host_settings`], from [`host_files`]), who says so
//! ([`origin`]), how long they are kept ([`address_book`]), by which ways they are reached ([`ways`], [`tunnels`]) and what is told of them
//! ([`told`]).

pub mod address_book;
mod crosswise;
pub mod dns_message;
pub mod dns_questions;
pub mod host_files;
pub mod host_settings;
pub mod lifeline;
pub mod lookups;
pub mod nucleus_users;
pub mod origin;
pub mod proxy;
pub mod told;
pub mod tunnels;
pub mod ways;
