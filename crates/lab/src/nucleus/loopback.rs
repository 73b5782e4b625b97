//! Nucleus and broker as programs on the loopback of the caller, for whoever needs no network.
//!
//! In: the lab's program, a folder with a `recipe.yaml` in it, a personality. Out: a nucleus that is connected to its
//! broker. Every file of both is in the folder, which outlives them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::personality::Personality;
use crate::site::{LoopbackBroker, Running, SiteError, SpawnSpec};

/// How long the nucleus may take to reach its broker, on a machine that does much else.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// Both programs; dropped, and so stopped, in this order.
#[derive(Debug)]
pub struct LoopbackNucleus {
    /// The nucleus' program.
    pub running: Running,
    /// Its broker.
    pub broker: LoopbackBroker,
    /// The nucleus' root folder.
    pub root: PathBuf,
    /// Where clients find it.
    pub socket: PathBuf,
}

/// Folder of the component's artifacts in the folder of a [`LoopbackNucleus`].
const ARTIFACTS: &str = "artifacts";

impl LoopbackNucleus {
    /// Starts both in `folder`, whose folder `artifacts` is the component's. The broker is looked for at `host`, a loopback address; `more` are further arguments of
    /// `edgewarden-lab nucleus`.
    ///
    /// # Errors
    /// When one of them does not start, or they are not connected in time.
    pub fn start(
        program: &Path,
        folder: &Path,
        personality: Personality,
        host: &str,
        more: &[&str],
    ) -> Result<Self, SiteError> {
        let broker = LoopbackBroker::start(folder)?;
        let root = folder.join("root");
        let artifacts = folder.join(ARTIFACTS);
        std::fs::create_dir_all(&artifacts).map_err(|source| SiteError::File {
            path: artifacts.clone(),
            source,
        })?;
        let mut spec = SpawnSpec::new(program, folder.join("nucleus.log"));
        let fixed = [
            "nucleus",
            "--recipe",
            "recipe.yaml",
            "--artifacts",
            ARTIFACTS,
            "--personality",
        ];
        spec.args = fixed
            .iter()
            .chain([&personality.name()])
            .chain(more)
            .map(Into::into)
            .collect();
        let address = format!("{host}:{}", broker.port);
        spec.args.extend([
            "--root".into(),
            root.clone().into(),
            "--broker".into(),
            address.into(),
        ]);
        spec.directory = Some(folder.to_owned());
        let mut running = Running::start_here(spec)?;
        running.wait_event(CONNECT_LIMIT, |event| {
            event["event"] == "mqtt" && event["state"] == "connected"
        })?;
        let socket = root.join(personality.socket_name());
        Ok(Self {
            running,
            broker,
            root,
            socket,
        })
    }
}
