//! What the host is configured to talk to: resolvers and time servers; and the resolver itself.
//!
//! In: the files of the C library, resolved, networkd, NetworkManager, ConnMan, DHCP clients, dnsmasq, unbound, BIND, resolvconf
//! and OpenWrt, of timesyncd, chrony and ntpd, and what they name; a host name.
//! Out: what each of these sources says, or why it says nothing (a file that is not there is no fault); addresses of a
//! name. All of it belongs to others and may lie on anything: what hangs holds up the thread that reads that source.

#![expect(
    clippy::disallowed_methods,
    reason = "host is a door: reads system configuration"
)]

use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::AT_FDCWD;

use crate::Arrange;
use crate::host::clock::instant;
use crate::host::files::foreign::{self, FinalLink};
use crate::host::net::dns_client;
use crate::quarantine::lifelines::host_files::{self, FileForm};
use crate::quarantine::lifelines::host_settings::{HostFile, Resolvers, SourceReading};

/// Largest configuration file in bytes: the longest that a distribution ships, all comments, have some 10,000.
const MAX_FILE: u64 = 65_536;
/// Entries of a folder looked at.
const MAX_ENTRIES: usize = 1_000;
/// Files of a folder read, in the order of their names.
const MAX_FILES: usize = 32;
/// Files of one source read, those that they name among them.
const MAX_READ: usize = 48;
/// Addresses taken of the C library's answer.
const MAX_ADDRESSES: usize = 64;

/// A place where resolvers or time servers are configured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConfigurationSource {
    pub(crate) path: &'static str,
    form: FileForm,
    /// A folder of such files with this ending, all with an empty one; their daemon takes no others.
    folder: Option<&'static str>,
    /// Other places of the same daemon; they are read with it.
    more: &'static [&'static str],
}

