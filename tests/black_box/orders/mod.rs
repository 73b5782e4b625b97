//! Orders in the real binary: from each authority, of each kind, readable or not, and what lives through them.

mod answers;
mod authorities;
mod bad_input;
mod channel;
mod denied;
mod deployments;
mod flapping;
pub(crate) mod lifelines;
mod old_messages;
mod plan_cli;
mod postures;
mod proxy;
mod reconnects;
mod scalars;
mod severed;
pub(crate) mod silence;
mod silence_alone;
mod silence_holds;
mod subscriptions;
mod tunnels;
mod unheard;
mod whole_loop;
