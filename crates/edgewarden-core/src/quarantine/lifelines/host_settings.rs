//! Whom the host is configured to talk to, as its files said last.
//!
//! In: what each source gave when it was read, or why it gave nothing. Out: resolvers and time servers, whom of the resolvers our
//! own questions go to, and what is wrong with which source. Pure: the files are read by `host::surroundings`.
//! Invariants: a source that cannot be read keeps what it said last, file by file, and touches no other; a file that is
//! not there says nothing. Whoever owns the files can only name whom isolation spares, and so much of that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::lifeline::Setting;
use super::ways::{InterfaceName, LinksOf, is_of_a_link};
use crate::Arrange;

/// Name servers and time servers taken, of each; glibc itself uses three resolvers.
const MAX_TAKEN: usize = 24;

/// The file that the C library asks by.
const OWN: &str = "/etc/resolv.conf";

/// How surely the host asks a resolver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// The C library's own file names it.
    Own,
    /// What answers on this machine asks it.
    Forwarded,
    /// Perhaps: a lease that may be over, a server of last resort, or of some domain only.
    Perhaps,
}

/// Who answers questions for names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NameServer {
    pub address: IpAddr,
    /// The interface that it is asked by, where the file says so.
    pub zone: Option<String>,
    pub standing: Standing,
}

/// Whom names are asked of, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolvers {
    /// Those that the host asks for sure come first, in the order of their files.
    pub servers: Vec<NameServer>,
    /// Domains that a name without a dot is looked for in.
    pub search: Vec<String>,
    /// Whether one on this machine is named. Where none is, the C library asks loopback all the same, and anybody may answer.
    pub stub: bool,
}

impl Resolvers {
    /// The names that are asked for where somebody means `host`, as the C library would.
    pub fn names(&self, host: &str) -> Vec<String> {
        if host.contains('.') || self.search.is_empty() {
            return vec![host.to_owned()];
        }
        let within = |domain: &String| format!("{host}.{domain}");
        self.search.iter().map(within).collect()
    }
}

/// What one file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFile {
    /// Who may answer questions for names, stubs on this machine included.
    pub nameservers: Vec<NameServer>,
    /// Domains that a name without a dot is looked for in.
    pub search: Vec<String>,
    /// Whether these are, or may be, asked over TLS.
    pub dns_over_tls: bool,
    /// Time servers by name or address.
    pub time_servers: Vec<String>,
    /// Time servers that a daemon asks when it knows no others.
    pub fallback_time_servers: Vec<String>,
    /// Further files and folders that it names; a `*` stands for any part of the last name.
    pub includes: Vec<String>,
    /// What it asks in a way that no lifeline serves, each a sentence.
    pub unserved: Vec<String>,
}

/// The files of a source that are there, by path, each with what it says or why it cannot be read; or why none can.
pub type SourceReading = Result<Vec<(String, Result<HostFile, String>)>, String>;

/// What was read last, source by source.
#[derive(Debug, Clone, Default)]
pub struct HostSettings {
    sources: BTreeMap<&'static str, SourceMemory>,
}

#[derive(Debug, Clone, Default)]
struct SourceMemory {
    /// What is wrong with it as a whole.
    problem: Option<String>,
    files: BTreeMap<String, FileMemory>,
}

#[derive(Debug, Clone, Default)]
struct FileMemory {
    problem: Option<String>,
    said: Option<HostFile>,
}

impl HostSettings {
    /// Takes what reading a source gave.
    pub fn take(&mut self, source: &'static str, reading: SourceReading) {
        let memory = self.sources.entry(source).or_default();
        let files = match reading {
            Ok(files) => files,
            Err(why) => {
                memory.problem = Some(why);
                return;
            }
        };
        let mut before = std::mem::take(&mut memory.files);
        memory.problem = None;
        for (path, found) in files {
            let file = match found {
                Ok(said) => FileMemory {
                    problem: None,
                    said: Some(said),
                },
                Err(why) => FileMemory {
                    problem: Some(why),
                    said: before.remove(&path).and_then(|known| known.said),
                },
            };
            memory.files.insert(path, file);
        }
    }

    /// Everybody whom the host lets answer questions for names, without stubs on this machine: loopback is a lifeline of
    /// its own.
    pub fn resolvers(&self) -> Vec<Setting<IpAddr>> {
        let all = self.ranked().into_iter().map(|server| Setting {
            value: server.value.address,
            source: server.source,
        });
        bounded(all)
    }

