//! What the files of resolvers and time daemons say, each in its own form.
//!
//! In: a file's text and its form. Out: [`HostFile`], and which further files it names. Pure; whoever owns the files can only
//! name whom isolation spares. What is commented out counts only as a daemon's compiled-in servers, which distributions write
//! that way. Absent: what a form says of single domains, and sections: a server of one domain is a server.

use std::net::IpAddr;

use super::host_settings::{HostFile, NameServer, Standing};

/// Further files named by one file; a distribution's chrony names five.
const MAX_INCLUDES: usize = 8;
/// Servers taken of one file.
const MAX_SERVERS: usize = 64;
/// Longest name of an interface (`IFNAMSIZ` with its zero).
const MAX_ZONE: usize = 15;
/// Domains that a short name is looked for in; more than the C library took for long.
const MAX_SEARCH: usize = 6;
/// Addresses of one name in `/etc/hosts`.
const MAX_ADDRESSES: usize = 64;
const DNS: u16 = 53;
const DNS_OVER_TLS: u16 = 853;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileForm {
    /// `resolv.conf`.
    Resolvers,
    /// systemd's: `DNS=`, `NTP=`, their fallbacks and `DNSOverTLS=`; leases and states of networkd too.
    Systemd,
    /// chrony, ntpd, openntpd.
    TimeServers,
    /// What a DHCP client remembers; the newest lease counts.
    Lease,
    /// dnsmasq's own, and the lists in the form of `resolv.conf` that it names, whatever they are called.
    Dnsmasq,
    Unbound,
    /// BIND's `forwarders`.
    Named,
}

/// Reads a file's text.
pub fn parse(form: FileForm, text: &str) -> HostFile {
    let mut said = HostFile::default();
    let mut zone = ForwardZone::Unknown;
    if form == FileForm::Named {
        named(text, &mut said);
    }
    for line in text.lines().map(str::trim) {
        match form {
            FileForm::Resolvers => resolvers(line, &mut said),
            FileForm::Systemd => systemd(line, &mut said),
            FileForm::TimeServers => time_servers(line, &mut said),
            FileForm::Lease => lease(line, &mut said),
            FileForm::Dnsmasq => dnsmasq(line, &mut said),
            FileForm::Unbound => unbound(line, &mut zone, &mut said),
            FileForm::Named => {}
        }
    }
    said.nameservers.truncate(MAX_SERVERS);
    said.time_servers.truncate(MAX_SERVERS);
    said.fallback_time_servers.truncate(MAX_SERVERS);
    // What another name is relative to is the daemon's own folder, which nobody knows here.
    said.includes.retain(|place| place.starts_with('/'));
    said.includes.truncate(MAX_INCLUDES);
    said
}

fn resolvers(line: &str, said: &mut HostFile) {
    let mut words = line.split_ascii_whitespace();
    match words.next() {
        Some("nameserver") => said.nameservers.extend(words.next().and_then(server)),
        // The last one counts.
        Some("search" | "domain") => said.search = hosts(words.take(MAX_SEARCH)),
        _ => {}
    }
}

fn systemd(line: &str, said: &mut HostFile) {
    // Distributions write what is compiled in as a comment.
    let compiled = line.strip_prefix('#').map(str::trim);
    let Some((key, value)) = compiled.unwrap_or(line).split_once('=') else {
        return;
    };
    let values = value.split_ascii_whitespace();
    match (key.trim(), compiled.is_some()) {
        ("DNS", false) => values.for_each(|server| name_server(server, '#', Standing::Forwarded, said)),
        ("FallbackDNS", false) => values.for_each(|server| name_server(server, '#', Standing::Perhaps, said)),
        ("NTP", false) => said.time_servers.extend(hosts(values)),
        ("FallbackNTP", _) => said.fallback_time_servers.extend(hosts(values)),
        ("DNSOverTLS", false) => {
            said.dns_over_tls |= !matches!(value.trim(), "no" | "false" | "off" | "0" | "");
        }
        _ => {}
    }
}

