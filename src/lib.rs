//! Edgewarden: the security component that AWS IoT Greengrass v2 gateways lack.
//!
//! The modules, in the order in which data flows through them:
//!
//! 1. packets and sockets become a report: [`observe`] → [`report`] → (`cloud`) → Device Defender; the same interval
//!    feeds [`detect`], whose alarm may become an order
//! 2. orders become rules that are proven: [`quarantine`] (pure) carried out by [`agent::enforcer`]
//! 3. a person asks the device: [`cli`] → [`control`]
//!
//! Effects live behind two doors, [`host`] (the Linux kernel) and [`cloud`] (Greengrass IPC). [`config`] says what is
//! wanted, [`agent`] wires everything together.

pub mod agent;
pub mod cli;
pub mod cloud;
pub mod config;
pub mod control;
pub mod detect;
pub mod host;
pub mod observe;
pub mod process;
pub mod quarantine;
pub mod report;

/// Locks even what a thread that failed had locked: the values behind our locks are whole between any two steps.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
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
