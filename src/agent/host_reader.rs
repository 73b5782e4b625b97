//! Reads what the host says about whom it talks to, however its files behave.
//!
//! In: the places where resolvers and time servers are configured ([`crate::host::surroundings`]), a look at the nucleus'
//! connections. Out: [`HostSettings`]; what was seen. A source that hangs costs one thread and one wait; the others are read
//! all the same ([`ForeignSources`]). Clones share what is known, so that a task that is started again begins no second
//! thread for what hangs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex as TurnMutex;

use crate::host::sources::ForeignSources;
use crate::host::surroundings::SOURCES;
use crate::quarantine::lifelines::host_settings::HostSettings;

/// How long one source may take: ten that hang at once take less than the first orders wait for addresses; more do not hang.
const SOURCE_LIMIT: Duration = Duration::from_secs(1);
/// How long the host's processes and sockets may take.
const CONNECTIONS_LIMIT: Duration = Duration::from_secs(5);

/// Who reads, and what was read last.
#[derive(Clone)]
pub(super) struct HostReader {
    files: Arc<TurnMutex<SourceReader>>,
    connections: Arc<TurnMutex<ForeignSources<()>>>,
}

struct SourceReader {
    files: ForeignSources<&'static str>,
    known: HostSettings,
}

impl HostReader {
    pub(super) fn new() -> Self {
        let reader = SourceReader {
            files: ForeignSources::new("host-files", SOURCE_LIMIT),
            known: HostSettings::default(),
        };
        Self {
            files: Arc::new(TurnMutex::new(reader)),
            connections: Arc::new(TurnMutex::new(ForeignSources::new("uplinks", CONNECTIONS_LIMIT))),
        }
    }

    /// What the host's files say, those that can be read as of now.
    pub(super) async fn read_files(&self) -> HostSettings {
        let mut reader = self.files.lock().await;
        for source in &SOURCES {
            let reading = reader.files.read(source.path, || source.read()).await;
            reader
                .known
                .take(source.path, reading.and_then(|reading| reading));
        }
        reader.known.clone()
    }

    /// Has the host's connections looked at.
    ///
    /// # Errors
    /// A sentence for the status, the same as long as nothing can be seen.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        let found = self.connections.lock().await.read((), look).await;
        found.map_err(|why| format!("where the nucleus is connected is not known: {why}"))
    }
}
