//! What netlink itself says in its answers (`linux/netlink.h`).

/// Type of a message with an error number: a refusal, or the word that there is none.
pub(super) const ERROR: u16 = 2;
/// Type of the message that ends a list.
pub(super) const DONE: u16 = 3;

/// Flags of a question that asks for a list.
pub(super) const DUMP: u16 = 0x300;
/// Flag of an answer: what is listed was changed meanwhile.
pub(super) const DUMP_INTERRUPTED: u16 = 0x10;
/// Flag of an error message: of the refused message only its header is in it.
pub(super) const CAPPED: u16 = 0x100;
/// Flag of an error message: attributes follow.
pub(super) const EXTENDED: u16 = 0x200;
