//! The nucleus' own store of artifacts: `<root>/packages/artifacts/<component>/<version>/`.
//!
//! In: a version's files as a deployment brings them. Out: the folder that `{artifacts:path}` is. The classic nucleus removes
//! a file and makes it anew, so a program that runs from there goes on as "(deleted)"; it gives the files to the user of all
//! components, whose folder it is not. Lite copies over what is there (`cp -RP`), which the kernel refuses for a running
//! program. Both keep the version that runs and the one before it.
//! Deliberately absent: downloads, archives, digests of the service.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Gid, Uid, chown};

use super::personality::Personality;

/// What both nuclei make of `Read: OWNER, Execute: OWNER`.
const PROGRAM: u32 = 0o550;

/// The artifacts of one component.
pub(super) struct Store {
    folder: PathBuf,
    personality: Personality,
    /// The user of all components.
    owner: Option<u32>,
}

impl Store {
    pub(super) fn new(root: &Path, component: &str, personality: Personality, owner: Option<u32>) -> Self {
        Self {
            folder: root.join("packages/artifacts").join(component),
            personality,
            owner,
        }
    }

    /// A version's folder.
    pub(super) fn version(&self, version: &str) -> PathBuf {
        self.folder.join(version)
    }

    /// Puts a version's files there.
    ///
    /// # Errors
    /// When one cannot be written: on lite that of a running program among them.
    pub(super) fn put(&self, version: &str, from: &Path) -> io::Result<()> {
        let folder = self.version(version);
        fs::create_dir_all(&folder)?;
        if self.personality.is_lite() {
            let output = Command::new("cp")
                .arg("-RP")
                .arg(from.join("."))
                .arg(&folder)
                .output()?;
            if !output.status.success() {
                return Err(io::Error::other(
                    String::from_utf8_lossy(&output.stderr).into_owned(),
                ));
            }
        }
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let file = folder.join(entry.file_name());
            if !self.personality.is_lite() {
                let _first_time = fs::remove_file(&file);
                fs::copy(entry.path(), &file)?;
            }
            fs::set_permissions(&file, fs::Permissions::from_mode(PROGRAM))?;
            if let Some(owner) = self.owner {
                chown(&file, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))?;
            }
        }
        Ok(())
    }

    /// Removes every version but these.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub(super) fn keep(&self, versions: &[&str]) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if !versions.iter().any(|kept| entry.file_name() == *kept) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_running_program_is_replaced_on_classic_and_refused_on_lite() {
        let place = tempfile::tempdir().unwrap();
        let from = place.path().join("from");
        fs::create_dir(&from).unwrap();
        fs::copy("/bin/sleep", from.join("program")).unwrap();
        for personality in [Personality::Classic, Personality::Lite] {
            let root = place.path().join(personality.name());
            let store = Store::new(&root, "component", personality, None);
            store.put("1.0.0", &from).unwrap();
            let program = store.version("1.0.0").join("program");
            assert_eq!(
                fs::metadata(&program).unwrap().permissions().mode() & 0o7777,
                PROGRAM
            );
            let mut running = Command::new(&program).arg("60").spawn().unwrap();
            let again = store.put("1.0.0", &from);
            let here = fs::read_link(format!("/proc/{}/exe", running.id())).unwrap();
            running.kill().unwrap();
            running.wait().unwrap();
            if personality.is_lite() {
                let error = again.unwrap_err().to_string();
                assert!(error.contains("Text file busy"), "{error}");
                assert_eq!(here, program);
            } else {
                again.unwrap();
                assert!(here.to_string_lossy().ends_with(" (deleted)"), "{here:?}");
            }
        }
    }

    #[test]
    fn versions_that_nobody_goes_back_to_are_removed() {
        let place = tempfile::tempdir().unwrap();
        let from = place.path().join("from");
        fs::create_dir(&from).unwrap();
        fs::write(from.join("program"), "").unwrap();
        let store = Store::new(place.path(), "component", Personality::Classic, None);
        for version in ["1.0.0", "1.1.0", "1.2.0"] {
            store.put(version, &from).unwrap();
        }
        store.keep(&["1.2.0", "1.1.0"]).unwrap();
        assert_eq!(names(&store.folder), ["1.1.0", "1.2.0"]);
        store.keep(&[]).unwrap();
        assert!(names(&store.folder).is_empty());
    }
}
