//! What the agent gives to nft, word for word: the baseline loads the same text.
//!
//! In: a running agent whose `nft` is a script that keeps what it is asked to load. Out: the files.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use xtask::workspace::{self, file};

use super::lab::{Lab, NFT};
use crate::error::{BenchError, content};

/// The folder of the script and the texts.
pub(crate) struct Recorder(PathBuf);

impl Recorder {
    /// Starts the agent with the recording `nft`.
    pub(crate) fn start(lab: &mut Lab) -> Result<Self, BenchError> {
        let folder = lab.stage.site.directory().join("recorder");
        let script = folder.join("nft");
        workspace::write(&script, &text(&folder))?;
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&script, executable).map_err(file("make executable", &script))?;
        let path = format!("PATH={}:/usr/sbin:/usr/bin:/sbin:/bin", folder.display());
        lab.stage.start_agent_as(Path::new("/usr/bin/env"), &[&path])?;
        lab.wait_free()?;
        Ok(Self(folder))
    }

    /// The newest text that was loaded, under a name of its own.
    pub(crate) fn keep(&self, name: &str) -> Result<PathBuf, BenchError> {
        let listing = std::fs::read_dir(&self.0).map_err(file("list", &self.0))?;
        let files = listing.flatten().map(|entry| entry.path());
        let newest = files
            .filter(|path| path.extension().is_some_and(|end| end == "load"))
            .max()
            .ok_or_else(|| content("the agent", "expected it to load rules with nft"))?;
        let kept = self.0.join(format!("{name}.nft"));
        std::fs::rename(&newest, &kept).map_err(file("rename", &newest))?;
        Ok(kept)
    }
}

/// Names by time, so that the newest is the last.
fn text(folder: &Path) -> String {
    format!(
        "#!/bin/sh\n\
         if [ \"$1\" = -f ]; then\n\
         file={folder}/$(date +%s%N).load\n\
         cat >\"$file\"\n\
         exec {NFT} -f \"$file\"\n\
         fi\n\
         exec {NFT} \"$@\"\n",
        folder = folder.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_keeps_what_is_loaded() {
        let script = text(Path::new("/x"));
        assert!(
            script.starts_with("#!/bin/sh\nif [ \"$1\" = -f ]; then\nfile=/x/$(date +%s%N).load\n"),
            "{script}"
        );
    }
}