    /// The same as they are asked.
    pub fn asked(&self) -> Resolvers {
        let mut known = BTreeSet::new();
        let all = self.ranked().into_iter().map(|server| server.value);
        let news = all.filter(|server| known.insert((server.address, server.zone.clone())));
        let stubs = |said: &HostFile| {
            let named = said.nameservers.iter().map(|server| server.address);
            named.filter(IpAddr::is_loopback).collect()
        };
        let search = self.settings(|said| said.search.clone()).into_iter();
        let search = search.filter(|domain| domain.source == OWN);
        Resolvers {
            servers: news.take(MAX_TAKEN).collect(),
            search: search.map(|domain| domain.value).collect(),
            stub: !self.settings(stubs).is_empty(),
        }
    }

    /// By which links those of them are asked that every link may have.
    pub fn links(&self) -> LinksOf {
        let mut links = LinksOf::new();
        for server in self.ranked() {
            let NameServer { address, zone, .. } = server.value;
            if is_of_a_link(&address) {
                let zone = zone.and_then(|zone| InterfaceName::new(&zone));
                links.entry(address).or_default().extend(zone);
            }
        }
        links
    }

    fn ranked(&self) -> Vec<Setting<NameServer>> {
        let mut all = self.settings(|said| said.nameservers.clone());
        all.retain(|server| !server.value.address.is_loopback());
        for server in all.iter_mut().filter(|server| server.source == OWN) {
            server.value.standing = Standing::Own;
        }
        all.arrange_by_key(|server| server.value.standing);
        all
    }

    /// Where it says that resolvers are asked over TLS.
    pub fn dns_over_tls(&self) -> bool {
        !self
            .settings(|said| said.dns_over_tls.then_some(()).into_iter().collect())
            .is_empty()
    }

    /// Its time servers; those of last resort where it names no others.
    pub fn time_servers(&self) -> Vec<Setting<String>> {
        let mut all = self.settings(|said| said.time_servers.clone());
        if all.is_empty() {
            all = self.settings(|said| said.fallback_time_servers.clone());
        }
        bounded(all)
    }

    /// What the host asks in a way that no lifeline serves, each a sentence.
    pub fn unserved(&self) -> Vec<String> {
        let told = |told: Setting<String>| format!("{}: {}", told.source, told.value);
        let all = self.settings(|said| said.unserved.clone());
        bounded(all).into_iter().map(told).collect()
    }

    /// What is wrong with which file, one sentence each; the same as long as that is so.
    pub fn problems(&self) -> Vec<String> {
        let sources = self.sources.iter();
        sources
            .flat_map(|(source, memory)| {
                let any = memory.files.values().any(|file| file.said.is_some());
                let whole = memory.problem.iter().map(move |why| problem(source, why, any));
                let files = memory.files.iter().filter_map(|(path, file)| {
                    let why = file.problem.as_ref()?;
                    Some(problem(path, why, file.said.is_some()))
                });
                whole.chain(files)
            })
            .collect()
    }

    /// What the files say of one thing, each with its path.
    fn settings<T>(&self, of: impl Fn(&HostFile) -> Vec<T>) -> Vec<Setting<T>> {
        let files = self.sources.values().flat_map(|memory| &memory.files);
        let said = files.filter_map(|(path, file)| Some((path, file.said.as_ref()?)));
        said.flat_map(|(path, said)| {
            of(said).into_iter().map(|value| Setting {
                value,
                source: path.clone(),
            })
        })
        .collect()
    }
}

fn problem(path: &str, why: &str, knows: bool) -> String {
    let rest = if knows {
        "what it said last counts"
    } else {
        "it counts for nothing"
    };
    format!("{path} is not read, {rest}: {why}")
}

