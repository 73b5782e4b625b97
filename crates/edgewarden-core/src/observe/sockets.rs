//! What the kernel says about sockets, as data: the questions accounting asks and the snapshot reports are built from.
//!
//! In: nothing. Out: plain values and the two traits `host/` implements ([`SocketTable`], [`ProcessTable`]), so that
//! attribution can be tested with fakes. No system calls here.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::flow::{IpProtocol, LocalFlow};
use crate::process::Process;

/// What a socket is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOwner {
    /// Inode of the socket; 0 for one nobody has accepted yet or everybody has closed.
    pub inode: u32,
    /// User who made it.
    pub uid: u32,
    /// A listening TCP socket: it answers for a connection nobody has accepted yet.
    pub listening: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenSocket {
    /// TCP or UDP.
    pub protocol: IpProtocol,
    /// Our end, IPv4-mapped addresses taken as IPv4.
    pub local: SocketAddr,
    /// The other end; `None` for listening and unconnected sockets.
    pub remote: Option<SocketAddr>,
    pub owner: SocketOwner,
}

/// Every established TCP connection and every listening TCP and UDP port.
///
/// UDP has no listening state: a UDP socket counts as listening if it is bound and not connected, which leaves out
/// clients that connect; a client that uses `sendto` cannot be told from a server.
#[derive(Debug, Clone, Default)]
pub struct SocketSnapshot {
    /// Established TCP connections, loopback included; as many as were kept.
    pub established: Vec<OpenSocket>,
    /// How many there are.
    pub established_total: u64,
    /// Local ends listening for TCP, each once (`SO_REUSEPORT` makes several sockets of one).
    pub listening_tcp: Vec<SocketAddr>,
    /// Local ends receiving UDP, each once.
    pub listening_udp: Vec<SocketAddr>,
    /// Which interface has which address.
    pub interfaces: HashMap<IpAddr, Arc<str>>,
    /// What the interfaces are called, by index: several may have the same link-local address, so our ends with such a one
    /// carry the index as their scope.
    pub names: HashMap<u32, Arc<str>>,
}

impl SocketSnapshot {
    /// What the report calls the interface of a local end: the one of its scope, else the interface that has its address, the address itself if it
    /// is the unspecified one, nothing if no interface has it.
    #[must_use]
    pub fn interface_of(&self, end: SocketAddr) -> Option<String> {
        let address = end.ip();
        let scope = match end {
            SocketAddr::V6(end) => end.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        if let Some(name) = self.names.get(&scope) {
            return Some(name.as_ref().to_owned());
        }
        match self.interfaces.get(&address.to_canonical()) {
            Some(name) => Some(name.as_ref().to_owned()),
            None if address.is_unspecified() => Some(address.to_string()),
            None => None,
        }
    }
}

/// The kernel could not be asked; the text is for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LookupError(pub String);

/// The kernel's sockets, as attribution asks for them.
pub trait SocketTable: Send {
    /// The socket that would get or send this flow's packets on this interface.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    fn find(&mut self, flow: &LocalFlow, interface: u32) -> Result<Option<SocketOwner>, LookupError>;

    /// The device behind us that a flow without socket belongs to: the outer side of address translation carries our
    /// own address. `None` if it is not translated.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    fn translated_for(&mut self, flow: &LocalFlow) -> Result<Option<IpAddr>, LookupError>;

    /// Every TCP and UDP socket, up to `limit`; `None` if the last list was so dear that it is too early for another.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    fn list(&mut self, limit: usize, now: Instant) -> Result<Option<Vec<OpenSocket>>, LookupError>;
}

/// Finds the process behind a socket.
pub trait ProcessTable: Send {
    /// The process that holds this inode. Looks at `/proc` again for an unknown inode, but not more often than its
    /// own limit allows; `now` tells.
    fn holder(&mut self, inode: u32, now: Instant) -> HolderLookup;

    /// Lets the next unknown inode cause a look at `/proc` however short ago the last was; for the close of an
    /// interval.
    fn look_again(&mut self);

    /// Forgets processes that have gone; called when an interval closes.
    fn forget_gone(&mut self, now: Instant);
}

/// Answer of [`ProcessTable::holder`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HolderLookup {
    Process(Arc<Process>),
    /// Nobody holds it, as of just now.
    Nobody,
    /// Not known, and it is too early to look again.
    AskLater,
}
