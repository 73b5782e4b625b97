//! AWS IoT stand-in: shadow service, Defender ingest, Detect, alarm Lambda. Placeholder until the session that owns this module merges.

pub mod mqtt;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct CloudArgs {}

/// Runs until it is told to stop.
///
/// # Errors
/// Always: this is a placeholder.
pub async fn run(_args: CloudArgs) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    Err("this subcommand is a placeholder".into())
}
