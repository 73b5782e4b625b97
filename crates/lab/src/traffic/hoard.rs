//! A process with very many open files, as any user may have.
//!
//! In: how many. Out: a JSON line `hoarding` when they are open; then nothing, for ever. All are copies of one file that
//! says nothing, so they cost the kernel little and whoever looks for sockets much.

use std::fs::File;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;

use super::lines;

/// Files that the program needs besides.
const OTHERS: usize = 64;

/// Opens files and keeps them.
#[derive(Debug, Clone, clap::Args)]
pub struct HoardArgs {
    /// Files to open; fewer where the process may not have so many.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub files: u32,
}

/// Opens them and waits for its end.
///
/// # Errors
/// When so many may not be opened.
pub async fn run(args: HoardArgs) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let one = File::open("/dev/null")?;
    // Limits are of 32 or 64 bits, as the processor is.
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let files = most.saturating_sub(OTHERS).min(usize::try_from(args.files)?);
    let kept = (0..files).map(|_| one.try_clone());
    let kept = kept.collect::<std::io::Result<Vec<_>>>()?;
    lines::print(&json!({"event": "hoarding", "files": kept.len()}))?;
    std::future::pending::<()>().await;
    Ok(())
}
