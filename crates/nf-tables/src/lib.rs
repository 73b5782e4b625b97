//! Rulesets of the Linux kernel's packet filter (nf_tables), straight over netlink: no `nft` program, no C library.
//!
//! In: typed tables, chains, rules, sets, elements and stateful objects ([`TableContents`], [`Element`]). Out: one
//! transaction ([`Batch`]) that the kernel obeys whole or not at all, with its own words about what it refuses
//! (`socket::CommitError`); and what it lists of one table, as the same types ([`Listing`]), so that
//! `listed == loaded` is the proof that a ruleset is in force. Changes of anybody are told ([`Notice`]).
//!
//! Everything but the module `socket` is a function of its arguments, and the feature of that name (on by default) can be
//! left out. What is in the kernel's messages is described once, for
//! writing and for reading. The kernel lists some things otherwise than they were given; each such difference is named as
//! "normal form" where it is taken back. What cannot be read exactly never equals anything that this crate can make.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use nf_tables::socket::Connection;
//! use nf_tables::{
//!     Batch, Chain, ChainContents, Element, Expression, Family, Hook, KeyType, ListingLimits, Lookup, Meta,
//!     MetaKey, Payload, PayloadBase, Policy, Rule, Set, SetFlags, Table, TableContents,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // In a network namespace of its own, as `unshare --net` makes one.
//! let table = Table::new(Family::Inet, "example");
//! let mut contents = TableContents::new(table.clone());
//! contents.sets.push(Set::new("blocked", KeyType::IPV4, 4, SetFlags::NONE));
//! // ip daddr @blocked drop comment "example"
//! let steps = vec![
//!     Meta::first(MetaKey::NetworkFamily).into(),
//!     Expression::equal([2]),
//!     Payload::first(PayloadBase::Network, 16, 4).into(),
//!     Lookup::named("blocked").into(),
//!     Expression::drop(),
//! ];
//! contents.chains.push(ChainContents {
//!     chain: Chain::filter("output", Hook::new(Hook::OUTPUT, 0), Policy::Accept),
//!     rules: vec![Rule::new(steps, "example")],
//! });
//! let mut batch = Batch::new();
//! batch.clear_table(&table);
//! batch.add_contents(&contents);
//! batch.add_elements(&table, "blocked", [Element::new([192, 0, 2, 1])]);
//!
//! let mut connection = Connection::open(Duration::from_secs(5))?;
//! connection.commit(&mut batch)?;
//!
//! let limits = ListingLimits { items: 1_000, bytes: 1_000_000 };
//! let listing = connection.table(&table, &["output"], limits)?.ok_or("it is gone")?;
//! assert_eq!(listing.contents, contents);
//! # Ok(())
//! # }
//! ```
//!
//! Absent on purpose: kinds of expressions and objects beyond those listed here (they are read as
//! [`Expression::Unknown`] and [`ObjectState::Unknown`]), maps, flow tables, and any text of rules.

#![forbid(unsafe_code)]
#![warn(missing_docs, rustdoc::private_intra_doc_links)]

mod batch;
mod chain;
mod expression;
mod listing;
mod notice;
mod object;
mod rule;
mod set;
#[cfg(feature = "socket")]
pub mod socket;
mod table;
mod userdata;
mod value;
mod wire;

pub use batch::{Action, Batch, Item, Step};
pub use chain::{Chain, ChainFlags, Devices, Hook, Policy};
pub use expression::{
    Bitwise, BitwiseOperation, ByteOrder, ByteOrderOperation, Comparison, Conntrack, ConntrackKey, Counter,
    DynamicElement, DynamicFlags, DynamicOperation, Expression, ExtensionFlags, ExtensionHeader,
    ExtensionPlace, Fib, FibFlags, FibResult, Limit, LimitFlags, LimitKind, Lookup, LookupFlags, Meta,
    MetaKey, Notrack, ObjectReference, Octet, Operator, Payload, PayloadBase, Quota, QuotaFlags, Range,
    RangeOperator, Route, RouteKey, SetMeta, SetReference, SetVerdict, UnknownExpression,
};
pub use listing::{During, Listing, ListingError, ListingLimits, ListingReader};
pub use notice::{Generation, Notice};
pub use object::{Object, ObjectKind, ObjectState};
pub use rule::Rule;
pub use set::{
    AnonymousSet, Element, ElementFlags, Interval, KeyType, Set, SetDescription, SetFlags, SetPart,
    interval_elements, intervals_of,
};
pub use table::{ChainContents, Table, TableContents, TableFlags, TableProperties};
pub use userdata::{Header, KeyOrder, TypeOf, UserData};
pub use value::{Data, Register, Value, Verdict};
pub use wire::message::{Family, Message, MessageType};
pub use wire::{DecodeError, EncodeFault, Unknown};

#[cfg(test)]
mod round_trip_tests;
