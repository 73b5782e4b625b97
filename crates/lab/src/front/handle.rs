//! The running relay, for tests: changes of the way as calls.
//!
//! In: a started program and its control socket. Out: each call returns when the change is in force.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::Change;
use crate::site::{Ns, Running, Site, SiteError, SpawnSpec};

/// How long the relay may take to begin and to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer read.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// A change did not come into force.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// Nobody serves the socket.
    #[error("the relay does not answer at {socket}")]
    Silent {
        /// Its control socket.
        socket: PathBuf,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
    /// The relay says why.
    #[error("the relay refused {change}: {answer}")]
    Refused {
        /// What was asked for.
        change: String,
        /// Its answer.
        answer: String,
    },
}

/// A relay in a namespace; ends when dropped.
#[derive(Debug)]
pub struct Front {
    /// The program, with its events.
    pub running: Running,
    control: PathBuf,
}

impl Front {
    /// Starts `edgewarden-lab front` in `ns` and waits until it listens; `name` makes its files its own.
    ///
    /// # Errors
    /// When it does not listen in time.
    pub fn start(
        site: &Site,
        ns: Ns,
        lab: &Path,
        name: &str,
        (listen, to): (SocketAddr, SocketAddr),
    ) -> Result<Self, SiteError> {
        let control = site.directory().join(format!("{name}.sock"));
        let mut spec = SpawnSpec::new(lab, site.directory().join(format!("{name}.log")));
        let (listen, to) = (listen.to_string(), to.to_string());
        spec.args = ["front", "--listen", &listen, "--to", &to, "--control"]
            .iter()
            .map(Into::into)
            .collect();
        spec.args.push(control.clone().into());
        let mut running = site.spawn_with(ns, spec)?;
        running.wait_event(PATIENCE, |event| event["event"] == "listening")?;
        Ok(Self { running, control })
    }

    /// Makes what is sent either way take this long: half of a round trip.
    ///
    /// # Errors
    /// When the relay does not answer.
    pub fn delay(&self, one_way: Duration) -> Result<(), FrontError> {
        let millis = u64::try_from(one_way.as_millis()).unwrap_or(u64::MAX);
        self.change(&Change {
            delay_millis: Some(millis),
            ..Change::default()
        })
    }

    /// Holds everything back while connections stay open, or lets it go.
    ///
    /// # Errors
    /// As [`Front::delay`].
    pub fn black_hole(&self, on: bool) -> Result<(), FrontError> {
        self.change(&Change {
            black_hole: Some(on),
            ..Change::default()
        })
    }

    /// Refuses connections, or takes them again. Open ones stay.
    ///
    /// # Errors
    /// As [`Front::delay`].
    pub fn refuse(&self, on: bool) -> Result<(), FrontError> {
        self.change(&Change {
            refuse: Some(on),
            ..Change::default()
        })
    }

    /// Ends every connection there is.
    ///
    /// # Errors
    /// As [`Front::delay`].
    pub fn cut(&self) -> Result<(), FrontError> {
        self.change(&Change {
            cut: true,
            ..Change::default()
        })
    }

    /// The next message of these topics, an MQTT filter, does not come to the client.
    ///
    /// # Errors
    /// As [`Front::delay`].
    pub fn lose(&self, topics: &str) -> Result<(), FrontError> {
        self.change(&Change {
            lose: Some(topics.to_owned()),
            ..Change::default()
        })
    }

    /// The topics (MQTT filters) whose publish ends the connection; replaces the list before.
    ///
    /// # Errors
    /// As [`Front::delay`].
    pub fn deny<'a>(&self, topics: impl IntoIterator<Item = &'a str>) -> Result<(), FrontError> {
        self.change(&Change {
            deny: Some(topics.into_iter().map(str::to_owned).collect()),
            ..Change::default()
        })
    }

    /// Makes a change and waits until it is in force.
    ///
    /// # Errors
    /// As [`Front::delay`].
    pub fn change(&self, change: &Change) -> Result<(), FrontError> {
        let silent = |source| FrontError::Silent {
            socket: self.control.clone(),
            source,
        };
        let text = serde_json::to_string(change).map_err(|error| silent(error.into()))?;
        let mut answer = String::new();
        let asked = UnixStream::connect(&self.control).and_then(|mut stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(format!("{text}\n").as_bytes())?;
            BufReader::new(stream.take(MAX_ANSWER_BYTES)).read_line(&mut answer)
        });
        asked.map_err(silent)?;
        let told: Value = serde_json::from_str(&answer).unwrap_or_default();
        if told["ok"] == true {
            return Ok(());
        }
        Err(FrontError::Refused {
            change: text,
            answer: answer.trim().to_owned(),
        })
    }

    /// The events of one kind so far.
    #[must_use]
    pub fn told(&self, event: &str) -> Vec<Value> {
        let mut events = self.running.events();
        events.retain(|line| line["event"] == event);
        events
    }
}
