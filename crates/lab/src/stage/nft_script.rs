//! An `nft` of the test's own before the real one: what it does besides is a piece of shell, while a file is there.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::Stage;
use crate::site::SiteError;

/// Where distributions have nft.
const REAL: [&str; 2] = ["/usr/sbin/nft", "/usr/bin/nft"];

/// Lets everything leave under the comment of our first rule, right after each load; only after the first one where a file
/// `once` is in the folder. Each edit is a line of the file `edits`.
pub const EDIT_AFTER_LOAD: &str = r#"
if [ "$1" = -f ]; then
  "$real" "$@" || exit 1
  "$real" -a list chain inet edgewarden output 2>/dev/null | while read -r line; do
    case "$line" in
      *'comment "ew:loopback'*)
        handle=${line##*handle }
        comment=${line##*comment \"}
        comment=${comment%%\"*}
        "$real" replace rule inet edgewarden output handle "$handle" accept comment "\"$comment\"" && echo edited >> "$folder/edits"
        ;;
    esac
  done
  if [ -e "$folder/once" ]; then rm "$folder/active"; fi
  exit 0
fi
"#;

/// The script, in a folder that nobody else can write to.
#[derive(Debug)]
pub struct NftScript {
    folder: PathBuf,
}

impl NftScript {
    /// Writes it. `$real` is the real program, `$folder` the script's; what is not ended by the shell text ends as the real
    /// program.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn prepare(stage: &Stage, shell: &str) -> Result<Self, SiteError> {
        let folder = stage.site.directory().join("nft-script");
        super::make_directory(&folder)?;
        let real = REAL.into_iter().find(|path| Path::new(path).exists());
        let real = real.unwrap_or(REAL[0]);
        let text = format!(
            "#!/bin/sh\nreal={real}\nfolder={}\nif [ -e \"$folder/active\" ]; then\n{shell}\nfi\nexec {real} \"$@\"\n",
            folder.display()
        );
        let script = folder.join("nft");
        super::write(&script, text.as_bytes())?;
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&script, executable).map_err(|source| SiteError::File {
            path: script.clone(),
            source,
        })?;
        Ok(Self { folder })
    }

    /// What an agent that finds it has in its environment, as `env` takes it.
    #[must_use]
    pub fn environment(&self) -> String {
        format!("PATH={}:/usr/sbin:/usr/bin:/sbin:/bin", self.folder.display())
    }

    /// Starts the agent with it, in place of a running one.
    ///
    /// # Errors
    /// When it cannot be written or the agent not be started.
    pub fn start(stage: &mut Stage, shell: &str) -> Result<Self, SiteError> {
        let script = Self::prepare(stage, shell)?;
        stage.agent = None;
        stage.start_agent_as(Path::new("env"), &[&script.environment()])?;
        Ok(script)
    }

    /// From now on the shell text is run.
    ///
    /// # Errors
    /// When the switch cannot be made.
    pub fn activate(&self) -> Result<(), SiteError> {
        self.say("")
    }

    /// From now on the shell text is run, and finds these words in the file `active`.
    ///
    /// # Errors
    /// When the switch cannot be made.
    pub fn say(&self, words: &str) -> Result<(), SiteError> {
        super::write(&self.folder.join("active"), words.as_bytes())
    }

    /// The real program alone is run again.
    ///
    /// # Errors
    /// When the script was not active.
    pub fn deactivate(&self) -> Result<(), SiteError> {
        let path = self.folder.join("active");
        std::fs::remove_file(&path).map_err(|source| SiteError::File { path, source })
    }

    /// A file that the shell text wrote.
    #[must_use]
    pub fn written(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.folder.join(name)).ok()
    }
}
