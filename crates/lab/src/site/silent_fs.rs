//! A file system that never answers: what a network file system is whose server has gone.
//!
//! In: where to mount it, over a file or a directory. Out: a JSON line `mounted`; then nothing, for ever. Whoever opens
//! what is there waits until this program ends. Deliberately absent: a file system; not one question is read.

use std::fs::OpenOptions;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use nix::mount::{MsFlags, mount};
use serde_json::json;

use crate::traffic::lines;

/// Mounts a file system that never answers.
#[derive(Debug, Clone, clap::Args)]
pub struct SilentFsArgs {
    /// An existing file or directory; what is there is hidden.
    #[arg(long)]
    pub at: PathBuf,
}

/// Mounts and waits for its end.
///
/// # Errors
/// Without `/dev/fuse`, or when the kernel refuses the mount.
pub async fn run(args: SilentFsArgs) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let kind = if args.at.metadata()?.is_dir() {
        "40000"
    } else {
        "100000"
    };
    // The mount refers to the descriptor; it ends with it.
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nix::libc::O_CLOEXEC)
        .open("/dev/fuse")?;
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let options = format!(
        "fd={},rootmode={kind},user_id={user},group_id={group},allow_other",
        device.as_raw_fd()
    );
    mount(
        Some("silent"),
        &args.at,
        Some("fuse"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some(options.as_str()),
    )?;
    lines::print(&json!({"event": "mounted", "at": args.at}))?;
    std::future::pending::<()>().await;
    drop(device);
    Ok(())
}