/// Each once, with the first that says it; in the order that they are said in, so that no number goes before another.
fn bounded<T: Ord + Clone>(all: impl IntoIterator<Item = Setting<T>>) -> Vec<Setting<T>> {
    let mut known = BTreeSet::new();
    let news = all.into_iter().filter(|one| known.insert(one.value.clone()));
    news.take(MAX_TAKEN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDER: &str = "/etc/chrony/conf.d";
    const RESOLV: &str = "/etc/resolv.conf";

    fn servers(names: &[&str]) -> Result<HostFile, String> {
        Ok(HostFile {
            time_servers: names.iter().map(|name| (*name).to_owned()).collect(),
            ..HostFile::default()
        })
    }

    fn values<T>(settings: Vec<Setting<T>>) -> Vec<T> {
        settings.into_iter().map(|setting| setting.value).collect()
    }

    fn resolver(address: &str) -> SourceReading {
        asked(RESOLV, &[(address, Standing::Forwarded)])
    }

    fn asked(file: &str, servers: &[(&str, Standing)]) -> SourceReading {
        let server = |(address, standing): &(&str, Standing)| NameServer {
            address: address.parse().unwrap(),
            zone: None,
            standing: *standing,
        };
        let said = HostFile {
            nameservers: servers.iter().map(server).collect(),
            ..HostFile::default()
        };
        Ok(vec![(file.to_owned(), Ok(said))])
    }

    #[test]
    fn whom_the_c_library_asks_comes_first_and_no_number_pushes_it_out() {
        let mut settings = HostSettings::default();
        let many: Vec<String> = (1..=30).map(|last| format!("10.0.0.{last}")).collect();
        let leases: Vec<_> = many.iter().map(|one| (one.as_str(), Standing::Perhaps)).collect();
        settings.take("/a/leases", asked("/a/leases", &leases));
        settings.take(
            "/b/dnsmasq",
            asked("/b/dnsmasq", &[("10.0.1.1", Standing::Forwarded)]),
        );
        settings.take(RESOLV, asked(RESOLV, &[("203.0.113.9", Standing::Forwarded)]));
        let servers = settings.asked().servers;
        let first: Vec<_> = servers
            .iter()
            .take(3)
            .map(|one| (one.address.to_string(), one.standing))
            .collect();
        let expected = [
            ("203.0.113.9", Standing::Own),
            ("10.0.1.1", Standing::Forwarded),
            ("10.0.0.1", Standing::Perhaps),
        ];
        assert_eq!(
            first,
            expected.map(|(address, standing)| (address.to_owned(), standing))
        );
        assert_eq!(servers.len(), MAX_TAKEN);
        assert_eq!(settings.resolvers()[0].value.to_string(), "203.0.113.9");
        let short = Resolvers {
            search: vec!["a.example".to_owned(), "b.example".to_owned()],
            ..Resolvers::default()
        };
        assert_eq!(short.names("ntp"), ["ntp.a.example", "ntp.b.example"]);
        assert_eq!(short.names("ntp.example"), ["ntp.example"]);
    }

    fn folder(files: &[(&str, Result<HostFile, String>)]) -> SourceReading {
        let named =
            |(name, said): &(&str, Result<HostFile, String>)| (format!("{FOLDER}/{name}"), said.clone());
        Ok(files.iter().map(named).collect())
    }

    #[test]
    fn a_source_that_gives_nothing_keeps_what_it_said_and_the_others_are_fresh() {
        let mut settings = HostSettings::default();
        settings.take(RESOLV, resolver("192.0.2.53"));
        settings.take(FOLDER, folder(&[("a.conf", servers(&["a.example"]))]));
        assert_eq!(settings.problems(), [""; 0]);
        settings.take(FOLDER, Err("it does not answer".to_owned()));
        settings.take(RESOLV, resolver("192.0.2.54"));
        assert_eq!(values(settings.time_servers()), ["a.example"]);
        assert_eq!(
            settings.resolvers(),
            [Setting {
                value: "192.0.2.54".parse::<IpAddr>().unwrap(),
                source: RESOLV.to_owned(),
            }]
        );
        let told = "/etc/chrony/conf.d is not read, what it said last counts: it does not answer";
        assert_eq!(settings.problems(), [told]);
        settings.take(FOLDER, folder(&[]));
        assert!(
            settings.time_servers().is_empty(),
            "what is not there says nothing"
        );
        assert_eq!(settings.problems(), [""; 0]);
    }

    #[test]
    fn one_file_of_a_folder_that_turns_unreadable_keeps_its_own_last_word() {
        let mut settings = HostSettings::default();
        let pipe = || Err("it is not a regular file".to_owned());
        settings.take(
            FOLDER,
            folder(&[
                ("a.conf", servers(&["a.example"])),
                ("b.conf", servers(&["b.example"])),
            ]),
        );
        settings.take(
            FOLDER,
            folder(&[
                ("a.conf", pipe()),
                ("b.conf", servers(&["c.example"])),
                ("d.conf", pipe()),
            ]),
        );
        assert_eq!(values(settings.time_servers()), ["a.example", "c.example"]);
        let told = settings.problems();
        assert!(told[0].starts_with("/etc/chrony/conf.d/a.conf is not read, what it said last"));
        assert!(told[1].starts_with("/etc/chrony/conf.d/d.conf is not read, it counts for nothing"));
    }

    #[test]
    fn what_is_taken_is_bounded_and_a_stub_is_no_resolver() {
        let mut settings = HostSettings::default();
        let names: Vec<String> = (0..40).map(|n| format!("{n}.example")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        settings.take(FOLDER, folder(&[("a.conf", servers(&names))]));
        assert_eq!(settings.time_servers().len(), MAX_TAKEN);
        assert!(!settings.asked().stub);
        settings.take(RESOLV, resolver("127.0.0.53"));
        assert!(settings.resolvers().is_empty() && settings.asked().stub);
    }
}
