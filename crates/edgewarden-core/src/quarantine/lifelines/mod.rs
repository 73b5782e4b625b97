//! What isolation never cuts: which lifelines there are ([`lifeline`], [`proxy`]), where their addresses come from
//! ([`lookups`], [`dns_answers`], [`host_settings`]) and how long they are kept ([`address_book`]).

pub mod address_book;
pub mod dns_answers;
pub mod host_settings;
pub mod lifeline;
pub mod lookups;
pub mod proxy;
