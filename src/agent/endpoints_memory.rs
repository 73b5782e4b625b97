//! The nucleus' endpoints, remembered: whoever stands in for the component while no nucleus speaks with us keeps the lifelines
//! of the nucleus itself fresh by their names.
//!
//! In: what the nucleus told. Out: the same, to the next agent. Bounded: one small file, as often as it changes. Absent: names
//! that were not told by a nucleus.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cloud::nucleus::NucleusEndpoints;
use crate::host::files;
use crate::host::worker::Worker;

/// Name of the file in the state directory.
const NAME: &str = "endpoints.json";
/// What a disk takes; without it they are told by the nucleus a little later.
const LIMIT: Duration = Duration::from_secs(2);

/// The file.
pub(super) struct EndpointsMemory {
    path: PathBuf,
    disk: Worker,
}

impl EndpointsMemory {
    pub(super) fn new(state_directory: &Path) -> Self {
        Self {
            path: state_directory.join(NAME),
            disk: Worker::new("endpoints", LIMIT),
        }
    }

    /// What was told last, if that named the data endpoint.
    pub(super) async fn recall(&self) -> Option<NucleusEndpoints> {
        let path = self.path.clone();
        let read = move || files::read(&path).ok().flatten();
        let bytes = self.disk.run(read).await.ok().flatten()?;
        let endpoints: NucleusEndpoints = serde_json::from_slice(&bytes).ok()?;
        endpoints.data.is_some().then_some(endpoints)
    }

    /// Remembers them. Nobody waits for it.
    pub(super) fn keep(&self, endpoints: &NucleusEndpoints) {
        if endpoints.data.is_none() {
            return;
        }
        let (path, text) = (
            self.path.clone(),
            serde_json::to_vec(endpoints).unwrap_or_default(),
        );
        let _written_later = self.disk.begin(move |()| {
            let is_known = files::read(&path).is_ok_and(|found| found.as_ref() == Some(&text));
            if !is_known && let Err(error) = files::replace(&path, &text) {
                tracing::debug!("{}", crate::error_text(&error));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_names_no_endpoint_takes_nothing_back() {
        let folder = tempfile::tempdir().unwrap();
        let memory = EndpointsMemory::new(folder.path());
        assert_eq!(memory.recall().await, None);
        let told = NucleusEndpoints {
            data: Some("a-ats.iot.example".to_owned()),
            proxy: Some(("proxy.example".to_owned(), 3128)),
            ..NucleusEndpoints::default()
        };
        memory.keep(&told);
        memory.keep(&NucleusEndpoints::default());
        // After both, in their order.
        assert_eq!(memory.recall().await, Some(told));
    }
}
