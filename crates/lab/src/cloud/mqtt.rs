//! A console on the broker. Placeholder until the session that owns this module merges.

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct MqttArgs {}

/// Runs until it is told to stop.
///
/// # Errors
/// Always: this is a placeholder.
pub async fn run(_args: MqttArgs) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    Err("this subcommand is a placeholder".into())
}
