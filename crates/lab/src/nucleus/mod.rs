//! Greengrass IPC server bridged to an MQTT broker.

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct NucleusArgs {}

/// Runs until it is told to stop.
///
/// # Errors
/// Always: this is a placeholder.
pub async fn run(_args: NucleusArgs) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    Err("this subcommand is a placeholder".into())
}