fn time_servers(line: &str, said: &mut HostFile) {
    let mut words = line.split_ascii_whitespace();
    match words.next() {
        Some("server" | "pool" | "peer" | "servers") => said.time_servers.extend(hosts(words.take(1))),
        Some("include" | "includefile" | "confdir" | "sourcedir") => {
            said.includes.extend(words.map(str::to_owned));
        }
        // timesyncd's, which is read as this too.
        _ => systemd(line, said),
    }
}

fn lease(line: &str, said: &mut HostFile) {
    if line.starts_with("lease") && line.ends_with('{') {
        *said = HostFile::default();
    }
    let line = line.trim_end_matches(';');
    let servers = |list: &str| {
        list.split([',', ' '])
            .map(str::trim)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let option = |name: &str| {
        line.strip_prefix("option ")?
            .strip_prefix(name)?
            .strip_prefix(' ')
    };
    for name in ["domain-name-servers", "dhcp6.name-servers"] {
        let found = option(name).map(servers).unwrap_or_default();
        said.nameservers
            .extend(found.iter().filter_map(|one| server(one)));
    }
    for name in ["ntp-servers", "dhcp6.sntp-servers"] {
        let found = option(name).map(servers).unwrap_or_default();
        said.time_servers.extend(hosts(found.iter().map(String::as_str)));
    }
    systemd(line, said);
    // Nobody says whether it is over.
    for server in &mut said.nameservers {
        server.standing = Standing::Perhaps;
    }
}

fn dnsmasq(line: &str, said: &mut HostFile) {
    let Some((key, value)) = line.split_once('=') else {
        // Of a list that it names.
        resolvers(line, said);
        return;
    };
    let value = value.trim();
    match key.trim() {
        // Domains that it is asked for stand between slashes before it; the interface that it is asked by behind it.
        "server" | "local" | "rev-server" => {
            let standing = if value.starts_with('/') || key.trim() != "server" {
                Standing::Perhaps
            } else {
                Standing::Forwarded
            };
            let server = value.rsplit(['/', ',']).next().unwrap_or_default();
            let (server, way) = server.split_once('@').unwrap_or((server, ""));
            let before = said.nameservers.len();
            name_server(&server.replace('#', "@"), ' ', standing, said);
            let way = way
                .split('@')
                .next()
                .and_then(zone)
                .filter(|way| address(way).is_none());
            for server in said.nameservers.iter_mut().skip(before) {
                server.zone = server.zone.take().or_else(|| way.clone());
            }
        }
        "resolv-file" | "servers-file" | "conf-file" => said.includes.push(value.to_owned()),
        // Endings of names follow, which it takes or leaves out; all are read.
        "conf-dir" => {
            let folder = value.split(',').next().unwrap_or_default();
            said.includes.push(folder.to_owned());
        }
        _ => {}
    }
}

/// Whether a zone of unbound's is all names, as far as was read; who is asked for a single domain answers for no other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ForwardZone {
    Unknown,
    All,
}

fn unbound(line: &str, in_zone: &mut ForwardZone, said: &mut HostFile) {
    let Some((key, value)) = line.split_once(':') else {
        return;
    };
    let value = value.trim();
    match key {
        "forward-zone" => *in_zone = ForwardZone::Unknown,
        "name" if value.trim_matches('"') == "." => *in_zone = ForwardZone::All,
        "forward-addr" => {
            let standing = if *in_zone == ForwardZone::All {
                Standing::Forwarded
            } else {
                Standing::Perhaps
            };
            name_server(value, '#', standing, said);
        }
        "include" | "include-toplevel" => said.includes.push(value.trim_matches('"').to_owned()),
        "forward-tls-upstream" | "forward-ssl-upstream" => {
            said.dns_over_tls |= value == "yes";
        }
        _ => {}
    }
}

