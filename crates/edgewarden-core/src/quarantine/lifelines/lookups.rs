//! When which lifeline's name is looked up.
//!
//! In: the targets, what each look-up gave, which names programs were seen to ask for, `now` as uptime, whether it is urgent.
//! Out: the names that are due, the addresses that follow with who says so, what to tell. Pure: the resolver is asked by
//! `agent::addresses`.
//! Invariants: names do not wait for each other; a name is never asked twice at a time, because a resolver that is
//! silent holds each question for half a minute; what others ask for makes a bounded number of questions, all names together.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::address_book::Confinement;
use super::dns_questions::{is_below, plain};
use super::lifeline::{Endpoint, LifelineTarget, Purpose, Weight};
use super::origin::{Origin, OriginKind, Sighting};
use crate::Arrange;

/// From one look-up of a name to the next. IoT endpoints have a time to live of a minute.
const REFRESH: Duration = Duration::from_secs(60);
/// After a name did not resolve.
const RETRY: Duration = Duration::from_secs(5);
/// After an optional name did not resolve: a Region may not have it, and nothing depends on it.
const RETRY_OPTIONAL: Duration = Duration::from_secs(60);
/// While the control channel is broken behind our rules: its address may have changed.
const URGENT: Duration = Duration::from_secs(3);
/// A name that a program asks for is looked up at once, but not sooner than this after the last time: any program can ask
/// without end.
const HURRIED: Duration = Duration::from_secs(2);
/// Names below a lifeline's that are known at a time, because programs asked for them: the buckets of a deployment.
const MAX_ASKED: usize = 16;
/// How long such a name keeps its place after it was looked up: with the bound above that is one question in two seconds.
const ASKED_KEPT: Duration = Duration::from_secs(30);
/// From one hurried look-up to the next, of all names but the control channel's: it is the owner's traffic, and others make it.
const HURRIED_PAUSE: Duration = Duration::from_secs(2);
/// Hurried look-ups at once after a rest: the names of a deployment.
const HURRIED_BURST: u32 = 16;
/// Addresses taken of one look-up: three times what AWS gives, and most of what is kept for a purpose with four ports.
const MAX_ADDRESSES: usize = 24;
/// Names at a time: all that the configuration, the host and the nucleus can make (24 resolvers, 24 and 64 time
/// servers, ten names of AWS).
const MAX_NAMES: usize = 128;

/// The names and what is known of each.
#[derive(Debug, Default)]
pub struct Lookups {
    names: BTreeMap<String, NameLookup>,
    /// When what was hurried until now is paid off, at one in [`HURRIED_PAUSE`].
    paid: Duration,
}

#[derive(Debug)]
struct NameLookup {
    /// What the name is for; several purposes may share it.
    targets: Vec<LifelineTarget>,
    running: bool,
    /// It runs sooner than it was due, because a program asked for it.
    is_hurried: bool,
    /// When the last look-up ended, and with how many endpoints or why not. One that was hurried and in vain is none: it has asked one
    /// resolver of several, and whoever hurries a name must not keep the others from being asked.
    last: Option<(Duration, Result<usize, String>)>,
    /// When the last of any kind ended.
    ended: Option<Duration>,
    /// What the last look-up gave that was not in vain.
    addresses: Vec<IpAddr>,
    /// When a program was last seen to ask for it.
    asked: Option<Duration>,
    /// It is there only because of that.
    is_passing: bool,
}

impl NameLookup {
    fn new(is_passing: bool) -> Self {
        Self {
            targets: Vec::new(),
            running: false,
            is_hurried: false,
            last: None,
            ended: None,
            addresses: Vec::new(),
            asked: None,
            is_passing,
        }
    }

    fn weight(&self) -> Weight {
        let weights = self.targets.iter().map(|target| target.weight);
        weights.min().unwrap_or(Weight::Optional)
    }

