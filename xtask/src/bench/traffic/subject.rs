//! The programs that are compared, and how each is started on an interface.

use std::path::PathBuf;
use std::process::Command;

use edgewarden_lab::site::{Ns, Running, Site, SpawnSpec};

use super::super::error::BenchError;
use super::super::machine;
use crate::packages::BENCH_PACKAGES;
use crate::setup;

/// The version of bandwhich that is built; Debian has none.
const BANDWHICH: &str = "0.23.1";

/// A program that captures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// The least that counting by flow can cost.
    Floor,
    /// `edgewarden run`, without a cloud.
    Agent,
    Nethogs,
    Bandwhich,
}

/// Who is measured.
pub(super) fn all(peers: bool) -> &'static [Subject] {
    let all = &[
        Subject::Floor,
        Subject::Agent,
        Subject::Nethogs,
        Subject::Bandwhich,
    ];
    if peers { all } else { &all[..2] }
}

/// Where the programs are.
pub(super) struct Programs {
    release: PathBuf,
    peers: PathBuf,
}

impl Programs {
    pub(super) fn new() -> Self {
        let target = machine::target();
        Self {
            release: target.join("release"),
            peers: target.join("bench-peers"),
        }
    }

    /// Gets the programs of others: a Debian package, and one that cargo builds (some minutes, once).
    pub(super) fn install_peers(&self) -> Result<(), BenchError> {
        setup::ensure(BENCH_PACKAGES).map_err(|failure| BenchError::Content {
            subject: "the packages of the bench".to_owned(),
            fault: edgewarden_lab::error_text(&failure),
        })?;
        if self.path(Subject::Bandwhich).is_file() {
            return Ok(());
        }
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args([
            "install",
            "bandwhich",
            "--locked",
            "--version",
            BANDWHICH,
            "--root",
        ]);
        command
            .arg(&self.peers)
            .arg("--target-dir")
            .arg(self.peers.join("build"));
        machine::prepare(&mut command)
    }

    pub(super) fn lab(&self) -> PathBuf {
        self.release.join("edgewarden-lab")
    }

    pub(super) fn path(&self, subject: Subject) -> PathBuf {
        match subject {
            Subject::Floor => self.release.join("examples/floor"),
            Subject::Agent => self.release.join("edgewarden"),
            Subject::Nethogs => PathBuf::from("/usr/sbin/nethogs"),
            Subject::Bandwhich => self.peers.join("bin/bandwhich"),
        }
    }
}

impl Subject {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Agent => "edgewarden",
            Self::Nethogs => "nethogs",
            Self::Bandwhich => "bandwhich",
        }
    }

    /// Starts it in the gateway. Interfaces are named where the program cannot find them by itself.
    pub(super) fn start(
        self,
        site: &Site,
        programs: &Programs,
        interfaces: &[&str],
    ) -> Result<Running, BenchError> {
        let folder = site.directory();
        // Each start writes to a log of its own: some programs tell their sums there.
        let number = std::fs::read_dir(folder).map_or(0, Iterator::count);
        let log = folder.join(format!("{}.{number}.log", self.name()));
        let mut spec = SpawnSpec::new(programs.path(self), log);
        let socket = folder.join("control.sock");
        let state = folder.join("state");
        let fixed: Vec<&str> = match self {
            Self::Floor => Vec::new(),
            Self::Agent => vec!["run"],
            // UDP too; sums in bytes, each second, as text.
            Self::Nethogs => vec!["-C", "-t", "-v", "2", "-d", "1"],
            Self::Bandwhich => vec!["--raw", "--no-resolve"],
        };
        spec.args = fixed.into_iter().map(Into::into).collect();
        match self {
            Self::Floor | Self::Nethogs => spec.args.extend(interfaces.iter().map(Into::into)),
            Self::Agent => spec.args.extend([
                "--state-dir".into(),
                state.into(),
                "--control-socket".into(),
                socket.into(),
            ]),
            Self::Bandwhich => {
                if let [interface] = interfaces {
                    spec.args.extend(["--interface".into(), interface.into()]);
                }
            }
        }
        Ok(site.spawn_with(Ns::Gateway, spec)?)
    }
}
