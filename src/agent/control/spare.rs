//! A descriptor for whoever asks when there are no others.
//!
//! In: the listener. Out: room for one client more. An agent whose descriptors are used up, by whomever, would otherwise not hear
//! its operator, and could be neither asked nor told to release. It is a copy of the listener's own, which costs nothing, and is
//! taken again as soon as there is room.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

/// What has become of it.
#[derive(Debug, Default)]
pub(super) enum Spare {
    /// There is none to be had.
    #[default]
    Wanted,
    Kept(OwnedFd),
    /// Whoever comes next has it.
    Given,
}

impl Spare {
    /// Takes one where there is one to be had and nobody waits for it.
    pub(super) fn keep(&mut self, listener: &impl AsFd) {
        if matches!(self, Self::Wanted)
            && let Ok(copy) = listener.as_fd().try_clone_to_owned()
        {
            *self = Self::Kept(copy);
        }
    }

    /// Whether there is none, and nobody waits for it.
    pub(super) const fn is_wanted(&self) -> bool {
        matches!(self, Self::Wanted)
    }

    /// A client was taken in: the next one has to be refused first.
    pub(super) fn took_in(&mut self) {
        if matches!(self, Self::Given) {
            *self = Self::Wanted;
        }
    }

    /// Makes room for the client who was refused for want of a descriptor; false where that is not why, or there is none.
    pub(super) fn make_room(&mut self, refused: &io::Error) -> bool {
        let wants = [Errno::EMFILE, Errno::ENFILE].map(|errno| errno as i32);
        if !refused.raw_os_error().is_some_and(|errno| wants.contains(&errno)) {
            return false;
        }
        match self {
            Self::Kept(_) => {
                *self = Self::Given;
                true
            }
            // Somebody else took it.
            Self::Given | Self::Wanted => {
                *self = Self::Wanted;
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_once_and_for_want_of_descriptors_only() {
        let listener = nix::unistd::pipe().unwrap().0;
        let mut spare = Spare::default();
        let want = io::Error::from_raw_os_error(Errno::EMFILE as i32);
        assert!(!spare.make_room(&want), "control: nothing is kept");
        spare.keep(&listener);
        assert!(!spare.make_room(&io::Error::from_raw_os_error(Errno::ECONNABORTED as i32)));
        assert!(spare.make_room(&want));
        spare.keep(&listener);
        assert!(!spare.is_wanted(), "it is for the next client");
        spare.took_in();
        assert!(spare.is_wanted());
        assert!(!spare.make_room(&want));
        spare.keep(&listener);
        assert!(spare.make_room(&want));
        assert!(!spare.make_room(&want), "somebody else took it");
    }
}
