//! What is tried. Each attack first shows that it works on the free device.

mod frames;
mod lifelines;
mod links;
mod processes;

use crate::Attack;

/// A second of what an exception of the link lets pass, twice over: a bucket that is full and what comes in meanwhile.
const LINK_SHARE: u64 = 700_000;
/// A second of small neighbour messages.
const NEIGHBOUR_SHARE: u64 = 50_000;

/// Every attack, in the order of the table.
pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "forged-answers",
        what: "forges DNS questions and answers on lo (CAP_NET_RAW), then connects to the address as an ordinary user",
        allowed: 0,
        play: lifelines::forged_answers,
    },
    Attack {
        name: "bound-to-another-interface",
        what: "connects to a lifeline's address bound to the LAN, where a host claims it (ordinary user)",
        allowed: 0,
        play: lifelines::bound_to_another_interface,
    },
    Attack {
        name: "silenced-channel",
        what: "floods the resolver's port on a thin uplink until the nucleus is silent (ordinary user)",
        allowed: 0,
        play: lifelines::silenced_channel,
    },
    Attack {
        name: "other-declared-type",
        what: "sends IP to a blocked remote in frames that say they are something else (CAP_NET_RAW), in restrict",
        allowed: 0,
        play: frames::other_declared_type,
    },
    Attack {
        name: "tagged-frames",
        what: "the same with one and two VLAN tags",
        allowed: 0,
        play: frames::tagged,
    },
    Attack {
        name: "segmented-link-frames",
        what: "has the kernel cut large frames to a link group into very many (CAP_NET_RAW)",
        allowed: LINK_SHARE,
        play: frames::segmented,
    },
    Attack {
        name: "xdp-socket",
        what: "sends through an AF_XDP socket (CAP_NET_RAW)",
        allowed: 0,
        play: frames::xdp_socket,
    },
    Attack {
        name: "large-neighbour-messages",
        what: "fills neighbour messages to the link with 1,400 bytes (CAP_NET_RAW)",
        allowed: NEIGHBOUR_SHARE,
        play: links::large_neighbour_messages,
    },
    Attack {
        name: "starved-arp",
        what: "uses up what ARP may send, so that the device cannot ask for its router (CAP_NET_RAW)",
        allowed: u64::MAX,
        play: links::starved_arp,
    },
    Attack {
        name: "continued-process",
        what: "continues a frozen process whenever it is stopped (ordinary user)",
        allowed: u64::MAX,
        play: processes::continued,
    },
];
