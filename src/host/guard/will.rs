//! What an agent leaves to the guard: how to start another one in its place, and whether one is to be there.
//!
//! In: the environment that the nucleus gave. Out: a file for root alone. It holds the nucleus' token, which is why it lies
//! beside the control socket: what is there is gone after a boot, as the token is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::GuardPlaces;
use crate::Gather;
use crate::host::files::{self, FileError};

/// Everything that an agent reads of its environment, and what its allocator does.
const NAMES: [&str; 11] = [
    "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT",
    "AWS_IOT_THING_NAME",
    "AWS_REGION",
    "EDGEWARDEN_DEVELOPMENT",
    "EDGEWARDEN_GUARD",
    "EDGEWARDEN_LOG",
    "EDGEWARDEN_TURNS",
    "MALLOC_ARENA_MAX",
    "MALLOC_MMAP_MAX_",
    "PATH",
    "SVCUID",
];

/// What is left to the guard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Will {
    pub(super) environment: BTreeMap<String, String>,
    /// The nucleus may name its socket by a path from here.
    pub(super) directory: Option<PathBuf>,
    /// Whether an agent is to be there. Written first of all, so that an agent that dies is followed by another.
    wanted: bool,
}

impl Will {
    /// Of an agent with this environment, which works in `directory`.
    pub(crate) fn new(lookup: impl Fn(&str) -> Option<String>, directory: Option<PathBuf>) -> Self {
        let named = NAMES.into_iter();
        let environment = named.filter_map(|name| Some((name.to_owned(), lookup(name)?)));
        Self {
            environment: environment.in_map(),
            directory,
            wanted: true,
        }
    }

    /// Nobody has left anything: after a boot, before a nucleus has started an agent.
    pub(super) fn unknown() -> Self {
        Self::new(|_| None, None)
    }

    /// The same, of one that needs no successor: it was told to stop while nothing was ordered.
    pub(crate) fn resting(self) -> Self {
        Self {
            wanted: false,
            ..self
        }
    }

    pub(super) const fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Leaves it behind. Blocks.
    ///
    /// # Errors
    /// [`FileError`].
    pub(crate) fn leave(&self, places: &GuardPlaces) -> Result<(), FileError> {
        let path = places.will();
        if let Some(directory) = path.parent() {
            files::make_directory(directory)?;
        }
        files::replace_in_memory(&path, &serde_json::to_vec(self).unwrap_or_default())
    }

    /// What was left; none when nothing was, or it cannot be read.
    pub(super) fn read(places: &GuardPlaces) -> Option<Self> {
        let bytes = files::read(&places.will()).ok().flatten()?;
        serde_json::from_slice(&bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_agent_reads_is_kept_and_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let places = GuardPlaces::new(folder.path(), &folder.path().join("run/control.sock"));
        assert_eq!(Will::read(&places), None);
        let will = Will::new(|name| Some(format!("value of {name}")), Some("/work".into()));
        assert!(will.environment.contains_key("SVCUID"));
        will.leave(&places).unwrap();
        assert_eq!(Will::read(&places).as_ref(), Some(&will));
        let mode = places.will().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let resting = will.resting();
        resting.leave(&places).unwrap();
        assert!(!Will::read(&places).unwrap().is_wanted());
        assert!(Will::unknown().is_wanted() && Will::unknown().environment.is_empty());
    }
}
