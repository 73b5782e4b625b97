//! Whom the host is configured to talk to, as its files said last.
//!
//! In: what each source gave when it was read, or why it gave nothing. Out: resolvers and time servers, and what is wrong
//! with which source. Pure: the files are read by `host::surroundings`.
//! Invariants: a source that cannot be read keeps what it said last, file by file, and touches no other; a file that is
//! not there says nothing. Whoever owns the files can only name whom isolation spares, and so much of that.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Name servers and time servers taken, of each; glibc itself uses three resolvers.
const MAX_TAKEN: usize = 16;

/// What one file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFile {
    /// Who may answer questions for names, stubs on this machine included.
    pub nameservers: Vec<IpAddr>,
    /// Time servers by name or address.
    pub time_servers: Vec<String>,
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

    /// Everybody whom the host lets answer questions for names.
    pub fn nameservers(&self) -> Vec<IpAddr> {
        bounded(self.said().flat_map(|said| said.nameservers.iter().copied()))
    }

    /// The same without stubs on this machine: loopback is a lifeline of its own.
    pub fn resolvers(&self) -> Vec<IpAddr> {
        let mut all = self.nameservers();
        all.retain(|address| !address.is_loopback());
        all
    }

    /// Its time servers.
    pub fn time_servers(&self) -> Vec<String> {
        bounded(self.said().flat_map(|said| said.time_servers.iter().cloned()))
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

    fn said(&self) -> impl Iterator<Item = &HostFile> {
        let files = self.sources.values().flat_map(|memory| memory.files.values());
        files.filter_map(|file| file.said.as_ref())
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

fn bounded<T: Ord>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = all.collect();
    all.sort_unstable();
    all.dedup();
    all.truncate(MAX_TAKEN);
    all
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

    fn resolver(address: &str) -> SourceReading {
        let nameservers = vec![address.parse().unwrap()];
        let said = HostFile {
            nameservers,
            ..HostFile::default()
        };
        Ok(vec![(RESOLV.to_owned(), Ok(said))])
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
        assert_eq!(settings.time_servers(), ["a.example"]);
        assert_eq!(settings.nameservers(), ["192.0.2.54".parse::<IpAddr>().unwrap()]);
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
        assert_eq!(settings.time_servers(), ["a.example", "c.example"]);
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
        settings.take(RESOLV, resolver("127.0.0.53"));
        assert_eq!((settings.nameservers().len(), settings.resolvers().len()), (1, 0));
    }
}