/// The addresses between the braces behind `forwarders`, those of single zones too, which nobody tells apart here.
fn named(text: &str, said: &mut HostFile) {
    let uncommented = text.lines().map(|line| {
        let end = line.find("//").or_else(|| line.find('#')).unwrap_or(line.len());
        line.get(..end).unwrap_or_default()
    });
    let text = uncommented.collect::<Vec<_>>().join(" ");
    for list in text.split("forwarders").skip(1).take(MAX_SERVERS) {
        let list = list.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
        for one in list.map(|(list, _)| list.split(';')).into_iter().flatten() {
            let mut words = one.split_ascii_whitespace();
            let address = words.next().unwrap_or_default();
            let port = words
                .next()
                .filter(|word| *word == "port")
                .and_then(|_| words.next());
            let text = port.map_or(address.to_owned(), |port| format!("{address}@{port}"));
            name_server(&text, ' ', Standing::Perhaps, said);
        }
    }
}

/// An address with a port or without, in the ways that resolvers write it; what follows `end` is a name.
fn name_server(text: &str, end: char, standing: Standing, said: &mut HostFile) {
    let text = text.split(end).next().unwrap_or_default();
    // The interface stands behind the address, before the port or behind it.
    let (text, after) = text.split_once('%').unwrap_or((text, ""));
    let (way, later) = after.split_once('@').unwrap_or((after, ""));
    let (host, port) = match text.split_once('@') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (text, later.parse().ok()),
    };
    let (address, port) = match host.parse::<std::net::SocketAddr>() {
        Ok(socket) => (Some(socket.ip()), Some(socket.port())),
        Err(_) => (address(host), port),
    };
    if let Some(address) = address {
        let server = NameServer {
            address,
            zone: zone(way),
            standing,
        };
        said.take_server(server, port.unwrap_or(DNS));
    }
}

impl HostFile {
    /// Ports that no lifeline serves are told.
    fn take_server(&mut self, server: NameServer, port: u16) {
        let address = server.address;
        match port {
            DNS => {}
            DNS_OVER_TLS => self.dns_over_tls = true,
            _ if address.is_loopback() => return,
            _ => {
                let told = format!("the resolver {address} is asked on port {port}, which is no lifeline");
                if self.unserved.len() < MAX_INCLUDES {
                    self.unserved.push(told);
                }
                return;
            }
        }
        self.nameservers.push(server);
    }
}

/// A link-local resolver carries its interface after `%`.
fn server(text: &str) -> Option<NameServer> {
    let (host, way) = text.split_once('%').unwrap_or((text, ""));
    Some(NameServer {
        address: address(host)?,
        zone: zone(way),
        standing: Standing::Forwarded,
    })
}

fn address(text: &str) -> Option<IpAddr> {
    text.split('%').next()?.trim_matches(['[', ']']).parse().ok()
}

fn zone(text: &str) -> Option<String> {
    let text = text.trim_matches(['[', ']']);
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'/';
    (!text.is_empty() && text.len() <= MAX_ZONE && text.bytes().all(plain)).then(|| text.to_owned())
}

/// The addresses that a text in the form of `/etc/hosts` gives to a name; none if it does not name it.
pub fn addresses_in_hosts(text: &str, host: &str) -> Option<Vec<IpAddr>> {
    let host = host.trim_end_matches('.');
    let mut found: Option<Vec<IpAddr>> = None;
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let at = words.next().and_then(address);
        if words.any(|name| name.eq_ignore_ascii_case(host)) {
            let known = found.get_or_insert_default();
            known.extend(at.filter(|at| known.len() < MAX_ADDRESSES && !known.contains(at)));
        }
    }
    found
}

