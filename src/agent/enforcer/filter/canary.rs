//! The canary: a datagram which must not leave does not.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{FilterKeeper, Mission};
use crate::moment::Now;
use crate::quarantine::orders::order::{Posture, Protocol};
use crate::quarantine::plan::Plan;
use crate::quarantine::ports::PacketFilter;
use crate::quarantine::proof::canary::CanaryFate;
use crate::quarantine::proof::obstacle::Obstacle;

/// From one canary to the next while nothing changes; each one counts as a blocked packet.
const CANARY_EVERY: Duration = Duration::from_secs(60);
/// The discard port: nothing answers there.
const CANARY_PORT: u16 = 9;
/// Documentation addresses (RFC 5737, RFC 3849): no lifeline is there.
const CANARIES: [&str; 2] = ["203.0.113.254", "2001:db8:ffff:ffff::fe"];

impl<F: PacketFilter> FilterKeeper<F> {
    /// Sends the canary when something is cut and one is due, or the rules are new.
    ///
    /// # Errors
    /// Each canary that left.
    pub(super) async fn prove(
        &mut self,
        mission: &Mission,
        now: Now,
        anew: bool,
    ) -> Result<(), Vec<Obstacle>> {
        let due = self
            .last_canary
            .is_none_or(|last| now.uptime.saturating_sub(last) >= CANARY_EVERY);
        if !mission.cuts() || !(due || anew) {
            return Ok(());
        }
        self.last_canary = Some(now.uptime);
        // What goes to an address of our own goes over loopback, and never leaves.
        let (links, _) = self.kernel.interfaces().await.unwrap_or_default();
        let own: Vec<IpAddr> = links.into_iter().flat_map(|link| link.addresses).collect();
        let mut left = Vec::new();
        for to in canary_addresses(&mission.plan, &own) {
            match self.kernel.send_canary(to).await {
                CanaryFate::Refused | CanaryFate::NoRoute => {}
                CanaryFate::Left => left.push(Obstacle::CanaryLeft { to }),
                // The listing stands.
                CanaryFate::Unclear(why) => tracing::debug!("the canary to {to} proved nothing: {why}"),
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        // Whatever the listing says, nothing is proven; the next check loads the rules again.
        self.posture = None;
        self.held = None;
        self.last_canary = None;
        Err(left)
    }
}

/// Where the plan lets nothing go: documentation addresses in isolation, a blocked remote in restriction.
fn canary_addresses(plan: &Plan, own: &[IpAddr]) -> Vec<SocketAddr> {
    let addresses: Vec<IpAddr> = match plan.posture {
        Posture::Normal => Vec::new(),
        Posture::Isolate => CANARIES.iter().filter_map(|text| text.parse().ok()).collect(),
        Posture::Restrict => plan
            .block
            .remotes
            .iter()
            .map(|blocked| host_of(&blocked.remote))
            .filter(is_ordinary)
            .filter(|address| !own.contains(address))
            .take(1)
            .collect(),
    };
    let allowed = |address: &IpAddr| {
        plan.allow.iter().any(|a| {
            a.protocol == Protocol::Udp && a.ports.contains(&CANARY_PORT) && a.remote.contains(address)
        })
    };
    let lifeline = |address: &IpAddr| plan.endpoints.iter().any(|endpoint| endpoint.address == *address);
    addresses
        .into_iter()
        .filter(|address| !allowed(address) && !lifeline(address))
        .map(|address| SocketAddr::new(address, CANARY_PORT))
        .collect()
}

/// An address of a block that is a host's: the first is the network itself.
fn host_of(net: &ipnet::IpNet) -> IpAddr {
    net.hosts().next().unwrap_or_else(|| net.addr())
}

/// Whether a datagram to it would go to a wire and back to nobody else: others prove nothing.
fn is_ordinary(address: &IpAddr) -> bool {
    let broadcast = match address {
        IpAddr::V4(v4) => v4.is_broadcast() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(address.is_loopback() || address.is_unspecified() || address.is_multicast() || broadcast)
}
