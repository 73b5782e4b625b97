//! The attackers' programs: built with the C compiler that Rust links with, run without privilege.
//!
//! In: a program's source, whose rights it has, its words. Out: the JSON object that it prints last.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use edgewarden_lab::site::{Ns, Running, Site, SpawnSpec};
use serde_json::Value;

use crate::AttackError;

/// An attacker's program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    name: &'static str,
    source: &'static str,
}

/// Frames past the IP stack, with a header that asks for segmentation or without.
pub(crate) const FRAMES: Tool = Tool {
    name: "frames",
    source: include_str!("../programs/frames.c"),
};
/// A TCP connection, bound to an interface or not, that sends as much as goes.
pub(crate) const STREAM: Tool = Tool {
    name: "stream",
    source: include_str!("../programs/stream.c"),
};
/// Frames through an `AF_XDP` socket.
pub(crate) const XDP: Tool = Tool {
    name: "xdp",
    source: include_str!("../programs/xdp.c"),
};
/// Continues its child whenever somebody stops it.
pub(crate) const CONTINUES: Tool = Tool {
    name: "continues",
    source: include_str!("../programs/continues.c"),
};

/// Whose rights an attacker has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rights {
    /// An ordinary user.
    User,
    /// One who may open raw and packet sockets.
    NetRaw,
}

/// The user who owns nothing.
const NOBODY: &str = "65534";

impl Rights {
    /// What `setpriv` is told before the program's name.
    pub(crate) fn words(self) -> Vec<String> {
        let mut words: Vec<String> = ["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]
            .map(str::to_owned)
            .into();
        words.extend(match self {
            Self::User => ["--inh-caps=-all", "--bounding-set=-all"]
                .map(str::to_owned)
                .to_vec(),
            Self::NetRaw => {
                let kinds = ["--inh-caps", "--ambient-caps", "--bounding-set"];
                kinds.map(|kind| format!("{kind}=-all,+net_raw")).to_vec()
            }
        });
        words
    }
}

impl Tool {
    /// Builds it in the site's folder, once.
    pub(crate) fn built(self, site: &Site) -> Result<PathBuf, AttackError> {
        let program = site.directory().join(format!("attack-{}", self.name));
        if program.exists() {
            return Ok(program);
        }
        let source = program.with_extension("c");
        std::fs::write(&source, self.source).map_err(|source| AttackError::Io {
            what: "write an attacker's source",
            source,
        })?;
        let built = Command::new("cc")
            .args(["-O1", "-o"])
            .args([&program, &source])
            .output();
        let built = built.map_err(|source| AttackError::Io {
            what: "run the C compiler cc",
            source,
        })?;
        if !built.status.success() {
            return Err(self.failed("build", &built.stderr));
        }
        Ok(program)
    }

    fn failed(self, what: &'static str, output: &[u8]) -> AttackError {
        AttackError::Tool {
            what,
            program: self.name,
            output: String::from_utf8_lossy(output).into_owned(),
        }
    }

    /// Runs it to its end in the gateway; what it printed, null when nothing.
    pub(crate) fn run(self, site: &Site, rights: Rights, words: &[&str]) -> Result<Value, AttackError> {
        let program = self.built(site)?;
        let run = || {
            Command::new("setpriv")
                .args(rights.words())
                .arg(program)
                .args(words)
                .stdin(Stdio::null())
                .output()
        };
        let output = site.run_in(Ns::Gateway, run)?;
        let output = output.map_err(|source| AttackError::Io {
            what: "run setpriv",
            source,
        })?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let last = text.lines().last().unwrap_or_default();
        Ok(serde_json::from_str(last).unwrap_or_default())
    }

    /// Starts it in the gateway.
    pub(crate) fn start(self, site: &Site, rights: Rights, words: &[&str]) -> Result<Running, AttackError> {
        let program = self.built(site)?;
        start(site, rights, program, words)
    }
}

/// Starts any program in the gateway.
pub(crate) fn start(
    site: &Site,
    rights: Rights,
    program: PathBuf,
    words: &[&str],
) -> Result<Running, AttackError> {
    let mut spec = SpawnSpec::new("setpriv", site.directory().join("attackers.log"));
    spec.args = rights.words().into_iter().map(Into::into).collect();
    spec.args.push(program.into());
    spec.args.extend(words.iter().map(Into::into));
    Ok(site.spawn_with(Ns::Gateway, spec)?)
}
