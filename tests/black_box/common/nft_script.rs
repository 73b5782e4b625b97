//! An `nft` of the test's own before the real one: what it does besides is a piece of shell, while a file is there.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use edgewarden_lab::stage::Stage;

use super::agent::restart_as;

/// The script, in a folder that nobody else can write to.
pub(crate) struct NftScript {
    folder: PathBuf,
}

impl NftScript {
    /// Starts the agent with it. `$real` is the real program, `$folder` the script's; what is not ended by the shell text
    /// ends as the real program.
    pub(crate) fn start(stage: &mut Stage, shell: &str) -> Self {
        let folder = stage.site.directory().join("nft-script");
        std::fs::create_dir_all(&folder).unwrap();
        let real = ["/usr/sbin/nft", "/usr/bin/nft"]
            .into_iter()
            .find(|path| std::path::Path::new(path).exists())
            .expect("nft is installed");
        let text = format!(
            "#!/bin/sh\nreal={real}\nfolder={}\nif [ -e \"$folder/active\" ]; then\n{shell}\nfi\nexec {real} \"$@\"\n",
            folder.display()
        );
        let script = folder.join("nft");
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("PATH={}:/usr/sbin:/usr/bin:/sbin:/bin", folder.display());
        restart_as(stage, "env", &[&path]);
        Self { folder }
    }

    /// From now on the shell text is run.
    pub(crate) fn activate(&self) {
        std::fs::write(self.folder.join("active"), "").unwrap();
    }

    pub(crate) fn deactivate(&self) {
        std::fs::remove_file(self.folder.join("active")).unwrap();
    }

    /// A file that the shell text wrote.
    pub(crate) fn written(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.folder.join(name)).ok()
    }
}
