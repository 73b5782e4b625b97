//! What Edgewarden decides, without any effect: data and `now` in, data out.
//!
//! The folders, in the order in which they may know each other; arrows point only to what stands before:
//!
//! 1. [`document`] reads hostile JSON, [`process`] and [`moment`] say what a process and a moment are
//! 2. [`observe`]: frames → flows → owners → ledger → interval
//! 3. [`detect`]: interval and sockets → alarms; [`quarantine`]: orders → plan → rules → proof
//! 4. [`report`]: interval and sockets → a Device Defender document that fits
//! 5. [`config`]: the table of keys, and the checked document; it knows the flows, none of them knows it
//!
//! This crate has no runtime, no netlink and no system calls among its dependencies: the compiler keeps effects out.
//! Who carries out what is decided here is the crate `edgewarden`.

#![forbid(unsafe_code)]

pub mod config;
pub mod detect;
pub mod document;
pub mod moment;
pub mod observe;
pub mod process;
pub mod quarantine;
pub mod report;
mod sorting;

pub use sorting::{Arrange, Gather};

/// Locks even what a thread that failed had locked: the values behind our locks are whole between any two steps.
pub fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// An error with all its causes in one line, `what: why: why`. A cause that only repeats its effect is left out.
pub fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = next.source();
    }
    text
}

/// Some moment, for tests that count from one.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "which moment it is does not matter")]
pub(crate) fn some_instant() -> std::time::Instant {
    std::time::Instant::now()
}
