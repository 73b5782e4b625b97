//! Where the state is: the argument that `run`, `restore`, `install` and `uninstall` share.

use std::path::PathBuf;

use crate::host::boot::boot_service::BootServicePaths;
use crate::host::files::state_directory;

#[derive(Debug, clap::Args)]
pub(super) struct StateDirectory {
    /// Where journal and last good configuration are kept; nobody else may be able to write there.
    #[arg(long = "state-dir", value_name = "DIR", default_value = state_directory::DEFAULT)]
    pub(super) path: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct Installation {
    #[command(flatten)]
    state: StateDirectory,
    /// Stands before every path; the running system is left alone.
    #[arg(long, value_name = "DIR", hide = true)]
    pub(super) root: Option<PathBuf>,
}

impl Installation {
    pub(super) fn places(&self) -> BootServicePaths {
        BootServicePaths::new(self.root.clone(), self.state.path.clone())
    }
}