    fn endpoints(&self) -> impl Iterator<Item = Endpoint> {
        let of = |target: &LifelineTarget| target.endpoints(self.addresses.iter().copied());
        self.targets.iter().flat_map(of)
    }

    /// When it is due by itself; a name that is there because programs ask for it never is.
    fn due(&self, urgent: bool) -> Duration {
        if self.is_passing {
            return Duration::MAX;
        }
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

    /// When it is due because a program asked for it; `paid`: when there is room for one more of those that share it.
    fn hurried(&self, paid: Duration) -> Option<Duration> {
        let asked = self.asked?;
        let own = match self.ended {
            None => asked,
            Some(when) => (asked > when).then(|| when + HURRIED)?,
        };
        Some(if self.weight() == Weight::Control {
            own
        } else {
            own.max(paid)
        })
    }

    /// The addresses of the last look-up, each with who says so.
    fn sightings(&self) -> Vec<Sighting> {
        let of = |target: &LifelineTarget| {
            let origin = if self.is_passing {
                Origin::new(OriginKind::AskedFor, &target.host)
            } else {
                target.origin()
            };
            let endpoints = target.endpoints(self.addresses.iter().copied()).into_iter();
            endpoints.map(move |endpoint| Sighting {
                endpoint,
                origin: origin.clone(),
            })
        };
        self.targets.iter().flat_map(of).collect()
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
            let name = self.names.entry(target.host.clone());
            let name = name.or_insert_with(|| NameLookup::new(false));
            name.targets.push(target);
        }
        for (host, name) in &mut self.names {
            if let Some(known) = before.remove(host) {
                name.running = known.running;
                name.addresses = known.addresses;
                (name.asked, name.ended) = (known.asked, known.ended);
                // What is wanted of it besides has no address yet.
                name.last = known.last.filter(|_| known.targets == name.targets);
            }
        }
        for (host, mut name) in before {
            let targets = self.targets_below(&host);
            if name.is_passing && !targets.is_empty() {
                name.targets = targets;
                self.names.insert(host, name);
            }
        }
    }

    /// A program was seen to ask for this name, as it is compared: a lifeline's name is looked up soon, and one below a
    /// lifeline's that has such, as long as there is room.
    pub fn hurry(&mut self, asked: &str, now: Duration) {
        let mut is_known = false;
        for (_, name) in self.names.iter_mut().filter(|(host, _)| plain(host) == asked) {
            name.asked = Some(now);
            is_known = true;
        }
        let passing = self.names.values().filter(|name| name.is_passing).count();
        if is_known || passing >= MAX_ASKED {
            return;
        }
        let targets = self.targets_below(asked);
        if !targets.is_empty() {
            let mut name = NameLookup::new(true);
            (name.targets, name.asked) = (targets, Some(now));
            self.names.insert(asked.to_owned(), name);
        }
    }

    /// What a name below a lifeline's is for.
    fn targets_below(&self, asked: &str) -> Vec<LifelineTarget> {
        let fixed = self.names.values().filter(|name| !name.is_passing);
        let above = fixed.flat_map(|name| &name.targets);
        let above = above.filter(|target| target.below && is_below(asked, &plain(&target.host)));
        let of = |target: &LifelineTarget| LifelineTarget {
            host: asked.to_owned(),
            below: false,
            ..target.clone()
        };
        above.map(of).collect()
    }

    /// The names to look up now; each counts as running until [`Lookups::done`].
    pub fn start(&mut self, urgent: bool, now: Duration) -> Vec<String> {
        self.names.retain(|_, name| {
            let is_over = |last: &(Duration, _)| now >= last.0 + ASKED_KEPT && name.asked <= Some(last.0);
            name.running || !name.is_passing || !name.last.as_ref().is_some_and(is_over)
        });
        let mut due: Vec<String> = Vec::new();
        for (host, name) in self.names.iter_mut().filter(|(_, name)| !name.running) {
            if name.due(urgent) <= now {
                (name.running, name.is_hurried) = (true, false);
                due.push(host.clone());
            }
        }
        due.extend(self.start_hurried(now));
        due
    }