/// Every place that is looked at. A place that ends with `*` and an ending is a folder of such files.
pub(crate) const SOURCES: [ConfigurationSource; 17] = {
    use FileForm::{Dnsmasq, Lease, Resolvers, Systemd, TimeServers, Unbound};
    const fn file(path: &'static str, form: FileForm, more: &'static [&'static str]) -> ConfigurationSource {
        ConfigurationSource {
            path,
            form,
            folder: None,
            more,
        }
    }
    const fn folder(path: &'static str, form: FileForm, ending: &'static str) -> ConfigurationSource {
        ConfigurationSource {
            path,
            form,
            folder: Some(ending),
            more: &[],
        }
    }
    [
        file("/etc/resolv.conf", Resolvers, &[]),
        file("/run/systemd/resolve/resolv.conf", Resolvers, &[]),
        file("/etc/systemd/timesyncd.conf", Systemd, TIMESYNCD),
        file(
            "/etc/chrony/chrony.conf",
            TimeServers,
            &["/run/chrony-dhcp/*.sources"],
        ),
        file("/etc/chrony.conf", TimeServers, &[]),
        file("/etc/ntp.conf", TimeServers, NTPD),
        file("/etc/ntpsec/ntp.conf", TimeServers, &[]),
        folder("/etc/systemd/timesyncd.conf.d", Systemd, "conf"),
        folder("/etc/chrony/conf.d", TimeServers, "conf"),
        folder("/etc/chrony/sources.d", TimeServers, "sources"),
        file("/etc/systemd/resolved.conf", Systemd, RESOLVED),
        folder("/run/systemd/netif/leases", Systemd, ""),
        file(
            "/run/NetworkManager/no-stub-resolv.conf",
            Resolvers,
            &["/run/NetworkManager/resolv.conf"],
        ),
        file("/var/lib/dhcp/dhclient.leases", Lease, LEASES),
        file("/etc/dnsmasq.conf", Dnsmasq, DNSMASQ),
        file("/etc/unbound/unbound.conf", Unbound, FORWARDERS),
        file("/etc/resolvconf/run/resolv.conf", Resolvers, RESOLVCONF),
    ]
};

const TIMESYNCD: &[&str] = &[
    "/run/systemd/timesyncd.conf.d/*.conf",
    "/usr/lib/systemd/timesyncd.conf.d/*.conf",
    "/usr/lib/systemd/timesyncd.conf",
];
const NTPD: &[&str] = &[
    "/run/ntp.conf.dhcp",
    "/var/lib/ntp/ntp.conf.dhcp",
    "/etc/openntpd/ntpd.conf",
];
const RESOLVED: &[&str] = &[
    "/etc/systemd/resolved.conf.d/*.conf",
    "/run/systemd/resolved.conf.d/*.conf",
    "/run/systemd/netif/links/*",
    "/etc/systemd/network/*.network",
    "/run/systemd/network/*.network",
];
const LEASES: &[&str] = &[
    "/var/lib/dhcp/*.leases",
    "/var/lib/dhclient/*.leases",
    "/var/lib/NetworkManager/*.lease",
];
const DNSMASQ: &[&str] = &[
    "/etc/dnsmasq.d/*",
    "/run/NetworkManager/dnsmasq.conf",
    // OpenWrt's, which names its list; what lies in `/tmp` by itself may be anybody's elsewhere.
    "/var/etc/dnsmasq.conf*",
];
const FORWARDERS: &[&str] = &[
    "/etc/unbound/unbound.conf.d/*.conf",
    "/etc/bind/named.conf.options",
    "/etc/bind/named.conf",
];
/// Where files are in another form than unbound's, with which they are read.
const BIND: &str = "/etc/bind";
const RESOLVCONF: &[&str] = &[
    "/run/resolvconf/interface/*",
    "/run/dhcpcd/resolv.conf/*",
    "/run/connman/resolv.conf",
];

const HOSTS: &str = "/etc/hosts";
/// Longest `/etc/hosts` in bytes: lists of advertisers that some block there have 3 million.
const MAX_HOSTS: u64 = 16 * 1024 * 1024;
/// How long our own question may take: what the look-up of a name may take, less what the files need.
const ASK_LIMIT: Duration = Duration::from_millis(4_000);
/// What the resolver of the C library reads itself, and would wait for.
const RESOLVER_FILES: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"];

impl ConfigurationSource {
    /// Reads it, and what it names. Blocks for as long as its file system hangs.
    pub(crate) fn read(&self) -> SourceReading {
        let path = Path::new(self.path);
        let mut files = match self.folder {
            None => vec![path.to_owned()],
            Some(ending) => files_in(path, ending)?,
        };
        files.extend(self.more.iter().flat_map(|place| files_at(place)));
        let mut outcomes: Vec<(String, Result<HostFile, String>)> = Vec::new();
        let mut at = 0;
        while let Some(file) = files.get(at).filter(|_| at < MAX_READ).cloned() {
            at += 1;
            let name = file.display().to_string();
            if outcomes.iter().any(|(known, _)| *known == name) {
                continue;
            }
            let Some(outcome) = self.said_by(&file).transpose() else {
                continue;
            };
            let includes = outcome.iter().flat_map(|said| &said.includes);
            // What is a source of its own holds up nobody else.
            let includes = includes.filter(|place| !is_source(place));
            files.extend(includes.flat_map(|place| files_at(place)));
            outcomes.push((name, outcome));
        }
        Ok(outcomes)
    }

    fn said_by(&self, file: &Path) -> Result<Option<HostFile>, String> {
        let bytes = foreign::read(file, MAX_FILE).map_err(|error| error.to_string())?;
        let form = if file.starts_with(BIND) {
            FileForm::Named
        } else {
            self.form
        };
        Ok(bytes.map(|bytes| host_files::parse(form, &String::from_utf8_lossy(&bytes))))
    }
}

fn is_source(place: &str) -> bool {
    let place = place.trim_end_matches('/');
    SOURCES.iter().any(|source| source.path == place)
}

/// The files of a place: itself, those of a folder, or those that `*` stands for in the last name.
fn files_at(place: &str) -> Vec<PathBuf> {
    let path = Path::new(place);
    let last = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let found = match (path.parent(), last.split_once('*')) {
        (Some(folder), Some(("", ""))) => files_in(folder, ""),
        (Some(folder), Some((_, ending))) => files_in(folder, ending.trim_start_matches('.')),
        // A folder is told by what it gives.
        _ => match files_in(path, "") {
            Ok(files) if !files.is_empty() => Ok(files),
            _ => return vec![path.to_owned()],
        },
    };
    // One that cannot be listed says nothing: it is a place beside the daemon's own.
    found.unwrap_or_default()
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
    let is_meant =
        |path: &PathBuf| ending.is_empty() || path.extension().is_some_and(|found| found == ending);
    let mut files: Vec<PathBuf> = paths.filter(is_meant).collect();
    files.arrange();
    files.truncate(MAX_FILES);
    Ok(files)
}

/// Whom a name is asked of.
pub(crate) struct Whom {
    pub(crate) resolvers: Arc<Resolvers>,
    /// One of them is enough: this one, if it is among them.
    pub(crate) only: Option<Option<IpAddr>>,
    /// Resolvers outside have answered lately: nobody speaks in their place.
    pub(crate) own_alone: bool,
}

/// What a name gave.
pub(crate) struct Found {
    pub(crate) addresses: Vec<IpAddr>,
    /// The resolver outside that gave them to our own question, if one did.
    pub(crate) by: Option<IpAddr>,
}

/// Addresses of a host name, or the literal itself: of `/etc/hosts`, else of resolvers outside, asked by ourselves. What the C library
/// finds counts only where the host has no such, and has one of its own: somebody on this machine may have answered it, and whoever could silence the
/// others would speak for them. Blocks for as long as the resolver is silent, half a minute perhaps.
///
/// # Errors
/// A sentence for the operator.
pub(crate) fn resolve(host: &str, whom: &Whom) -> Result<Found, String> {
    if let Ok(address) = host.parse() {
        return Ok(believed(vec![address]));
    }
    if let Some(addresses) = in_hosts(host)? {
        return Ok(believed(addresses));
    }
    let end = instant() + ASK_LIMIT;
    let (mut authorities, mut stub) = (Vec::new(), whom.resolvers.stub);
    for name in whom.resolvers.names(host) {
        let left = end.saturating_duration_since(instant());
        let found = dns_client::ask(&name, &whom.resolvers.servers, whom.only, left);
        if !found.addresses.is_empty() {
            return Ok(Found {
                addresses: found.addresses,
                by: found.by,
            });
        }
        (authorities, stub) = (found.authorities, stub || found.stub);
    }
    if !authorities.is_empty() {
        let whom: Vec<String> = authorities.iter().map(IpAddr::to_string).collect();
        return Err(format!(
            "{host} did not resolve: {} gave no address",
            whom.join(" ")
        ));
    }
    if !stub {
        return Err(format!(
            "{host} did not resolve: the host names no resolver that answers"
        ));
    }
    if whom.own_alone {
        return Err(format!(
            "{host} did not resolve: no resolver outside of this machine that answers is known any more"
        ));
    }
    by_c_library(host).map(believed)
}

fn believed(addresses: Vec<IpAddr>) -> Found {
    Found { addresses, by: None }
}

fn by_c_library(host: &str) -> Result<Vec<IpAddr>, String> {
    for path in RESOLVER_FILES {
        let opened = foreign::open(AT_FDCWD, Path::new(path), FinalLink::Followed);
        opened.map_err(|error| format!("{host} is not looked up, {path} cannot be read: {error}"))?;
    }
    let answer = (host, 0).to_socket_addrs();
    let addresses = answer.map_err(|error| format!("{host} did not resolve: {error}"))?;
    Ok(addresses
        .map(|address| address.ip())
        .take(MAX_ADDRESSES)
        .collect())
}

/// What the host's own file says of a name: who may write that names whom they like.
fn in_hosts(host: &str) -> Result<Option<Vec<IpAddr>>, String> {
    let bytes = foreign::read(Path::new(HOSTS), MAX_HOSTS)
        .map_err(|error| format!("{host} is not looked up, {HOSTS} cannot be read: {error}"))?;
    let text = String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned();
    Ok(host_files::addresses_in_hosts(&text, host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_followed_to_what_it_names_and_not_in_circles() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::create_dir(folder.path().join("sources")).unwrap();
        let main = format!(
            "server a.example\nsourcedir {}\ninclude {}\ninclude {}\n",
            path("sources"),
            path("*.conf"),
            path("main.conf")
        );
        std::fs::write(folder.path().join("main.conf"), main).unwrap();
        std::fs::write(folder.path().join("more.conf"), "pool b.example\n").unwrap();
        std::fs::write(folder.path().join("sources/dhcp.sources"), "server c.example\n").unwrap();
        let source = ConfigurationSource {
            path: Box::leak(path("main.conf").into_boxed_str()),
            form: FileForm::TimeServers,
            folder: None,
            more: &[],
        };
        let mut found: Vec<String> = source
            .read()
            .unwrap()
            .into_iter()
            .flat_map(|(_, said)| said.unwrap().time_servers)
            .collect();
        found.sort_unstable();
        assert_eq!(found, ["a.example", "b.example", "c.example"]);
    }
}
