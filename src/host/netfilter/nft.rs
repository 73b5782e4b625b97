//! The `nft` program: write text, read JSON.
//!
//! In: a transaction's text. Out: the listing of our tables. Blocks, so it is called on a worker thread. Facts:
//! docs/reference/nftables.md#syntax.
//! Absent on purpose: any knowledge of rules, and any command that could touch a table that is not ours. What nft says in
//! words is told to people and decides nothing; what is there and what is not, the kernel says ([`super::kernel`]).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::host::program::{self, Ended, ProgramLimits, Programs};
use crate::quarantine::ruleset::{Layer, TABLE};

/// nft answers within milliseconds; a hanging one must not hang enforcement.
pub(super) const LIMIT: Duration = Duration::from_secs(10);
/// Largest listing that is read: 100,000 blocked remotes are about 10 MB of JSON.
const MAX_OUTPUT: usize = 64 * 1024 * 1024;
/// Longest piece of nft's own complaint that is repeated.
const MAX_COMPLAINT: usize = 400;
/// How nft ends when it, or the kernel, says no; anything else is no word of nft's.
const REFUSAL: i32 = 1;

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
    /// It ended otherwise than nft does: a library is missing, or it crashed.
    #[error("{program} failed ({how}): {complaint}")]
    Crashed {
        program: PathBuf,
        /// Exit status or signal.
        how: String,
        /// Its last words, shortened.
        complaint: String,
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

/// What was listed of each family's table, or why not.
pub(super) type TableListings = BTreeMap<Layer, Result<Value, NftError>>;

/// Runs nft.
#[derive(Debug, Default)]
pub(crate) struct Nft(Programs);

impl Nft {
    /// Loads one transaction: all of it or nothing.
    ///
    /// # Errors
    /// [`NftError`]; the kernel then has what it had before.
    pub(crate) fn load(&mut self, text: &str) -> Result<(), NftError> {
        self.run(&["-f", "-"], text).map(drop)
    }

    /// Whether nft could load a table of ours; nothing is changed.
    ///
    /// # Errors
    /// [`NftError`].
    pub(super) fn try_out(&mut self) -> Result<(), NftError> {
        self.run(&["-c", "-f", "-"], &format!("add table inet {TABLE}\n"))
            .map(drop)
    }

    /// The listings of our tables in these families, each for itself.
    ///
    /// # Errors
    /// nft is not there.
    pub(super) fn list(&mut self, layers: &BTreeSet<Layer>) -> Result<TableListings, NftError> {
        let program = find()?;
        // All at once, a program for each: nft 1.0.6 knows only the last table of several in one call.
        let started: Vec<_> = layers
            .iter()
            .map(|layer| {
                let arguments = ["-j", "list", "table", layer.family(), TABLE];
                (*layer, self.start(&program, &arguments, Stdio::null()))
            })
            .collect();
        let mut found = BTreeMap::new();
        for (layer, started) in started {
            let listed = started.and_then(|running| self.finish(&program, running));
            let listed = listed.and_then(|output| serde_json::from_slice(&output).map_err(NftError::Listing));
            found.insert(layer, listed);
        }
        Ok(found)
    }

    fn run(&mut self, arguments: &[&str], input: &str) -> Result<Vec<u8>, NftError> {
        let program = find()?;
        let input = program::whole(input).map_err(|source| NftError::Run {
            program: program.clone(),
            source,
        })?;
        let running = self.start(&program, arguments, input)?;
        self.finish(&program, running)
    }

    fn start(
        &mut self,
        program: &Path,
        arguments: &[&str],
        input: Stdio,
    ) -> Result<program::Running, NftError> {
        let limits = ProgramLimits {
            time: LIMIT,
            output: MAX_OUTPUT,
        };
        let started = self.0.start(program, arguments, input, limits);
        started.map_err(|source| NftError::Run {
            program: program.to_owned(),
            source,
        })
    }

    fn finish(&mut self, program: &Path, running: program::Running) -> Result<Vec<u8>, NftError> {
        let ended = self.0.finish(running).map_err(|source| NftError::Run {
            program: program.to_owned(),
            source,
        })?;
        judge(program, ended.ok_or(NftError::Timeout)?)
    }
}

/// Its output, or what its end means.
fn judge(program: &Path, ended: Ended) -> Result<Vec<u8>, NftError> {
    if ended.status.success() {
        return Ok(ended.output);
    }
    let complaint = String::from_utf8_lossy(&ended.complaint);
    let first: Vec<&str> = complaint
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .take(3)
        .collect();
    let complaint: String = first.join(" | ").chars().take(MAX_COMPLAINT).collect();
    if ended.status.code() != Some(REFUSAL) {
        let how = ended.status.to_string();
        return Err(NftError::Crashed {
            program: program.to_owned(),
            how,
            complaint,
        });
    }
    // Refused all the same; this only names the cause.
    if complaint.contains("Operation not permitted") {
        return Err(NftError::NotPermitted);
    }
    Err(NftError::Refused { complaint })
}

fn find() -> Result<PathBuf, NftError> {
    program::find("nft").ok_or(NftError::Missing)
}
