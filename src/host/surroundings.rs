//! What the host is configured to talk to: resolvers and time servers; and the resolver itself.
//!
//! In: `/etc/resolv.conf`, systemd-resolved's upstream list, timesyncd, chrony and ntpd configuration; a host name.
//! Out: what each of these sources says, or why it says nothing (a file that is not there is no fault); addresses of a
//! name. All of it belongs to others and may lie on anything: what hangs holds up the thread that reads that source.

#![expect(
    clippy::disallowed_methods,
    reason = "host is a door: reads system configuration"
)]

use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;

use crate::host::files::foreign::{self, FinalLink};
use crate::quarantine::lifelines::host_settings::{HostFile, SourceReading};

/// Largest configuration file in bytes: the longest that a distribution ships, all comments, have some 10,000.
const MAX_FILE: u64 = 65_536;
/// Entries of a folder looked at.
const MAX_ENTRIES: usize = 1_000;
/// Files of a folder read, in the order of their names.
const MAX_FILES: usize = 32;
/// Addresses taken of one answer.
const MAX_ADDRESSES: usize = 32;

/// A place where resolvers or time servers are configured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConfigurationSource {
    pub(crate) path: &'static str,
    form: SourceForm,
}

#[derive(Debug, Clone, Copy)]
enum SourceForm {
    Resolvers,
    TimeServers,
    /// A folder of such files with this ending; their daemon takes no others.
    TimeServerFolder(&'static str),
}

/// Every place that is looked at.
pub(crate) const SOURCES: [ConfigurationSource; 10] = {
    use SourceForm::{Resolvers, TimeServerFolder, TimeServers};
    const fn source(path: &'static str, form: SourceForm) -> ConfigurationSource {
        ConfigurationSource { path, form }
    }
    [
        source("/etc/resolv.conf", Resolvers),
        source("/run/systemd/resolve/resolv.conf", Resolvers),
        source("/etc/systemd/timesyncd.conf", TimeServers),
        source("/etc/chrony/chrony.conf", TimeServers),
        source("/etc/chrony.conf", TimeServers),
        source("/etc/ntp.conf", TimeServers),
        source("/etc/ntpsec/ntp.conf", TimeServers),
        source("/etc/systemd/timesyncd.conf.d", TimeServerFolder("conf")),
        source("/etc/chrony/conf.d", TimeServerFolder("conf")),
        source("/etc/chrony/sources.d", TimeServerFolder("sources")),
    ]
};

/// What the resolver of the C library reads itself, and would wait for.
const RESOLVER_FILES: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"];

impl ConfigurationSource {
    /// Reads it. Blocks for as long as its file system hangs.
    pub(crate) fn read(&self) -> SourceReading {
        let path = Path::new(self.path);
        let files = match self.form {
            SourceForm::Resolvers | SourceForm::TimeServers => vec![path.to_owned()],
            SourceForm::TimeServerFolder(ending) => files_in(path, ending)?,
        };
        let outcomes = files.iter().filter_map(|file| {
            let outcome = self.said_by(file).transpose()?;
            Some((file.display().to_string(), outcome))
        });
        Ok(outcomes.collect())
    }

    fn said_by(&self, file: &Path) -> Result<Option<HostFile>, String> {
        let bytes = foreign::read(file, MAX_FILE).map_err(|error| error.to_string())?;
        Ok(bytes.map(|bytes| {
            let text = String::from_utf8_lossy(&bytes);
            match self.form {
                SourceForm::Resolvers => HostFile {
                    nameservers: parse_resolvers(&text),
                    ..HostFile::default()
                },
                SourceForm::TimeServers | SourceForm::TimeServerFolder(_) => HostFile {
                    time_servers: parse_time_servers(&text),
                    ..HostFile::default()
                },
            }
        }))
    }
}

fn files_in(directory: &Path, ending: &str) -> Result<Vec<PathBuf>, String> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    let paths = entries
        .take(MAX_ENTRIES)
        .filter_map(|entry| Some(entry.ok()?.path()));
    let is_meant = |path: &PathBuf| path.extension().is_some_and(|found| found == ending);
    let mut files: Vec<PathBuf> = paths.filter(is_meant).collect();
    files.sort_unstable();
    files.truncate(MAX_FILES);
    Ok(files)
}

/// Addresses of a host name, or the literal itself. Blocks for as long as the resolver is silent, half a minute perhaps.
///
/// # Errors
/// A sentence for the operator.
pub(crate) fn resolve(host: &str) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    for path in RESOLVER_FILES {
        let opened = foreign::open(AT_FDCWD, Path::new(path), FinalLink::Followed);
        opened.map_err(|error| format!("{host} is not looked up, {path} cannot be read: {error}"))?;
    }
    let answer = (host, 0).to_socket_addrs();
    let addresses = answer.map_err(|error| format!("{host} did not resolve: {error}"))?;
    let addresses = addresses.map(|address| address.ip()).take(MAX_ADDRESSES);
    let mut all: Vec<IpAddr> = addresses.collect();
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

fn parse_resolvers(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let address = words
                .next()
                .filter(|word| *word == "nameserver")
                .and(words.next())?;
            // A link-local resolver carries its interface after `%`.
            address.split('%').next()?.parse().ok()
        })
        .collect()
}

fn parse_time_servers(text: &str) -> Vec<String> {
    let plain = |word: &&str| {
        word.len() <= 253
            && word
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || ".-:".contains(c))
    };
    text.lines()
        .flat_map(|line| {
            let line = line.trim();
            if let Some(names) = line
                .strip_prefix("NTP=")
                .or_else(|| line.strip_prefix("FallbackNTP="))
            {
                return names
                    .split_ascii_whitespace()
                    .filter(plain)
                    .map(str::to_owned)
                    .collect::<Vec<_>>();
            }
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("server" | "pool" | "peer") => words
                    .next()
                    .filter(plain)
                    .map(str::to_owned)
                    .into_iter()
                    .collect(),
                _ => Vec::new(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_from_resolv_conf() {
        let text =
            "# comment\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nsearch example\nnameserver x\n";
        let expected: Vec<IpAddr> = vec!["192.0.2.53".parse().unwrap(), "fe80::1".parse().unwrap()];
        assert_eq!(parse_resolvers(text), expected);
    }

    #[test]
    fn time_servers_are_read_from_all_three_daemons() {
        let text =
            "[Time]\nNTP=a.example 192.0.2.1\n#FallbackNTP=no\npool 2.pool.example iburst\nserver x;y\n";
        assert_eq!(
            parse_time_servers(text),
            ["a.example", "192.0.2.1", "2.pool.example"]
        );
    }
}
