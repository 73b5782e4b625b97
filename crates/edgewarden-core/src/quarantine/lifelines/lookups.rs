//! When which lifeline's name is looked up.
//!
//! In: the targets, what each look-up gave, `now` as uptime, whether it is urgent. Out: the names that are due, the
//! addresses that follow, what to tell. Pure: the resolver is asked by `agent::addresses`.
//! Invariants: names do not wait for each other; a name is never asked twice at a time, because a resolver that is
//! silent holds each question for half a minute.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::address_book::Confinement;
use super::lifeline::{Endpoint, LifelineTarget, Purpose, Weight};

/// From one look-up of a name to the next. IoT endpoints have a time to live of a minute.
const REFRESH: Duration = Duration::from_secs(60);
/// After a name did not resolve.
const RETRY: Duration = Duration::from_secs(5);
/// After an optional name did not resolve: a Region may not have it, and nothing depends on it.
const RETRY_OPTIONAL: Duration = Duration::from_secs(60);
/// While the control channel is broken behind our rules: its address may have changed.
const URGENT: Duration = Duration::from_secs(3);
/// Names at a time: all that the configuration, the host and the nucleus can make (16 resolvers, 16 and 64 time
/// servers, ten names of AWS).
const MAX_NAMES: usize = 128;

/// The names and what is known of each.
#[derive(Debug, Default)]
pub struct Lookups {
    names: BTreeMap<String, NameLookup>,
}

#[derive(Debug)]
struct NameLookup {
    /// What the name is for; several purposes may share it.
    targets: Vec<LifelineTarget>,
    running: bool,
    /// When the last look-up ended, and with how many endpoints or why not.
    last: Option<(Duration, Result<usize, String>)>,
    /// What the last look-up gave that was not in vain.
    addresses: Vec<IpAddr>,
}

impl NameLookup {
    fn weight(&self) -> Weight {
        let weights = self.targets.iter().map(|target| target.weight);
        weights.min().unwrap_or(Weight::Optional)
    }

    fn endpoints(&self) -> impl Iterator<Item = Endpoint> {
        let of = |target: &LifelineTarget| target.endpoints(self.addresses.iter().copied());
        self.targets.iter().flat_map(of)
    }

    fn due(&self, urgent: bool) -> Duration {
        let Some((when, outcome)) = &self.last else {
            return Duration::ZERO;
        };
        let pause = match (self.weight(), outcome) {
            (Weight::Control, _) if urgent => URGENT,
            (_, Ok(_)) => REFRESH,
            (Weight::Optional, Err(_)) => RETRY_OPTIONAL,
            (_, Err(_)) => RETRY,
        };
        *when + pause
    }
}

impl Lookups {
    /// Replaces what is to be looked up. Names that stay keep their time, new ones are due.
    pub fn set(&mut self, targets: impl IntoIterator<Item = LifelineTarget>) {
        let mut before = std::mem::take(&mut self.names);
        for target in targets {
            if self.names.len() >= MAX_NAMES && !self.names.contains_key(&target.host) {
                continue;
            }
            let name = self.names.entry(target.host.clone()).or_insert(NameLookup {
                targets: Vec::new(),
                running: false,
                last: None,
                addresses: Vec::new(),
            });
            name.targets.push(target);
        }
        for (host, name) in &mut self.names {
            if let Some(known) = before.remove(host) {
                name.running = known.running;
                name.addresses = known.addresses;
                // What is wanted of it besides has no address yet.
                name.last = known.last.filter(|_| known.targets == name.targets);
            }
        }
    }

    /// The names to look up now; each counts as running until [`Lookups::done`].
    pub fn start(&mut self, urgent: bool, now: Duration) -> Vec<String> {
        let due = self
            .names
            .iter_mut()
            .filter(|(_, name)| !name.running && name.due(urgent) <= now);
        due.map(|(host, name)| {
            name.running = true;
            host.clone()
        })
        .collect()
    }

    /// Takes what a look-up gave; the endpoints that follow. A name that is no longer wanted gives none.
    pub fn done(&mut self, host: &str, outcome: Result<Vec<IpAddr>, String>, now: Duration) -> Vec<Endpoint> {
        let Some(name) = self.names.get_mut(host) else {
            return Vec::new();
        };
        name.running = false;
        let endpoints = outcome.map(|addresses| {
            if addresses.is_empty() {
                return Vec::new();
            }
            name.addresses = addresses;
            name.endpoints().collect()
        });
        let found = match endpoints {
            Ok(found) if found.is_empty() => Err(format!("{host} has no address")),
            other => other,
        };
        name.last = Some((now, found.as_ref().map(Vec::len).map_err(Clone::clone)));
        found.unwrap_or_default()
    }

