//! What outlives the component: a copy of this program in the state directory, which the operator runs, and a systemd unit
//! that runs its `restore` at boot, before the network, whether or not Greengrass ever starts.
//!
//! In: the state directory, and for tests and images another root directory. Out: files that are there or gone.
//! Everything can be repeated: what is as it should be is not written again. The unit is enabled by the link that
//! `systemctl enable` would make, so that it is the same with and without a running systemd. What systemd itself does
//! with it is [`systemctl`](super::systemctl)'s part.

#![expect(
    clippy::disallowed_methods,
    reason = "host is a door: the program and the links of systemd"
)]

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};

use super::copies;
use super::unit::{self, BOOTED, UNITS, Unit};
use crate::host::files::{self, FileError};
use crate::host::files::{state_directory, volatile};

/// Name of the copy of this program; the artifact's folder may be gone, or not mounted at boot, and the copy that runs
/// changes its place with each version.
const PROGRAM: &str = "edgewarden";
/// This program, even when its file was removed.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// Bytes that are compared at a time.
const CHUNK: usize = 64 * 1024;

/// What could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootServiceError {
    /// The unit could not name it.
    #[error(
        "the state directory {path:?} cannot be named in a unit: expected an absolute path of letters, digits and / . _ - + @"
    )]
    Path { path: PathBuf },
    /// Nothing can be started from there.
    #[error(
        "{path} is on a file system without programs (noexec): restoring before the network needs a --state-dir elsewhere"
    )]
    NoExec {
        /// The state directory.
        path: PathBuf,
    },
    /// A file of ours.
    #[error(transparent)]
    File(#[from] FileError),
    /// This program, or the copy of it.
    #[error("could not compare this program with {path}")]
    Compare {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The link that enables the unit, or a directory of systemd.
    #[error("could not {action} {path}")]
    Link {
        /// What was tried.
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// What [`BootServicePaths::install`] found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InstallOutcome {
    /// systemd does not run here, so there is nothing that would start a unit.
    NoSystemd,
    /// The administrator masked the unit.
    Masked,
    /// The unit is in place.
    Ready {
        /// Something had to be written.
        changed: bool,
    },
}

/// Where everything is.
#[derive(Debug, Clone)]
pub(crate) struct BootServicePaths {
    /// Stands before every path; nothing of the running system is touched then.
    root: Option<PathBuf>,
    state: PathBuf,
}

impl BootServicePaths {
    /// The state directory's place, as `run` is told it; below `root` if given.
    pub(crate) fn new(root: Option<PathBuf>, state: PathBuf) -> Self {
        Self { root, state }
    }

    /// The state directory, where it really is.
    pub(crate) fn state(&self) -> PathBuf {
        self.real(&self.state)
    }

    pub(crate) fn unit(&self, unit: Unit) -> PathBuf {
        self.real(&Path::new(UNITS).join(unit.name))
    }

    /// Whether systemd runs here, so that it must be told of changes.
    pub(crate) fn is_live(&self) -> bool {
        self.root.is_none() && self.has_systemd()
    }

    /// That the state directory lies where a restart of the machine forgets it, in a sentence. An image may be made anywhere.
    pub(crate) fn forgets(&self) -> Option<String> {
        self.root.is_none().then(|| volatile::told(&self.state)).flatten()
    }

    /// Makes the state directory and the copy of this program and, where systemd runs, the enabled unit; removes copies of
    /// versions that nobody goes back to.
    ///
    /// # Errors
    /// The first thing that could not be done; all that was there before still is.
    pub(crate) fn install(&self) -> Result<InstallOutcome, BootServiceError> {
        let state = self.state();
        state_directory::prepare(&state)?;
        let kept = copies::keep(&state, &fs::read_link(OWN_PROGRAM).unwrap_or_default());
        let outcome = self.install_service(&state)?;
        // An old copy that cannot be removed is in nobody's way.
        kept?;
        Ok(outcome)
    }

    /// The copy of this program and, where systemd runs, the enabled unit.
    fn install_service(&self, state: &Path) -> Result<InstallOutcome, BootServiceError> {
        let is_noexec = statvfs(state).is_ok_and(|found| found.flags().contains(FsFlags::ST_NOEXEC));
        let mut changed = !is_noexec && copy_program(&state.join(PROGRAM))?;
        if !self.has_systemd() {
            return Ok(InstallOutcome::NoSystemd);
        }
        let place = self.state_in_a_unit()?;
        let is_masked =
            |unit| fs::read_link(self.unit(unit)).is_ok_and(|target| target == Path::new("/dev/null"));
        if is_masked(unit::RESTORE) {
            return Ok(InstallOutcome::Masked);
        }
        if is_noexec {
            let path = state.to_owned();
            return Err(BootServiceError::NoExec { path });
        }
        for unit in unit::ALL.into_iter().filter(|unit| !is_masked(*unit)) {
            changed |= write_unit(&self.unit(unit), &(unit.text)(place))?;
            changed |= link(&self.wanted(unit), unit)?;
        }
        Ok(InstallOutcome::Ready { changed })
    }

    /// Removes the unit, its link and the copies of the program; gives whether systemd's files changed. A mask of the
    /// administrator stays.
    ///
    /// # Errors
    /// Everything that could not be removed.
    pub(crate) fn remove(&self) -> Result<bool, Vec<BootServiceError>> {
        let is_there = |path: &Path| path.symlink_metadata().is_ok();
        let program = self.state().join(PROGRAM);
        let (mut changed, mut paths) = (false, Vec::new());
        for unit in unit::ALL {
            let (wanted, unit) = (self.wanted(unit), self.unit(unit));
            let masked = fs::read_link(&unit).is_ok();
            changed |= is_there(&wanted) || (is_there(&unit) && !masked);
            paths.extend([files::temporary(&wanted), wanted, files::temporary(&unit)]);
            paths.extend((!masked).then_some(unit));
        }
        // Behind a link there are somebody else's files.
        let stranger = state_directory::check(&self.state()).err();
        if stranger.is_none() {
            paths.extend([files::temporary(&program), program]);
        }
        let failures = paths.iter().filter_map(|path| files::remove(path).err());
        let copies = match &stranger {
            None => copies::remove(&self.state()).err().unwrap_or_default(),
            Some(_) => Vec::new(),
        };
        let failures = stranger
            .into_iter()
            .chain(failures.collect::<Vec<_>>())
            .chain(copies);
        let failures: Vec<BootServiceError> = failures.map(Into::into).collect();
        if !failures.is_empty() {
            return Err(failures);
        }
        for wanted in unit::ALL.map(|unit| self.wanted(unit)) {
            if let Some(directory) = wanted.parent().filter(|_| changed) {
                // Ours if it is empty now; with other units in it, theirs.
                let _in_use = files::remove_directory(directory);
            }
        }
        Ok(changed)
    }

    fn wanted(&self, unit: Unit) -> PathBuf {
        let directory = format!("{}.wants", unit.wanted_by);
        self.real(&Path::new(UNITS).join(directory).join(unit.name))
    }

    fn state_in_a_unit(&self) -> Result<&str, BootServiceError> {
        let state = self.state.to_str().filter(|path| unit::is_plain(path));
        state.ok_or_else(|| BootServiceError::Path {
            path: self.state.clone(),
        })
    }

    fn has_systemd(&self) -> bool {
        self.real(Path::new(BOOTED)).is_dir()
    }

    fn real(&self, path: &Path) -> PathBuf {
        match &self.root {
            Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_owned(),
        }
    }
}

/// Puts this program there, for its owner alone; gives whether it was another one.
fn copy_program(path: &Path) -> Result<bool, BootServiceError> {
    let failed = |source| BootServiceError::Compare {
        path: path.to_owned(),
        source,
    };
    let own = File::open(OWN_PROGRAM).map_err(failed)?;
    if let Some(copy) = files::open_as_written(path, 0o700)?
        && is_same(&own, &copy).map_err(failed)?
    {
        return Ok(false);
    }
    files::replace_with(path, 0o700, |copy| {
        // Not the handle that was compared: that one is somewhere in the middle.
        io::copy(&mut File::open(OWN_PROGRAM)?, copy).map(drop)
    })?;
    Ok(true)
}

/// Whether both have the same content.
fn is_same(own: &File, copy: &File) -> io::Result<bool> {
    if own.metadata()?.len() != copy.metadata()?.len() {
        return Ok(false);
    }
    let (mut one, mut other) = (Vec::with_capacity(CHUNK), Vec::with_capacity(CHUNK));
    loop {
        one.clear();
        other.clear();
        own.take(CHUNK as u64).read_to_end(&mut one)?;
        copy.take(CHUNK as u64).read_to_end(&mut other)?;
        if one != other {
            return Ok(false);
        }
        if one.is_empty() {
            return Ok(true);
        }
    }
}

fn write_unit(path: &Path, text: &str) -> Result<bool, BootServiceError> {
    let is_same = |found: File| {
        let mut content = Vec::with_capacity(text.len());
        // One byte more than there should be shows whatever follows.
        let read = found.take(text.len() as u64 + 1).read_to_end(&mut content);
        read.is_ok() && content == text.as_bytes()
    };
    // What cannot be read is written anew.
    if files::open_as_written(path, 0o644).is_ok_and(|found| found.is_some_and(is_same)) {
        return Ok(false);
    }
    make_unit_directory(path)?;
    files::replace_with(path, 0o644, |file| io::Write::write_all(file, text.as_bytes()))?;
    Ok(true)
}

/// Enables the unit; gives whether it was not.
fn link(path: &Path, unit: Unit) -> Result<bool, BootServiceError> {
    let target = Path::new("..").join(unit.name);
    make_unit_directory(path)?;
    // Whoever can change the directory can disable the unit.
    state_directory::check(path.parent().unwrap_or(path))?;
    let is_ours = state_directory::check_link(path).is_ok();
    if is_ours && fs::read_link(path).is_ok_and(|found| found == target) {
        return Ok(false);
    }
    let temporary = files::temporary(path);
    files::remove(&temporary)?;
    symlink(&target, &temporary)
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|source| BootServiceError::Link {
            action: "make the link",
            path: path.to_owned(),
            source,
        })?;
    Ok(true)
}

/// As systemd makes it: everybody may look into it.
fn make_unit_directory(path: &Path) -> Result<(), BootServiceError> {
    let Some(directory) = path.parent() else {
        return Ok(());
    };
    fs::create_dir_all(directory).map_err(|source| BootServiceError::Link {
        action: "make the directory",
        path: directory.to_owned(),
        source,
    })
}
