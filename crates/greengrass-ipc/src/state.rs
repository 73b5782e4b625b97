//! What the client knows about its connection, for whoever watches it.

/// Whether the client is connected to the nucleus, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionState {
    /// Not connected; attempts go on for ever.
    #[non_exhaustive]
    Connecting {
        /// Connections that failed or did not last since the start or since the last one that did; the wait between
        /// attempts grows with it.
        attempt: u32,
        /// Why the last attempt failed or the last connection ended, in one line; `None` until one has.
        last_error: Option<String>,
    },
    /// Connected and accepted by the nucleus.
    #[non_exhaustive]
    Connected {
        /// Counts connections, from 1: a new number means that everything in flight was lost.
        epoch: u64,
        /// Process id of the nucleus at the other end of the socket, where the kernel tells.
        server_pid: Option<i32>,
        /// Clock ticks after boot at which that process was started, where `/proc` tells: a process that gets the same
        /// id later was started later.
        server_start_ticks: Option<u64>,
    },
}
