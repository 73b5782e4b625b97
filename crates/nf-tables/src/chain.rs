//! Chains, and the hooks of the kernel that packets come by.

use crate::userdata::UserData;
use crate::wire::{Attribute, DecodeError, Encoder, attributes, flags, numbers};

/// `NFTA_CHAIN_NAME`.
pub(crate) const CHAIN_NAME: u16 = 3;

numbers! {
    /// What becomes of a packet that no rule of a base chain has decided about.
    pub enum Policy as "a policy" {
        /// It is dropped.
        Drop = 0,
        /// It passes.
        Accept = 1,
    }
}

flags! {
    /// How a chain is meant. Normal form: that it has a hook, which the kernel lists as the first flag, is not among them.
    pub struct ChainFlags without 1 {
        /// Interfaces do its work.
        OFFLOADED = 2,
    }
}

attributes! {
    /// A place in the kernel that packets come by. Left out of a listing: the first interface, which is listed twice.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Hook as "a hook" ignore 3 keep unknown {
        /// Its number, which means another place in each family.
        pub number: u32 = 1,
        /// Where among the hook's chains: lower ones come first.
        pub priority: i32 = 2,
        /// Interfaces, in the family netdev only.
        pub devices: Devices = 4 or Devices::default(),
    }
}

impl Hook {
    /// Packets that arrive, before their route is known.
    pub const PREROUTING: u32 = 0;
    /// Packets for this host, in the families of the IP stack and of bridges.
    pub const INPUT: u32 = 1;
    /// Packets that are passed on.
    pub const FORWARD: u32 = 2;
    /// Packets of this host.
    pub const OUTPUT: u32 = 3;
    /// Packets that leave, behind everything else.
    pub const POSTROUTING: u32 = 4;
    /// Frames that leave through an interface, in the family netdev.
    pub const EGRESS: u32 = 1;

    /// The hook of that number, for all interfaces.
    #[must_use]
    pub fn new(number: u32, priority: i32) -> Self {
        Self {
            number,
            priority,
            devices: Devices::default(),
            unknown: Vec::new(),
        }
    }

    /// What leaves through these interfaces.
    #[must_use]
    pub fn egress(priority: i32, devices: impl IntoIterator<Item = String>) -> Self {
        Self {
            devices: Devices::new(devices),
            ..Self::new(Self::EGRESS, priority)
        }
    }
}

/// Interfaces by name. Normal form: sorted; their order means nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices(Vec<String>);

impl Devices {
    /// These interfaces.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let mut names: Vec<String> = names.into_iter().collect();
        names.sort_unstable();
        Self(names)
    }

    /// Their names, sorted.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

impl Attribute for Devices {
    fn put(&self, number: u16, out: &mut Encoder) {
        self.0.put(number, out);
    }

    fn get(value: &[u8]) -> Result<Self, DecodeError> {
        Vec::<String>::get(value).map(Self::new)
    }
}

attributes! {
    /// A chain without its rules.
    ///
    /// Left out of a listing: table, handle, use count, counters and id.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Chain as "a chain" ignore 1 | 2 | 6 | 8 | 9 | 11 keep unknown {
        /// Its name.
        pub name: String = 3,
        /// Where packets come to it; none where other chains send them.
        pub hook: Option<Hook> = 4,
        /// What becomes of what no rule decides about; chains with a hook only.
        pub policy: Option<Policy> = 5,
        /// What it may do; chains with a hook only.
        pub kind: Option<String> = 7,
        /// How it is meant.
        pub flags: ChainFlags = 10 or ChainFlags::NONE,
        /// What nft keeps for itself.
        pub userdata: UserData = 12 or UserData::NONE,
    }
}

impl Chain {
    /// One to which only other chains send packets.
    #[must_use]
    pub fn regular(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            hook: None,
            policy: None,
            kind: None,
            flags: ChainFlags::NONE,
            userdata: UserData::NONE,
            unknown: Vec::new(),
        }
    }

    /// One that passes packets of a hook or drops them.
    #[must_use]
    pub fn filter(name: impl Into<String>, hook: Hook, policy: Policy) -> Self {
        Self {
            name: name.into(),
            hook: Some(hook),
            policy: Some(policy),
            kind: Some("filter".to_owned()),
            flags: ChainFlags::NONE,
            userdata: UserData::NONE,
            unknown: Vec::new(),
        }
    }
}
