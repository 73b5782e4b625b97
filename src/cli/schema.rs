//! `edgewarden schema`: JSON Schemas of what others write for us.

use clap::Subcommand;

use super::{Failure, out};

/// Agrees with `quarantine::order_document`; tests/library/order_schema holds them together.
const ORDER: &str = include_str!("../../schemas/order.schema.json");

#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    document: Document,
}

#[derive(Debug, Subcommand)]
enum Document {
    /// Print the JSON Schema (2020-12) of an order, as the shadow, a deployment or the operator write it.
    Order,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match arguments.document {
        Document::Order => out(ORDER),
    }
}