    /// Those that programs asked for and that there is room for: first the control channel's, then who has waited for longest.
    fn start_hurried(&mut self, now: Duration) -> Vec<String> {
        let mut paid = self.paid;
        let idle = self.names.iter_mut().filter(|(_, name)| !name.running);
        let mut asked: Vec<_> = idle
            .filter(|(_, name)| name.hurried(Duration::ZERO).is_some_and(|due| due <= now))
            .collect();
        asked.arrange_by_key(|(_, name)| (name.weight(), name.ended));
        let mut started = Vec::new();
        for (host, name) in asked {
            if name.hurried(room_after(paid)).is_some_and(|due| due <= now) {
                (name.running, name.is_hurried) = (true, true);
                if name.weight() != Weight::Control {
                    paid = paid.max(now) + HURRIED_PAUSE;
                }
                started.push(host.clone());
            }
        }
        self.paid = paid;
        started
    }

    /// Whether this look-up that runs was hurried by a program: one resolver is enough for it.
    pub fn is_hurried(&self, host: &str) -> bool {
        self.names.get(host).is_some_and(|name| name.is_hurried)
    }

    /// Takes what a look-up gave; the endpoints that follow. A name that is no longer wanted gives none.
    pub fn done(&mut self, host: &str, outcome: Result<Vec<IpAddr>, String>, now: Duration) -> Vec<Sighting> {
        let Some(name) = self.names.get_mut(host) else {
            return Vec::new();
        };
        name.running = false;
        let endpoints = outcome.map(|addresses| {
            if addresses.is_empty() {
                return Vec::new();
            }
            name.addresses = of_each_family(&addresses);
            name.sightings()
        });
        let found = match endpoints {
            Ok(found) if found.is_empty() => Err(format!("{host} has no address")),
            other => other,
        };
        name.ended = Some(now);
        if found.is_ok() || !name.is_hurried || name.is_passing {
            name.last = Some((now, found.as_ref().map(Vec::len).map_err(Clone::clone)));
        }
        found.unwrap_or_default()
    }

    /// How long until a name that is not running is due.
    pub fn wait(&self, urgent: bool, now: Duration) -> Duration {
        let idle = self.names.values().filter(|name| !name.running);
        let room = room_after(self.paid);
        let due = |name: &NameLookup| {
            name.hurried(room)
                .map_or(name.due(urgent), |due| due.min(name.due(urgent)))
        };
        let next = idle.map(due).min();
        next.map_or(REFRESH, |next| next.saturating_sub(now).min(REFRESH))
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
        // What programs ask for is their business.
        let own = self.names.values().filter(|name| !name.is_passing);
        let outcomes = own.filter_map(|name| name.last.as_ref());
        outcomes
            .filter_map(|(_, outcome)| outcome.as_ref().err().cloned())
            .collect()
    }
}

/// When there is room for another hurried look-up.
fn room_after(paid: Duration) -> Duration {
    paid.saturating_sub(HURRIED_PAUSE * (HURRIED_BURST - 1))
}

/// As many of these as are taken, in their order: half of the room is each family's, and what one leaves is the other's. No
/// number goes before another, so that the rest has its turn where resolvers change the order.
fn of_each_family(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let (mut fours, mut sixes): (Vec<IpAddr>, Vec<IpAddr>) = (Vec::new(), Vec::new());
    for address in addresses.iter().map(IpAddr::to_canonical) {
        let family = if address.is_ipv4() { &mut fours } else { &mut sixes };
        if !family.contains(&address) {
            family.push(address);
        }
    }
    let half = MAX_ADDRESSES / 2;
    let room = MAX_ADDRESSES - sixes.len().min(half);
    fours.truncate(room);
    sixes.truncate(MAX_ADDRESSES - fours.len());
    fours.append(&mut sixes);
    fours
}

#[cfg(test)]
#[path = "lookups_tests.rs"]
mod tests;