    /// How long until a name that is not running is due.
    pub fn wait(&self, urgent: bool, now: Duration) -> Duration {
        let idle = self.names.values().filter(|name| !name.running);
        let next = idle.map(|name| name.due(urgent)).min();
        next.map_or(REFRESH, |next| next.saturating_sub(now))
    }

    /// Whether every name of the control channel was tried.
    pub fn control_was_tried(&self) -> bool {
        let mut control = self
            .names
            .values()
            .filter(|name| name.weight() == Weight::Control);
        control.all(|name| name.last.is_some())
    }

    /// Where the control channel is, as its names resolved last.
    pub fn control(&self) -> Vec<Endpoint> {
        let names = self.names.values();
        let control = names.filter(|name| name.weight() == Weight::Control);
        let endpoints = control.flat_map(NameLookup::endpoints);
        endpoints
            .filter(|endpoint| endpoint.purpose == Purpose::DataEndpoint)
            .collect()
    }

    /// All that is wanted for `purpose`, as far as it has resolved.
    pub fn confinement(&self, purpose: Purpose) -> Confinement {
        let mut confinement = Confinement {
            purpose,
            kept: Vec::new(),
            ports: Vec::new(),
        };
        for name in self.names.values() {
            let targets = name.targets.iter().filter(|target| target.purpose == purpose);
            for target in targets {
                if name.addresses.is_empty() {
                    confinement.ports.extend(&target.ports);
                }
                let endpoints = target.endpoints(name.addresses.iter().copied());
                confinement.kept.extend(endpoints);
            }
        }
        confinement
    }

    /// How many endpoints the last look-ups gave.
    pub fn endpoints(&self) -> usize {
        let outcomes = self.names.values().filter_map(|name| name.last.as_ref());
        outcomes.filter_map(|(_, outcome)| outcome.as_ref().ok()).sum()
    }

