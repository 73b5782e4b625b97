//! The ring as pnet's receiver, for programs written against that trait.
//!
//! The trait hands over bytes only: for the true length, the way and the tag of a frame use
//! [`PacketRing::read_block`].

use std::io;
use std::time::Duration;

use pnet_datalink::DataLinkReceiver;

use crate::ring::PacketRing;

/// How long [`DataLinkReceiver::next`] waits at most before it says "timed out", as pnet's own receiver does.
const WAIT: Duration = Duration::from_millis(200);

impl DataLinkReceiver for PacketRing {
    fn next(&mut self) -> io::Result<&[u8]> {
        while !self.has_frame() {
            self.release();
            if !self.take_block(WAIT)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        self.next_in_block()
            .map(|frame| frame.bytes)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }
}
