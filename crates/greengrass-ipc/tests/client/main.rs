//! The client against a scripted nucleus over a real Unix socket.
//!
//! One binary, so that what the scripts share is compiled once and nothing of it is unused.

#[cfg(test)]
mod calls;
#[cfg(test)]
mod cancellation;
#[cfg(test)]
mod connecting;
#[cfg(test)]
mod liveness;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod subscriptions;
#[cfg(test)]
mod support;
#[cfg(test)]
mod violations;
