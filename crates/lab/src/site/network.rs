//! Links, addresses, routes and forwarding of the site, as `ip` batches; and their removal.

use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Ns, Site, SiteError, tools};

/// Namespaces and the two veth pairs between them.
const LINKS: &str = "netns add gateway\nnetns add internet\nnetns add lan\n\
    link add wan0 netns gateway type veth peer name gw0 netns internet\n\
    link add lan0 netns gateway type veth peer name eth0 netns lan\n";

const GATEWAY: &str = "link set lo up\n\
    addr add 198.51.100.2/24 dev wan0\naddr add 2001:db8:1::2/64 dev wan0 nodad\n\
    addr add 192.0.2.1/24 dev lan0\naddr add 2001:db8:2::1/64 dev lan0 nodad\n\
    link set wan0 up\nlink set lan0 up\n\
    route add default via 198.51.100.1\nroute add default via 2001:db8:1::1\n";

const INTERNET: &str = "link set lo up\n\
    addr add 198.51.100.1/24 dev gw0\naddr add 2001:db8:1::1/64 dev gw0 nodad\n\
    addr add 203.0.113.1/32 dev lo\naddr add 2001:db8:ffff::1/128 dev lo nodad\n\
    link set gw0 up\n\
    route add 192.0.2.0/24 via 198.51.100.2\nroute add 2001:db8:2::/64 via 2001:db8:1::2\n";

const LAN: &str = "link set lo up\n\
    addr add 192.0.2.2/24 dev eth0\naddr add 2001:db8:2::2/64 dev eth0 nodad\n\
    link set eth0 up\n\
    route add default via 192.0.2.1\nroute add default via 2001:db8:2::1\n";

/// Settings of each IPv6 interface; links made before a change of `default` do not follow it.
const IPV6_INTERFACES: &str = "/proc/sys/net/ipv6/conf";

const FORWARDING: [&str; 2] = [
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/net/ipv6/conf/all/forwarding",
];

/// Creates the namespaces and links.
pub(super) fn create() -> Result<(), SiteError> {
    tools::run("ip", &["-batch", "-"], LINKS)
}

/// Gives them addresses and routes, and makes the gateway forward.
pub(super) fn configure(site: &Site) -> Result<(), SiteError> {
    for ns in Ns::ALL {
        site.run_in(ns, skip_address_detection)??;
    }
    site.run_in(Ns::Gateway, || set_all(&FORWARDING, "1"))??;
    for (ns, batch) in [(Ns::Gateway, GATEWAY), (Ns::Internet, INTERNET), (Ns::Lan, LAN)] {
        tools::run("ip", &["-n", ns.name(), "-batch", "-"], batch)?;
    }
    Ok(())
}

/// Duplicate address detection leaves addresses, link-local ones included, unusable for a second or two after the
/// link comes up; a gateway without its link-local address resolves no neighbour for what it forwards.
fn skip_address_detection() -> Result<(), SiteError> {
    let folder = std::path::Path::new(IPV6_INTERFACES);
    let failed = |source| SiteError::File {
        path: folder.to_owned(),
        source,
    };
    for interface in std::fs::read_dir(folder).map_err(failed)? {
        let path = interface.map_err(failed)?.path().join("accept_dad");
        std::fs::write(&path, "0").map_err(|source| SiteError::File { path, source })?;
    }
    Ok(())
}

fn set_all(paths: &[&str], value: &str) -> Result<(), SiteError> {
    paths.iter().try_for_each(|path| {
        std::fs::write(path, value).map_err(|source| SiteError::File {
            path: path.into(),
            source,
        })
    })
}

/// Kills what still runs in the namespaces and removes them. Best effort: the lab's end removes the rest.
pub(super) fn destroy() {
    for ns in Ns::ALL {
        for pid in processes_in(ns) {
            let _ = kill(pid, Signal::SIGKILL);
        }
        let _ = tools::run("ip", &["netns", "delete", ns.name()], "");
    }
}

fn processes_in(ns: Ns) -> Vec<Pid> {
    let Ok(ip) = tools::require("ip") else {
        return Vec::new();
    };
    let Ok(output) = Command::new(ip).args(["netns", "pids", ns.name()]).output() else {
        return Vec::new();
    };
    let own = Pid::this();
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .map(Pid::from_raw)
        .filter(|pid| *pid != own && pid.as_raw() > 1)
        .collect()
}
