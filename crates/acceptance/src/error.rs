//! Why the acceptance could not go on. That the agent did not do what it should is no error but a row of the table.

use std::io;
use std::path::PathBuf;

use edgewarden_lab::front::FrontError;
use edgewarden_lab::site::SiteError;
use xtask::failure::Failure;

use crate::bed::Kind;

/// What stopped a run or a scenario.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// A step of the preparation failed.
    #[error(transparent)]
    Step(#[from] Failure),
    /// The lab.
    #[error("the lab failed")]
    Lab {
        #[source]
        source: Box<SiteError>,
    },
    /// The relay before the broker.
    #[error("the way to the broker could not be changed")]
    Front(#[from] FrontError),
    /// A nucleus is wanted of which no folder was given.
    #[error(
        "--on names a nucleus ({kind:?}) whose folder is not given; --classic or --lite says where it is"
    )]
    NoFolder { kind: Kind },
    /// The folder of the nucleus is not what it should be.
    #[error("{folder} holds no classic nucleus: {missing} is missing. CONTRIBUTING.md says where one comes from", folder = folder.display())]
    NoNucleus { folder: PathBuf, missing: &'static str },
    /// Lite, or what it needs of this machine, is not what it should be.
    #[error("nucleus lite of {folder} cannot be run: {missing}. CONTRIBUTING.md says where one comes from", folder = folder.display())]
    NoLite { folder: PathBuf, missing: String },
    /// A file or process.
    #[error("could not {action}")]
    Io {
        action: String,
        #[source]
        source: io::Error,
    },
    /// The nucleus' local interface.
    #[error("the nucleus did not do {operation}: {answer}")]
    Nucleus { operation: String, answer: String },
    /// Something that every scenario needs did not come about.
    #[error("{what}: not within {seconds} s")]
    Late { what: String, seconds: u64 },
}

impl From<SiteError> for Trouble {
    fn from(source: SiteError) -> Self {
        Self::Lab {
            source: Box::new(source),
        }
    }
}

/// For `map_err`: what was tried.
pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Trouble {
    let action = action.into();
    |source| Trouble::Io { action, source }
}
