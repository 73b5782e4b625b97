//! The programs that are compared, and how each is started on an interface.

use std::path::PathBuf;

use edgewarden_lab::site::{Ns, Running, Site, SpawnSpec};
use xtask::packages::{BANDWHICH, BENCH_PACKAGES};
use xtask::setup;

use crate::error::BenchError;
use crate::machine;

/// A program that captures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The least that counting by flow can cost.
    Floor,
    /// `edgewarden run`, without a cloud.
    Agent,
    Nethogs,
    Bandwhich,
}

/// Who is measured.
pub(crate) fn all(peers: bool) -> &'static [Subject] {
    let all = &[
        Subject::Floor,
        Subject::Agent,
        Subject::Nethogs,
        Subject::Bandwhich,
    ];
    if peers { all } else { &all[..2] }
}

/// Where the programs are.
pub(crate) struct Programs {
    bandwhich: Option<PathBuf>,
}

impl Programs {
    /// With those of others, if they are wanted: a Debian package, and one that cargo builds (some minutes, once).
    pub(crate) fn new(peers: bool) -> Result<Self, BenchError> {
        if peers {
            setup::ensure(BENCH_PACKAGES)?;
        }
        let bandwhich = peers.then(|| setup::ensure_tool(&BANDWHICH)).transpose()?;
        Ok(Self { bandwhich })
    }

    pub(crate) fn path(&self, subject: Subject) -> PathBuf {
        match subject {
            Subject::Floor => machine::release("examples/floor"),
            Subject::Agent => machine::release("edgewarden"),
            Subject::Nethogs => PathBuf::from("/usr/sbin/nethogs"),
            Subject::Bandwhich => self.bandwhich.clone().unwrap_or_default(),
        }
    }
}

impl Subject {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Agent => "edgewarden",
            Self::Nethogs => "nethogs",
            Self::Bandwhich => "bandwhich",
        }
    }

    /// Starts it in the gateway. Interfaces are named where the program cannot find them by itself.
    pub(crate) fn start(
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
