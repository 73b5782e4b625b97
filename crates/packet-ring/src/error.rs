//! Why a ring cannot be opened or changed.

use nix::errno::Errno;

/// The kernel or the caller's wish does not allow it.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The kernel refused one step.
    #[error("could not {step}")]
    Refused {
        /// What was tried.
        step: &'static str,
        /// Why not.
        #[source]
        source: Errno,
    },
    /// The options make no ring.
    #[error("a ring of {blocks} blocks of {block_size} bytes cannot be made: {expected}")]
    Shape {
        /// Size of a block in bytes.
        block_size: usize,
        /// How many.
        blocks: usize,
        /// What was expected.
        expected: &'static str,
    },
    /// More interfaces than one filter can name.
    #[error(
        "{wanted} interfaces cannot be watched by one ring, {} at most",
        crate::MAX_INTERFACES
    )]
    TooManyInterfaces {
        /// How many were asked for.
        wanted: usize,
    },
}

impl RingError {
    pub(crate) const fn refused(step: &'static str, source: Errno) -> Self {
        Self::Refused { step, source }
    }

    /// True if the capability `CAP_NET_RAW` is missing.
    #[must_use]
    pub const fn is_permission(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                source: Errno::EPERM | Errno::EACCES,
                ..
            }
        )
    }

    /// True if this kernel does not have the family of sockets.
    #[must_use]
    pub const fn is_unsupported(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                source: Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT | Errno::ESOCKTNOSUPPORT,
                ..
            }
        )
    }
}
