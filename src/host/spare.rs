//! A descriptor for a client when there are no others.
//!
//! In: a wish at the start, before anything else takes descriptors. Out: room for one client more. An agent whose descriptors
//! are used up, by whomever, would otherwise not hear its operator, and could be neither asked nor told to release. Taken again
//! as soon as there is room.

use std::io;
use std::os::unix::net::UnixDatagram;

use nix::errno::Errno;

/// What has become of it.
#[derive(Debug)]
pub(crate) enum Spare {
    /// There is none to be had.
    Wanted,
    /// A socket that nobody uses.
    Kept(#[expect(dead_code, reason = "it is there to be closed")] UnixDatagram),
    /// Whoever comes next has it.
    Given,
}

impl Spare {
    /// Takes one.
    pub(crate) fn take() -> Self {
        UnixDatagram::unbound().map_or(Self::Wanted, Self::Kept)
    }

    /// Takes one where there is none and nobody waits for it.
    pub(crate) fn keep(&mut self) {
        if self.is_wanted() {
            *self = Self::take();
        }
    }

    /// Whether there is none, and nobody waits for it.
    pub(crate) const fn is_wanted(&self) -> bool {
        matches!(self, Self::Wanted)
    }

    /// A client was taken in: the next one has to be refused first.
    pub(crate) fn took_in(&mut self) {
        if matches!(self, Self::Given) {
            *self = Self::Wanted;
        }
    }

    /// Makes room for the client who was refused for want of a descriptor; false where that is not why, or there is none.
    pub(crate) fn make_room(&mut self, refused: &io::Error) -> bool {
        let wants = [Errno::EMFILE, Errno::ENFILE].map(|errno| errno as i32);
        if !refused.raw_os_error().is_some_and(|errno| wants.contains(&errno)) {
            return false;
        }
        let makes = matches!(self, Self::Kept(_));
        // One that was given already somebody else has taken.
        *self = if makes { Self::Given } else { Self::Wanted };
        makes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_once_and_for_want_of_descriptors_only() {
        let mut spare = Spare::Wanted;
        let want = io::Error::from_raw_os_error(Errno::EMFILE as i32);
        assert!(!spare.make_room(&want), "control: nothing is kept");
        spare.keep();
        assert!(!spare.make_room(&io::Error::from_raw_os_error(Errno::ECONNABORTED as i32)));
        assert!(spare.make_room(&want));
        spare.keep();
        assert!(!spare.is_wanted(), "it is for the next client");
        spare.took_in();
        assert!(spare.is_wanted());
        assert!(!spare.make_room(&want));
        spare.keep();
        assert!(spare.make_room(&want));
        assert!(!spare.make_room(&want), "somebody else took it");
    }
}
