//! How often each sender may say what keeps a link alive.

use super::conditions::Rate;
use super::rules::{per_minute, per_second};

/// How often each sender may on one link; who has no rate may not.
pub(super) struct Shares {
    pub(super) kernel: Option<Rate>,
    pub(super) root: Option<Rate>,
    pub(super) services: Option<Rate>,
    pub(super) users: Option<Rate>,
    /// What leaves by an interface of ours and is sent as somebody else: another namespace's that stands on it.
    pub(super) others: Option<Rate>,
}

/// Programs speak for themselves (address conflicts, router discovery), the kernel for all of them.
pub(super) const NEIGHBOUR_SHARES: Shares = Shares {
    kernel: Some(per_second(100, 200)),
    root: Some(per_second(20, 40)),
    services: Some(per_second(20, 40)),
    users: None,
    others: Some(per_second(2, 4)),
};
pub(super) const UNICAST_SHARES: Shares = Shares {
    kernel: Some(per_second(10, 20)),
    root: Some(per_second(2, 4)),
    services: None,
    users: None,
    others: None,
};
pub(super) const ROUTER_SHARES: Shares = Shares {
    kernel: None,
    root: Some(per_second(1, 4)),
    services: Some(per_second(1, 4)),
    users: None,
    others: None,
};
pub(super) const LISTENER_SHARES: Shares = Shares {
    kernel: Some(per_second(2, 40)),
    root: None,
    services: None,
    users: None,
    others: Some(per_minute(4, 4)),
};
pub(super) const LISTENER_ALL_SHARES: Shares = Shares {
    kernel: Some(per_minute(4, 4)),
    root: None,
    services: None,
    users: None,
    others: None,
};
/// What the kernel says of its groups when a router, or a switch, asks for all of them: whoever joins some makes it longer.
pub(super) const ANSWER_SHARES: Shares = Shares {
    kernel: Some(per_second(1, 64)),
    root: None,
    services: None,
    users: None,
    others: None,
};
pub(super) const LINK_SHARES: Shares = Shares {
    kernel: Some(per_second(100, 200)),
    root: Some(per_second(100, 200)),
    services: Some(per_second(100, 200)),
    users: None,
    others: None,
};
/// A client that dials asks four times within a minute, and ends each session with one.
pub(super) const DIAL_SHARES: Shares = Shares {
    kernel: None,
    root: Some(per_minute(20, 20)),
    services: None,
    users: None,
    others: None,
};
pub(super) const DHCP_SHARES: Shares = Shares {
    kernel: Some(per_minute(20, 20)),
    root: Some(per_minute(20, 20)),
    services: Some(per_minute(20, 20)),
    users: None,
    others: Some(per_minute(2, 2)),
};
pub(super) const DHCP_RENEWAL_SHARES: Shares = Shares {
    kernel: Some(per_minute(4, 4)),
    root: Some(per_minute(4, 4)),
    services: Some(per_minute(4, 4)),
    users: None,
    others: None,
};
