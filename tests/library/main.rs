//! Edgewarden's own code where only the real kernel, or a judge that is not ours, can say whether it is right.
//!
//! * [`model`]: the enforcer with a real packet filter against a reference model ([`reference`])
//! * [`model_run`]: the same on a fake machine, with failures and orders of events that no real one can be made to have
//! * [`nft_oracle`]: our rules as types and as text, as nft and we read them back from the kernel
//! * [`observe`]: the observer in real network namespaces
//! * [`answer_schemas`], [`order_schema`], [`report_formats`]: what we answer, read and write, beside published schemas and
//!   AWS's agent

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test and its programs touch the outside and fail loudly"
)]

mod answer_schemas;
mod judge;
mod model;
mod model_run;
mod nft_oracle;
mod observe;
mod order_schema;
#[path = "../shared/page_rules.rs"]
mod page_rules;
#[path = "../shared/random.rs"]
mod random;
mod reference;
mod report_formats;
