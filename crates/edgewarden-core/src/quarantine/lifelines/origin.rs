//! Who says that an address is a lifeline's.
//!
//! Out: [`Origin`], which stands beside every such address in the journal, in status, plan and history. Only these may say
//! so: our own look-ups, the nucleus' own sockets, the host's settings, the configuration. What is seen on the wire may not.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::lifeline::Endpoint;

/// Characters kept of a name or path: the longest name of DNS, and more than our paths have.
const MAX_WHAT: usize = 255;

/// Who said it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OriginKind {
    /// Our own look-up of a name below a lifeline's, which a program of this machine asked for.
    AskedFor,
    /// Our own look-up of a lifeline's name.
    LookUp,
    /// The nucleus' own socket.
    Nucleus,
    /// An address in the host's settings.
    Settings,
    /// An address in our configuration.
    Configuration,
    /// An agent of before, which did not say, and may have believed what it saw on the wire: it counts until a look-up
    /// succeeds. Also what a later version may write.
    #[default]
    #[serde(other)]
    Remembered,
}

impl OriginKind {
    /// Whether it names one of our lifelines, and not what some program asked for or an earlier agent believed.
    pub const fn is_of_a_lifeline(self) -> bool {
        !matches!(self, Self::AskedFor | Self::Remembered)
    }

    /// Whether a look-up, a setting or the configuration says so.
    pub const fn is_vouched(self) -> bool {
        matches!(self, Self::LookUp | Self::Settings | Self::Configuration)
    }
}

/// Who said it, of what.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    pub by: OriginKind,
    /// The name that was looked up and who names it, the file of the settings, the key of the configuration.
    pub what: String,
}

impl Origin {
    /// Takes `what` as far as it is kept.
    pub fn new(by: OriginKind, what: &str) -> Self {
        let what = what.chars().take(MAX_WHAT).collect();
        Self { by, what }
    }

    /// The nucleus' socket.
    pub fn nucleus() -> Self {
        Self::new(OriginKind::Nucleus, "")
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = &self.what;
        match self.by {
            OriginKind::Remembered => f.write_str("remembered from an earlier agent"),
            OriginKind::AskedFor => write!(f, "look-up of {what}, which a program asked for"),
            OriginKind::LookUp => write!(f, "look-up of {what}"),
            OriginKind::Nucleus => f.write_str("the nucleus' own socket"),
            OriginKind::Settings | OriginKind::Configuration => f.write_str(what),
        }
    }
}

/// An address of a lifeline and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    pub endpoint: Endpoint,
    pub origin: Origin,
}

/// An address that is let through, as it is told and kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifelineAddress {
    #[serde(flatten)]
    pub endpoint: Endpoint,
    #[serde(default)]
    pub origin: Origin,
    /// Whether the nucleus was connected there when it was last seen connected.
    #[serde(default)]
    pub used: bool,
}
