//! Edgewarden's own code where only the real kernel, or a judge that is not ours, can say whether it is right.
//!
//! * [`model`]: the enforcer with a real packet filter against a reference model
//! * [`observe`]: the observer in real network namespaces
//! * [`order_schema`], [`report_formats`]: what we read and write, beside published schemas and AWS's agent

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test and its programs touch the outside and fail loudly"
)]

mod judge;
mod model;
mod observe;
mod order_schema;
mod report_formats;
