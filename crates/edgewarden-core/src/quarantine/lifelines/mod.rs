//! What isolation never cuts: which lifelines there are ([`lifeline`]), where their addresses come from ([`lookups`],
//! [`dns_answers`]) and how long they are kept ([`address_book`]).

pub mod address_book;
pub mod dns_answers;
pub mod lifeline;
pub mod lookups;
