//! What the host is configured to talk to: resolvers and time servers; and the resolver itself.
//!
//! In: `/etc/resolv.conf`, systemd-resolved's upstream list, timesyncd, chrony and ntpd configuration; a host name.
//! Out: addresses and names. Files that do not exist are left out; a file that cannot be read counts as absent.

#![expect(
    clippy::disallowed_methods,
    reason = "host is a door: reads system configuration"
)]

use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};

use crate::host::files;

/// Resolvers and time servers taken; glibc itself uses three resolvers.
const MAX_TAKEN: usize = 16;
/// Addresses taken of one answer.
const MAX_ADDRESSES: usize = 32;

/// Addresses of the configured resolvers, loopback stubs left out (loopback is a lifeline of its own).
pub(crate) fn resolvers() -> Vec<IpAddr> {
    let mut all = nameservers();
    all.retain(|address| !address.is_loopback());
    all
}

/// Everybody whom the host's configuration lets answer questions for names, loopback stubs included.
pub(crate) fn nameservers() -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"]
        .iter()
        .flat_map(|path| parse_resolvers(&text(Path::new(path))))
        .collect();
    all.sort_unstable();
    all.dedup();
    all.truncate(MAX_TAKEN);
    all
}

/// Names or addresses of the configured time servers.
pub(crate) fn time_servers() -> Vec<String> {
    let mut paths: Vec<PathBuf> = vec![
        "/etc/systemd/timesyncd.conf".into(),
        "/etc/chrony/chrony.conf".into(),
        "/etc/chrony.conf".into(),
        "/etc/ntp.conf".into(),
        "/etc/ntpsec/ntp.conf".into(),
    ];
    for directory in [
        "/etc/systemd/timesyncd.conf.d",
        "/etc/chrony/conf.d",
        "/etc/chrony/sources.d",
    ] {
        let entries = std::fs::read_dir(directory).into_iter().flatten();
        paths.extend(
            entries
                .take(MAX_TAKEN)
                .filter_map(|entry| Some(entry.ok()?.path())),
        );
    }
    let mut all: Vec<String> = paths
        .iter()
        .flat_map(|path| parse_time_servers(&text(path)))
        .collect();
    all.sort_unstable();
    all.dedup();
    all.truncate(MAX_TAKEN);
    all
}

/// Addresses of a host name, or the literal itself. Blocks for as long as the resolver is silent, half a minute perhaps.
///
/// # Errors
/// A sentence for the operator.
pub(crate) fn resolve(host: &str) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let answer = (host, 0).to_socket_addrs();
    let addresses = answer.map_err(|error| format!("{host} did not resolve: {error}"))?;
    let addresses = addresses.map(|address| address.ip()).take(MAX_ADDRESSES);
    let mut all: Vec<IpAddr> = addresses.collect();
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

fn text(path: &Path) -> String {
    files::read_foreign(path)
        .ok()
        .flatten()
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
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