fn hosts<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    let plain = |word: &&str| {
        !word.is_empty()
            && word.len() <= 253
            && word
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || ".-:_".contains(c))
    };
    words.filter(plain).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(said: &HostFile) -> Vec<String> {
        let servers = said.nameservers.iter();
        servers.map(|server| server.address.to_string()).collect()
    }

    /// Address, interface, standing.
    fn servers(form: FileForm, text: &str) -> Vec<(String, String, Standing)> {
        let servers = parse(form, text).nameservers.into_iter();
        let shown = |one: NameServer| {
            (
                one.address.to_string(),
                one.zone.unwrap_or_default(),
                one.standing,
            )
        };
        servers.map(shown).collect()
    }

    #[test]
    fn interfaces_and_what_is_asked_perhaps_only_are_told_apart() {
        use Standing::{Forwarded, Perhaps};
        let own = |address: &str, zone: &str, standing| (address.to_owned(), zone.to_owned(), standing);
        let text = "DNS=192.0.2.1:853%eth0#dns.example [2001:db8::1]:53%eth1 fe80::1%wlan0 192.0.2.2\nFallbackDNS=192.0.2.9\n";
        let expected = [
            own("192.0.2.1", "eth0", Forwarded),
            own("2001:db8::1", "eth1", Forwarded),
            own("fe80::1", "wlan0", Forwarded),
            own("192.0.2.2", "", Forwarded),
            own("192.0.2.9", "", Perhaps),
        ];
        assert_eq!(servers(FileForm::Systemd, text), expected);
        let text = "server=192.0.2.1#53@eth0\nserver=fe80::2%eth1\nserver=192.0.2.3@192.0.2.77\nserver=/corp.example/192.0.2.2\n\
                    nameserver 192.0.2.4\nnameserver fe80::3%eth2\nconf-dir=/run/more,*.conf\n";
        let expected = [
            own("192.0.2.1", "eth0", Forwarded),
            own("fe80::2", "eth1", Forwarded),
            own("192.0.2.3", "", Forwarded),
            own("192.0.2.2", "", Perhaps),
            own("192.0.2.4", "", Forwarded),
            own("fe80::3", "eth2", Forwarded),
        ];
        assert_eq!(servers(FileForm::Dnsmasq, text), expected);
        assert_eq!(parse(FileForm::Dnsmasq, text).includes, ["/run/more"]);
        let text = "forward-zone:\n  name: \".\"\n  forward-addr: fe80::1%eth0@853#dns.example\nforward-zone:\n  \
                    name: \"corp.example\"\n  forward-addr: 192.0.2.2\n";
        let expected = [own("fe80::1", "eth0", Forwarded), own("192.0.2.2", "", Perhaps)];
        assert_eq!(servers(FileForm::Unbound, text), expected);
        let text = "options {\n  // forwarders { 192.0.2.8; };\n  forwarders {\n 192.0.2.1;\n 2001:db8::1 port 53; };\n};\n";
        let expected = [own("192.0.2.1", "", Perhaps), own("2001:db8::1", "", Perhaps)];
        assert_eq!(servers(FileForm::Named, text), expected);
        let lease = "lease {\n  option domain-name-servers 192.0.2.1;\n}\n";
        assert_eq!(servers(FileForm::Lease, lease), [own("192.0.2.1", "", Perhaps)]);
    }

    #[test]
    fn the_hosts_file_gives_its_own_addresses_to_a_name() {
        let text = "127.0.0.1 localhost\n192.0.2.1 a.example A.alias # x.example\n2001:db8::1 a.example\nnone b.example\n";
        let found = |host| {
            addresses_in_hosts(text, host).map(|all| all.iter().map(IpAddr::to_string).collect::<Vec<_>>())
        };
        assert_eq!(found("A.example.").unwrap(), ["192.0.2.1", "2001:db8::1"]);
        assert_eq!(found("x.example"), None);
        assert_eq!(found("b.example").unwrap(), [""; 0]);
    }

    #[test]
    fn resolvers_are_read_from_resolv_conf() {
        let text =
            "# comment\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nsearch example\nnameserver x\n";
        assert_eq!(
            names(&parse(FileForm::Resolvers, text)),
            ["192.0.2.53", "fe80::1"]
        );
        assert_eq!(parse(FileForm::Resolvers, text).search, ["example"]);
    }

    #[test]
    fn systemds_files_name_resolvers_time_servers_and_tls() {
        let text = "[Resolve]\nDNS=192.0.2.1:853#dns.example 192.0.2.2%eth0\n#FallbackDNS=192.0.2.9\nNTP=a.example\n\
                    #FallbackNTP=0.debian.pool.ntp.org x;y\nDNSOverTLS=opportunistic\n";
        let said = parse(FileForm::Systemd, text);
        assert_eq!(names(&said), ["192.0.2.1", "192.0.2.2"]);
        assert!(said.dns_over_tls);
        assert_eq!(said.time_servers, ["a.example"]);
        assert_eq!(said.fallback_time_servers, ["0.debian.pool.ntp.org"]);
        let off = parse(
            FileForm::Systemd,
            "DNSOverTLS=no\n#DNSOverTLS=yes\nDNS=192.0.2.1\n",
        );
        assert!(!off.dns_over_tls);
    }

    #[test]
    fn time_servers_are_read_from_every_daemon() {
        let text = "[Time]\nNTP=a.example 192.0.2.1\npool 2.pool.example iburst\nserver x;y\nservers b.example\n\
                    confdir /etc/chrony/conf.d /run/chrony.d\ninclude /etc/more/*.conf\nsourcedir /run/chrony-dhcp\n";
        let said = parse(FileForm::TimeServers, text);
        assert_eq!(
            said.time_servers,
            ["a.example", "192.0.2.1", "2.pool.example", "b.example"]
        );
        let includes = [
            "/etc/chrony/conf.d",
            "/run/chrony.d",
            "/etc/more/*.conf",
            "/run/chrony-dhcp",
        ];
        assert_eq!(said.includes, includes);
    }

    #[test]
    fn the_newest_lease_counts() {
        let text = "lease {\n  option domain-name-servers 192.0.2.1;\n}\nlease {\n  \
                    option domain-name-servers 192.0.2.2,192.0.2.3;\n  option ntp-servers 192.0.2.4;\n}\n";
        let said = parse(FileForm::Lease, text);
        assert_eq!(names(&said), ["192.0.2.2", "192.0.2.3"]);
        assert_eq!(said.time_servers, ["192.0.2.4"]);
        let said = parse(
            FileForm::Lease,
            "ADDRESS=192.0.2.9\nDNS=192.0.2.5 192.0.2.6\nNTP=192.0.2.7\n",
        );
        assert_eq!((names(&said).len(), said.time_servers.len()), (2, 1));
    }

    #[test]
    fn forwarders_say_whom_they_ask_and_what_cannot_be_served_is_told() {
        let text = "server=192.0.2.1\nserver=/corp.example/192.0.2.2\nserver=192.0.2.3#5353\nserver=127.0.0.1#5335\n\
                    resolv-file=/run/up.conf\n";
        let said = parse(FileForm::Dnsmasq, text);
        assert_eq!(names(&said), ["192.0.2.1", "192.0.2.2"]);
        assert_eq!(said.includes, ["/run/up.conf"]);
        assert_eq!(said.unserved.len(), 1, "{:?}", said.unserved);
        let text = "servers-file=up.txt\nconf-dir=more\nresolv-file=/run/up.conf\n";
        assert_eq!(parse(FileForm::Dnsmasq, text).includes, ["/run/up.conf"]);
        let text = "include: \"/etc/unbound/conf.d/*.conf\"\ninclude-toplevel: /etc/unbound/local.d/a.conf\ninclude: near.conf\n";
        assert_eq!(
            parse(FileForm::Unbound, text).includes,
            ["/etc/unbound/conf.d/*.conf", "/etc/unbound/local.d/a.conf"]
        );
        let text = "forward-zone:\n  forward-addr: 192.0.2.1@853#dns.example\n  forward-addr: 2001:db8::1\n";
        let said = parse(FileForm::Unbound, text);
        assert_eq!(
            (names(&said), said.dns_over_tls),
            (vec!["192.0.2.1".into(), "2001:db8::1".into()], true)
        );
    }
}
