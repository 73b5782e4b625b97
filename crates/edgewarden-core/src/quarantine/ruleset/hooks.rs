//! What rules must know of a device besides its plan: which hooks there are, and what this device is called on its links.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Lack;
use crate::quarantine::lifelines::ways::{Bearer, InterfaceName};

/// An interface whose egress is filtered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EgressDevice {
    /// Name; letters, digits, `.`, `_`, `-` and `@` only.
    pub name: String,
    /// Index: an interface that was replaced has another one, and the kernel has forgotten our hook.
    pub index: u32,
}

/// Which of the kernel's hooks besides the IP stack's are used on this device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    pub bridge: bool,
    /// What an isolation lets pass is marked with this, for a barrier at the interfaces that have no hook.
    pub mark: Option<u32>,
    /// Interfaces for the egress hook; none where the kernel does not have it.
    pub egress: Vec<EgressDevice>,
    /// There is a PPP interface, whose frames may leave another one in an envelope that cannot be looked into.
    pub pppoe: bool,
    /// Interfaces of theirs put tags of their own between the addresses and the type of a frame, as those of a switch do.
    pub tags: bool,
    /// The egress hook cannot tell what the IP stack has sent from what was made by hand.
    pub unrouted: bool,
    /// The table of connection tracking is crowded: what stays inside of the device is not to take room in it.
    pub crowded: bool,
    /// What the kernel was found to be built without.
    pub lacks: BTreeSet<Lack>,
    /// Of each interface of Ethernet what its own frames leave by, itself and those below, and are sent as; empty where that is
    /// not known. Frames of others that leave by it, of another network namespace, are sent as something else.
    pub bearers: BTreeMap<InterfaceName, BTreeSet<Bearer>>,
    /// Interfaces with another header than Ethernet's, or none, are filtered too.
    pub bare: bool,
    /// Interfaces that VLANs' frames leave by with their tags, each with the VLAN's number.
    pub vlans: BTreeSet<(InterfaceName, u16)>,
    /// Hardware addresses of this device; empty where not all of them are known.
    pub senders: BTreeSet<[u8; 6]>,
    /// Interfaces, each with the hardware addresses that this device has on its link; empty where not all of them are known.
    pub hardware: BTreeSet<Bearer>,
    /// Interfaces, each with the addresses of this device that are carried by it or by what its frames leave it with; empty where not
    /// all of them are known.
    pub homes: BTreeSet<(InterfaceName, IpAddr)>,
    /// Those addresses, each with the hardware addresses that it is at on its links.
    pub called: BTreeSet<(IpAddr, [u8; 6])>,
    /// Interfaces that belong to another one, a bridge or a bond, which may send copies of a frame by several of them: copies
    /// have no socket.
    pub members: Vec<InterfaceName>,
    /// Those of them that belong to a bridge to which frames of this device's own may come by a pair of interfaces.
    pub looped: BTreeSet<InterfaceName>,
    /// Interfaces by which frames of this device's own may leave of which it is not known that these are below: by such a pair and a
    /// bridge, or by a switch of another kind (Open vSwitch).
    pub crossed: Vec<InterfaceName>,
    /// Ports of bridges, where what bridges pass on is to be left alone.
    pub passing: Vec<InterfaceName>,
    /// UDP ports at which tunnels of this device unwrap whatever comes there.
    pub unwrapping: BTreeSet<u16>,
    /// Addresses of this device besides those that never leave it.
    pub own: BTreeSet<IpAddr>,
}
