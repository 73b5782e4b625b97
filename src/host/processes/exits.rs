//! The end of a process as an event: nobody has to look whether it still runs.
//!
//! In: a pid with its start time. Out: a wait that ends with that very process. Bounded: one descriptor each. Kernels before 5.3 do not
//! tell it: there it is looked for, every two seconds.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{pinned, process_table};
use crate::process::ProcessId;

/// From one look to the next where the end is not told: a nucleus' successor is there some seconds later.
const LOOK: Duration = Duration::from_secs(2);

/// A process that is waited for; dropping it stops waiting.
#[derive(Debug)]
pub(crate) struct ExitWatch(End);

#[derive(Debug)]
enum End {
    Told(AsyncFd<OwnedFd>),
    Looked(ProcessId),
}

impl ExitWatch {
    /// None when that process is gone already. Must be called in a runtime.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub(crate) fn of(id: ProcessId) -> io::Result<Option<Self>> {
        let Some(pid) = process_table::number(id.pid) else {
            return Ok(None);
        };
        let handle = match pinned::end_of(pid) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(refused) => return Err(refused.into()),
        };
        // The handle pins whoever has the number; its start time says whether that is the right one.
        if process_table::start_ticks(id.pid) != Some(id.start_ticks) {
            return Ok(None);
        }
        let Some(handle) = handle else {
            return Ok(Some(Self(End::Looked(id))));
        };
        #[expect(
            deprecated,
            reason = "unsound only for what may close its descriptor early; an OwnedFd does not, and the other way is unsafe"
        )]
        let handle = AsyncFd::with_interest(handle, Interest::READABLE)?;
        Ok(Some(Self(End::Told(handle))))
    }

    /// Waits for its end; cancel-safe.
    pub(crate) async fn ended(&self) {
        match &self.0 {
            End::Told(end) => {
                if end.readable().await.is_err() {
                    // The runtime is going, and with it whoever waits.
                    std::future::pending::<()>().await;
                }
            }
            End::Looked(id) => {
                while !process_table::has_ended(*id) {
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a process of our own that ends")]
    async fn the_end_of_just_that_process_is_heard() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let id = process_table::read(child.id()).unwrap().identity;
        let watch = ExitWatch::of(id).unwrap().unwrap();
        assert!(
            tokio::time::timeout(SHORT, watch.ended()).await.is_err(),
            "control: it runs"
        );
        let other = ProcessId {
            start_ticks: id.start_ticks + 1,
            ..id
        };
        assert!(ExitWatch::of(other).unwrap().is_none(), "it has the number only");
        child.kill().unwrap();
        tokio::time::timeout(LONG, watch.ended()).await.unwrap();
        child.wait().unwrap();
        assert!(ExitWatch::of(id).unwrap().is_none());
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a process of our own that ends")]
    async fn where_the_end_is_not_told_it_is_found() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let id = process_table::read(child.id()).unwrap().identity;
        let watch = ExitWatch(End::Looked(id));
        assert!(
            tokio::time::timeout(SHORT, watch.ended()).await.is_err(),
            "control: it runs"
        );
        child.kill().unwrap();
        tokio::time::timeout(LONG, watch.ended()).await.unwrap();
        child.wait().unwrap();
    }
}
