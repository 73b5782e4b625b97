//! The kernel's packet filter, through the `nft` program: write text, read JSON.
//!
//! In: a transaction's text. Out: the listing of our tables. Facts:
//! docs/reference/nftables.md#syntax.
//! Absent on purpose: any knowledge of rules, and any command that could touch a table that is not ours.

#![expect(
    clippy::disallowed_methods,
    reason = "host is a door: this is the one place that runs a program"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

use crate::quarantine::ruleset::{Layer, TABLE};

/// nft answers within milliseconds; a hanging one must not hang enforcement.
const LIMIT: Duration = Duration::from_secs(10);
/// Largest listing that is read: 100,000 blocked remotes are about 10 MB of JSON.
const MAX_OUTPUT: u64 = 64 * 1024 * 1024;
/// Longest piece of nft's own complaint that is repeated.
const MAX_COMPLAINT: usize = 400;
/// Where nft lives besides PATH: services often run without the sbin directories.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"];

/// What could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NftError {
    #[error("nft was not found in PATH, /usr/sbin, /sbin, /usr/bin or /usr/local/sbin (install nftables)")]
    Missing,
    /// It could not be started or talked to.
    #[error("could not run {program}")]
    Run {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    /// No answer in time.
    #[error("nft did not answer within {} seconds", LIMIT.as_secs())]
    Timeout,
    /// The kernel wants a capability we do not have.
    #[error("nft is not permitted to change the packet filter (CAP_NET_ADMIN is missing)")]
    NotPermitted,
    /// nft or the kernel refused the transaction; nothing of it was applied.
    #[error("nft refused: {complaint}")]
    Refused {
        /// Its own words, shortened.
        complaint: String,
    },
    /// The listing is no JSON.
    #[error("nft's listing is no JSON")]
    Listing(#[source] serde_json::Error),
}

/// Loads one transaction: all of it or nothing.
///
/// # Errors
/// [`NftError`]; the kernel then has what it had before.
pub(crate) async fn load(text: &str) -> Result<(), NftError> {
    run(&["-f", "-"], text).await.map(|_| ())
}

/// The listings of our tables in these families; one that does not exist is left out.
///
/// # Errors
/// [`NftError`], never for a missing table.
pub(crate) async fn list(layers: &BTreeSet<Layer>) -> Result<BTreeMap<Layer, Value>, NftError> {
    let of = async |layer: Layer| {
        if layers.contains(&layer) {
            list_one(layer).await
        } else {
            Ok(None)
        }
    };
    // A program for each: nft 1.0.6 knows only the last table of several in one call.
    let [inet, bridge, netdev] = Layer::ALL;
    let (inet, bridge, netdev) = tokio::join!(of(inet), of(bridge), of(netdev));
    let found = Layer::ALL.into_iter().zip([inet?, bridge?, netdev?]);
    Ok(found
        .filter_map(|(layer, listing)| Some((layer, listing?)))
        .collect())
}

async fn list_one(layer: Layer) -> Result<Option<Value>, NftError> {
    match run(&["-j", "list", "table", layer.family(), TABLE], "").await {
        Ok(output) => serde_json::from_slice(&output)
            .map(Some)
            .map_err(NftError::Listing),
        // ENOENT in the C locale; the exit status is the same for every failure.
        Err(NftError::Refused { complaint }) if complaint.contains("No such file or directory") => Ok(None),
        Err(error) => Err(error),
    }
}

async fn run(arguments: &[&str], input: &str) -> Result<Vec<u8>, NftError> {
    let program = find()?;
    let failed = |source| NftError::Run {
        program: program.clone(),
        source,
    };
    let child = Command::new(&program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(whole(input).map_err(failed)?)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let (output, complaint, success) = tokio::time::timeout(LIMIT, talk(child))
        .await
        .map_err(|_| NftError::Timeout)?
        .map_err(failed)?;
    if success {
        return Ok(output);
    }
    let complaint = String::from_utf8_lossy(&complaint);
    let first: Vec<&str> = complaint
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .take(3)
        .collect();
    let complaint: String = first.join(" | ").chars().take(MAX_COMPLAINT).collect();
    if complaint.contains("Operation not permitted") {
        return Err(NftError::NotPermitted);
    }
    Err(NftError::Refused { complaint })
}

/// Input that is there whole before anybody reads it: of a pipe whose writer is killed nft would take what has come so
/// far for all of it, and that may end between two tables.
fn whole(input: &str) -> io::Result<Stdio> {
    let mut file = File::from(memfd_create("edgewarden.nft", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(input.as_bytes())?;
    file.rewind()?;
    Ok(file.into())
}

async fn talk(mut child: Child) -> io::Result<(Vec<u8>, Vec<u8>, bool)> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut output, mut complaint) = (Vec::new(), Vec::new());
    let read = async {
        if let Some(stdout) = stdout {
            stdout.take(MAX_OUTPUT).read_to_end(&mut output).await?;
        }
        io::Result::Ok(())
    };
    let listen = async {
        if let Some(stderr) = stderr {
            stderr.take(64 * 1024).read_to_end(&mut complaint).await?;
        }
        io::Result::Ok(())
    };
    let (read, listened) = tokio::join!(read, listen);
    read.and(listened)?;
    let status = child.wait().await?;
    Ok((output, complaint, status.success()))
}

fn find() -> Result<PathBuf, NftError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(DIRECTORIES.iter().map(PathBuf::from))
        .map(|directory| directory.join("nft"))
        .find(|program| {
            program
                .metadata()
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
        .ok_or(NftError::Missing)
}
