//! The enforcer's hands in the packet filter: load, read back, prove.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;

use super::Enforcer;
use crate::host::canary::{self, Outcome};
use crate::host::clock::{self, Now};
use crate::host::nft::{self, NftError};
use crate::quarantine::confirm::Attempt;
use crate::quarantine::order::{Posture, Protocol};
use crate::quarantine::plan::Plan;
use crate::quarantine::ruleset::{COUNTERS, Ruleset, render};
use crate::quarantine::state::{Blocked, Cut};
use crate::quarantine::verify::{counters, fingerprint, verify};

/// From one canary to the next while nothing changes; each one counts as a blocked packet.
const CANARY_EVERY: Duration = Duration::from_secs(60);
/// The discard port: nothing answers there.
const CANARY_PORT: u16 = 9;
/// Documentation addresses (RFC 5737, RFC 3849): no lifeline is there.
const CANARIES: [&str; 2] = ["203.0.113.254", "2001:db8:ffff:ffff::fe"];

/// What the kernel was last seen to hold.
pub(super) struct Loaded {
    text: String,
    fingerprint: String,
    posture: Posture,
}

impl Enforcer {
    /// Makes the kernel hold `plan` and proves it.
    ///
    /// # Errors
    /// Sentences for the operator. The kernel then holds what it held before: a load is one transaction.
    pub(super) async fn bring_kernel(&mut self, plan: &Plan, now: Now) -> Result<(), Vec<String>> {
        let ruleset = render(plan);
        let listing = match nft::list().await {
            Ok(listing) => listing,
            Err(error @ (NftError::Missing | NftError::NotPermitted | NftError::Run { .. })) => {
                self.posture = None;
                return Err(vec![describe(&error)]);
            }
            // A table that nft cannot list may be somebody's way to blind us; the load replaces it whatever it is.
            Err(error) => {
                self.posture = None;
                self.reasserted += 1;
                tracing::warn!("the table inet edgewarden is put back: {}", describe(&error));
                return self.load(ruleset, plan, now).await;
            }
        };
        let listed = fingerprint(listing.as_ref());
        self.posture = self.seen(listing.as_ref(), &listed);
        let same = self
            .loaded
            .as_ref()
            .is_some_and(|loaded| loaded.text == ruleset.text);
        let untouched = match &self.loaded {
            Some(loaded) if same => loaded.fingerprint == listed,
            _ => plan.is_normal(),
        };
        if untouched && verify(&ruleset.expected, listing.as_ref()).is_ok() {
            self.note_loaded(ruleset, plan, listing.as_ref(), listed);
            self.begin_attempt(plan);
            return self.prove(plan, now, false);
        }
        if same {
            self.reasserted += 1;
            tracing::warn!("somebody changed the table inet edgewarden: it is put back");
        }
        self.load(ruleset, plan, now).await
    }

    async fn load(&mut self, ruleset: Ruleset, plan: &Plan, now: Now) -> Result<(), Vec<String>> {
        if let Err(error) = nft::load(&ruleset.text).await {
            return Err(vec![describe(&error)]);
        }
        self.posture = None;
        self.loaded = None;
        let listing = nft::list().await.map_err(|error| vec![describe(&error)])?;
        verify(&ruleset.expected, listing.as_ref())?;
        let listed = fingerprint(listing.as_ref());
        self.note_loaded(ruleset, plan, listing.as_ref(), listed);
        self.begin_attempt(plan);
        self.prove(plan, now, true)
    }

    /// What a listing proves: no table is no rule of ours, a table is what we loaded only while nobody changed it.
    fn seen(&self, listing: Option<&Value>, listed: &str) -> Option<Posture> {
        match (listing, &self.loaded) {
            (None, _) => Some(Posture::Normal),
            (Some(_), Some(loaded)) if loaded.fingerprint == listed => Some(loaded.posture),
            (Some(_), _) => None,
        }
    }

    fn note_loaded(&mut self, ruleset: Ruleset, plan: &Plan, listing: Option<&Value>, fingerprint: String) {
        self.state.blocked = listing.map(blocked).unwrap_or_default();
        self.posture = Some(plan.posture);
        self.loaded = Some(Loaded {
            fingerprint,
            text: ruleset.text,
            posture: plan.posture,
        });
    }

    /// Starts the confirmation window of a plan, or of a wider scope, once the kernel holds it. Two plans may have the
    /// same rules (another order, other processes): the window does not depend on a load.
    fn begin_attempt(&mut self, plan: &Plan) {
        let id = plan.id();
        let running = self.attempt.as_ref().is_some_and(|(tried, attempt)| {
            *tried == id && attempt.scope == plan.scope && attempt.unresolved == self.unresolved()
        });
        if plan.is_normal() || running || self.is_confirmed(plan) {
            return;
        }
        let trial = self.journal.trial.as_ref().filter(|trial| trial.plan == id);
        let channel_worked = plan.lifelines.data_endpoint && trial.is_some_and(|trial| trial.channel_worked);
        let applied = clock::now().uptime;
        let unresolved = self.unresolved();
        self.attempt = Some((
            id,
            Attempt {
                scope: plan.scope,
                unresolved,
                applied,
                channel_worked,
            },
        ));
    }

    fn prove(&mut self, plan: &Plan, now: Now, loaded: bool) -> Result<(), Vec<String>> {
        let due = self
            .last_canary
            .is_none_or(|last| now.uptime.saturating_sub(last) >= CANARY_EVERY);
        if plan.is_normal() || !(due || loaded) {
            return Ok(());
        }
        self.last_canary = Some(now.uptime);
        let faults: Vec<String> = canary_targets(plan)
            .into_iter()
            .filter_map(|target| match canary::send(target) {
                Outcome::Refused | Outcome::NoRoute => None,
                Outcome::Left => Some(format!(
                    "the canary to {target} left the device: the rules do not hold"
                )),
                Outcome::Unclear(why) => Some(format!("the canary to {target} proved nothing: {why}")),
            })
            .collect();
        if faults.is_empty() {
            return Ok(());
        }
        // Whatever the listing says, nothing is proven; the next check loads the rules again.
        self.posture = None;
        self.loaded = None;
        self.last_canary = None;
        Err(faults)
    }
}

/// Where the plan lets nothing go: documentation addresses in isolation, a blocked remote in restriction.
fn canary_targets(plan: &Plan) -> Vec<SocketAddr> {
    let addresses: Vec<IpAddr> = match plan.posture {
        Posture::Normal => Vec::new(),
        Posture::Isolate => CANARIES.iter().filter_map(|text| text.parse().ok()).collect(),
        Posture::Restrict => plan
            .block
            .remotes
            .iter()
            .map(host_of)
            .filter(is_ordinary)
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
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_loopback() || address.is_unspecified() || address.is_multicast() || broadcast)
}

fn blocked(listing: &Value) -> Blocked {
    let counted = counters(listing);
    let of = |name: &str| {
        let found = counted.iter().find(|(counter, ..)| counter == name);
        found
            .map(|(_, packets, bytes)| Cut {
                packets: *packets,
                bytes: *bytes,
            })
            .unwrap_or_default()
    };
    Blocked {
        out: of(COUNTERS[0]),
        inbound: of(COUNTERS[1]),
        forward: of(COUNTERS[2]),
    }
}

/// An error with its causes in one line.
fn describe(error: &NftError) -> String {
    crate::error_text(error)
}