    /// Why names did not resolve, one sentence each.
    pub fn unresolved(&self) -> Vec<String> {
        let outcomes = self.names.values().filter_map(|name| name.last.as_ref());
        outcomes
            .filter_map(|(_, outcome)| outcome.as_ref().err().cloned())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quarantine::orders::order::Protocol;

    fn target(purpose: Purpose, weight: Weight, host: &str) -> LifelineTarget {
        LifelineTarget {
            purpose,
            weight,
            host: host.into(),
            below: false,
            ports: vec![(Protocol::Tcp, 443)],
        }
    }

    fn three() -> Vec<LifelineTarget> {
        vec![
            target(Purpose::DataEndpoint, Weight::Control, "control"),
            target(Purpose::Ntp, Weight::Needed, "needed"),
            target(Purpose::Logs, Weight::Optional, "optional"),
        ]
    }

    #[test]
    fn a_name_that_is_wanted_for_more_is_looked_up_at_once() {
        let mut lookups = Lookups::default();
        let resolver = target(Purpose::Dns, Weight::Needed, "192.0.2.1");
        lookups.set([resolver.clone()]);
        lookups.start(false, s(0));
        lookups.done("192.0.2.1", address(), s(0));
        lookups.set([resolver.clone()]);
        assert_eq!(lookups.start(false, s(1)), [""; 0]);
        let server = target(Purpose::Ntp, Weight::Needed, "192.0.2.1");
        lookups.set([resolver, server]);
        assert_eq!(lookups.start(false, s(1)), ["192.0.2.1"]);
        assert_eq!(lookups.done("192.0.2.1", address(), s(1)).len(), 2);
    }

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn address() -> Result<Vec<IpAddr>, String> {
        Ok(vec!["192.0.2.1".parse().unwrap()])
    }

    #[test]
    fn a_name_that_never_resolved_keeps_what_is_known_at_its_ports() {
        let mut lookups = Lookups::default();
        lookups.set(three());
        lookups.done("control", address(), s(0));
        lookups.done("control", Err("dead".into()), s(9));
        let control = lookups.confinement(Purpose::DataEndpoint);
        assert_eq!((control.kept.len(), control.ports.len()), (1, 0), "{control:?}");
        assert_eq!(control.kept, lookups.control());
        let logs = lookups.confinement(Purpose::Logs);
        assert_eq!((logs.kept.len(), logs.ports), (0, vec![(Protocol::Tcp, 443)]));
        let storage = lookups.confinement(Purpose::Storage);
        assert!(storage.kept.is_empty() && storage.ports.is_empty());
    }

    #[test]
    fn a_name_that_hangs_or_fails_holds_up_no_other() {
        let mut lookups = Lookups::default();
        lookups.set(three());
        assert_eq!(lookups.start(false, s(0)), ["control", "needed", "optional"]);
        assert!(!lookups.control_was_tried());
        assert_eq!(lookups.done("control", address(), s(1)).len(), 1);
        assert!(lookups.control_was_tried());
        assert!(lookups.done("optional", Err("it failed".into()), s(1)).is_empty());
        assert_eq!(lookups.unresolved(), ["it failed"]);
        assert_eq!(lookups.endpoints(), 1);
        // "needed" hangs for ever: the others keep their time, and it is not asked again.
        assert_eq!(lookups.wait(false, s(1)), s(60));
        assert_eq!(lookups.start(false, s(60)), [""; 0]);
        assert_eq!(lookups.start(false, s(61)), ["control", "optional"]);
    }

    #[test]
    fn what_failed_is_asked_again_by_its_weight() {
        let mut lookups = Lookups::default();
        lookups.set(three());
        lookups.start(false, s(0));
        for host in ["control", "needed", "optional"] {
            lookups.done(host, Err("no".into()), s(0));
        }
        assert_eq!(lookups.start(false, s(5)), ["control", "needed"]);
        assert_eq!(lookups.start(false, s(59)), [""; 0]);
        assert_eq!(lookups.start(false, s(60)), ["optional"]);
    }

    #[test]
    fn a_broken_channel_is_looked_up_every_few_seconds() {
        let mut lookups = Lookups::default();
        lookups.set(three());
        lookups.start(false, s(0));
        for host in ["control", "needed", "optional"] {
            lookups.done(host, address(), s(0));
        }
        assert_eq!(lookups.start(false, s(10)), [""; 0]);
        assert_eq!(lookups.start(true, s(10)), ["control"]);
        lookups.done("control", address(), s(10));
        assert_eq!(lookups.wait(true, s(10)), s(3));
        assert_eq!(lookups.start(true, s(12)), [""; 0]);
        assert_eq!(lookups.start(true, s(13)), ["control"]);
    }

    #[test]
    fn new_names_are_due_and_old_ones_keep_their_time() {
        let mut lookups = Lookups::default();
        lookups.set(three());
        lookups.start(false, s(0));
        lookups.done("control", address(), s(0));
        let mut more = three();
        more.remove(1);
        more.push(target(Purpose::Tunnel, Weight::Optional, "new"));
        lookups.set(more);
        assert!(
            lookups.done("needed", address(), s(1)).is_empty(),
            "not wanted any more"
        );
        assert_eq!(lookups.start(false, s(1)), ["new"]);
    }

    #[test]
    fn one_name_may_serve_several_purposes_and_counts_by_the_heaviest() {
        let mut lookups = Lookups::default();
        lookups.set([
            target(Purpose::Deployments, Weight::Optional, "x"),
            target(Purpose::DataEndpoint, Weight::Control, "x"),
        ]);
        assert_eq!(lookups.start(false, s(0)), ["x"]);
        let found = lookups.done("x", address(), s(0));
        let purposes: Vec<_> = found.iter().map(|endpoint| endpoint.purpose).collect();
        assert_eq!(purposes, [Purpose::Deployments, Purpose::DataEndpoint]);
        assert_eq!(lookups.start(true, s(3)), ["x"]);
    }

    #[test]
    fn an_answer_without_a_usable_address_is_a_failure() {
        let mut lookups = Lookups::default();
        lookups.set(three());
        lookups.start(false, s(0));
        let nobody = Ok(vec!["224.0.0.1".parse().unwrap()]);
        assert!(lookups.done("control", nobody, s(0)).is_empty());
        assert_eq!(lookups.unresolved(), ["control has no address"]);
    }

    #[test]
    fn names_are_bounded() {
        let mut lookups = Lookups::default();
        let many = (0..500).map(|n| target(Purpose::Ntp, Weight::Needed, &format!("n{n}")));
        lookups.set(many);
        assert_eq!(lookups.start(false, s(0)).len(), MAX_NAMES);
    }
}
