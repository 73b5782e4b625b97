//! The door to the kernel: one socket for questions and transactions ([`Connection`]), one for what it tells by itself
//! ([`Notifications`]).
//!
//! A socket belongs to the network namespace of the thread that opened it. It is opened once and kept, so it works when
//! descriptors have run out; its buffer is as large at the end as at the beginning. Everything blocks: each answer is waited
//! for until a limit, and what is sent until the kernel has carried out the transaction before it, for which there is no
//! limit (another program's hundred thousand elements take it half a second). Nobody but the kernel is heard: who else
//! sends to the socket is refused or passed over.

mod commit;
mod connection;
mod deadline;
mod list;
mod notifications;
mod protocol;
mod refusal;

pub use commit::{CommitError, Unclear};
pub use connection::{AskError, Connection};
pub use notifications::Notifications;
pub use refusal::{AttributePlace, Refusal};
