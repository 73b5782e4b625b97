//! A packet filter that keeps the kernel's semantics: whole transactions, generations, tables, sets with time-outs, listings
//! in nft's JSON, chains that are read rule by rule for a packet. It fails on demand.
//!
//! The rules are those that enforcement hands over as data; what a statement means is read here anew, and a statement that is
//! not understood fails the run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use edgewarden::observe::decode::LinkKind;
use edgewarden::observe::interval::Counters;
use edgewarden::observe::link::Link;
use edgewarden::observe::way::InterfaceKind;
use edgewarden::quarantine::ports::{CanaryFate, PacketFilter};
use edgewarden::quarantine::proof::obstacle::Obstacle;
use edgewarden::quarantine::ruleset::verify::{Comparison, Listings, compare};
use edgewarden::quarantine::ruleset::{
    CarriedCounters, Chain, EgressDevice, Layer, Ruleset, SetElements, TABLE,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::world::{Failure, Shared};

/// A table as the kernel holds it.
#[derive(Debug, Clone, Default)]
pub(super) struct HeldTable {
    chains: Vec<HeldChain>,
    has_endpoints: bool,
    elements: SetElements,
}

#[derive(Debug, Clone)]
struct HeldChain {
    hook: String,
    policy: &'static str,
    devices: Vec<EgressDevice>,
    /// Comment and statement.
    rules: Vec<(String, String)>,
}

/// All tables of ours, and the generation.
#[derive(Debug, Clone, Default)]
pub(super) struct FakeKernel {
    pub(super) generation: u32,
    /// Somebody else edited our tables, and no pass has begun since.
    pub(super) is_edited: bool,
    /// Somebody else edited our tables since they were loaded.
    is_touched: bool,
    tables: BTreeMap<Layer, HeldTable>,
}

impl HeldChain {
    fn of(chain: &Chain) -> Self {
        let rules = chain.rules.iter();
        Self {
            hook: chain.hook.to_owned(),
            policy: chain.policy,
            devices: chain.devices.clone(),
            rules: rules
                .map(|rule| (rule.comment.clone(), rule.statement.clone()))
                .collect(),
        }
    }

    fn listed(&self, objects: &mut Vec<Value>) {
        let hook = &self.hook;
        objects.push(json!({"chain": {"name": hook, "hook": hook, "type": "filter", "policy": self.policy}}));
        for (comment, statement) in &self.rules {
            let verdict = statement.rsplit(' ').next().unwrap_or_default();
            objects.push(json!({"rule": {"chain": hook, "comment": comment,
                "expr": [{"statement": statement}, {verdict: null}]}}));
        }
    }
}

impl HeldTable {
    fn listed(&self, now: Timestamp) -> Value {
        let mut objects = Vec::new();
        self.chains.iter().for_each(|chain| chain.listed(&mut objects));
        let live = self.elements.clone().live(now);
        for (suffix, v4) in [("4", true), ("6", false)] {
            let endpoints = live
                .endpoints
                .iter()
                .filter(|(address, ..)| address.is_ipv4() == v4);
            let endpoints: Vec<Value> = endpoints
                .map(|(address, protocol, port)| json!({"concat": [address, protocol.to_string(), port]}))
                .collect();
            if self.has_endpoints {
                objects.push(json!({"set": {"name": format!("endpoints{suffix}"), "elem": endpoints}}));
            }
            let timed = |value: Value, expires: &Option<Timestamp>| match expires {
                None => value,
                Some(end) => {
                    json!({"elem": {"val": value, "expires": end.duration_since(now).as_secs() + 1}})
                }
            };
            let hosts = live.hosts.iter().filter(|(host, _)| host.is_ipv4() == v4);
            let hosts: Vec<Value> = hosts.map(|(host, expires)| timed(json!(host), expires)).collect();
            objects.push(json!({"set": {"name": format!("hosts{suffix}"), "elem": hosts}}));
        }
        json!({"nftables": objects})
    }
}

impl FakeKernel {
    /// Whether any table of ours is there.
    pub(super) fn has_tables(&self) -> bool {
        !self.tables.is_empty()
    }

    fn changed(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    fn load(&mut self, ruleset: &Ruleset, present: &BTreeSet<Layer>) -> Result<(), Obstacle> {
        let refused = |what: String| Obstacle::Refused { complaint: what };
        if let Some(missing) = present.iter().find(|layer| !self.tables.contains_key(layer)) {
            return Err(refused(format!(
                "delete table {missing} {TABLE}: No such file or directory"
            )));
        }
        let left = |layer: &Layer| self.tables.contains_key(layer) && !present.contains(layer);
        if let Some(table) = ruleset.tables.iter().find(|table| left(&table.layer)) {
            return Err(refused(format!(
                "table {} {TABLE} has its chains already",
                table.layer
            )));
        }
        if present.is_empty() && ruleset.tables.is_empty() {
            return Ok(());
        }
        present.iter().for_each(|layer| drop(self.tables.remove(layer)));
        for table in &ruleset.tables {
            let held = HeldTable {
                chains: table.chains.iter().map(HeldChain::of).collect(),
                has_endpoints: table.has_endpoints,
                elements: ruleset.elements.clone(),
            };
            self.tables.insert(table.layer, held);
        }
        self.is_touched = false;
        self.changed();
        Ok(())
    }

    /// The edits of [`super::super::reference::EDITS`], by their index.
    pub(super) fn other_hand(&mut self, edit: usize) {
        let inet = |kernel: &mut Self, change: &dyn Fn(&mut HeldChain)| {
            let output = kernel
                .tables
                .get_mut(&Layer::Inet)
                .and_then(|table| table.chains.iter_mut().find(|chain| chain.hook == "output"));
            output.map(change).is_some()
        };
        let done = match edit {
            0 => {
                self.tables.clear();
                true
            }
            1 => self.tables.remove(&Layer::Inet).is_some(),
            2 => inet(self, &|output| output.rules.clear()),
            3 => inet(self, &|output| {
                output.rules.insert(0, (String::new(), "accept".into()));
            }),
            _ => {
                self.tables.entry(Layer::Inet).or_default();
                true
            }
        };
        if done {
            self.changed();
            self.is_edited = true;
            self.is_touched = true;
        }
    }

    /// The first rule of what leaves lets everything pass, under its old comment.
    fn open_quietly(&mut self) {
        let chains = self.tables.values_mut().flat_map(|table| &mut table.chains);
        let rules = chains.filter(|chain| chain.hook == "output").flat_map(|chain| &mut chain.rules);
        for (_, statement) in rules.take(1) {
            *statement = "accept".to_owned();
            self.is_touched = true;
        }
        self.changed();
    }

    /// Whether a UDP datagram of ours leaves to there.
    pub(super) fn passes(&self, to: SocketAddr, now: Timestamp) -> bool {
        let Some(table) = self.tables.get(&Layer::Inet) else {
            return true;
        };
        let Some(output) = table.chains.iter().find(|chain| chain.hook == "output") else {
            return true;
        };
        let live = table.elements.clone().live(now);
        let verdict = output.rules.iter().find_map(|(_, rule)| verdict(rule, to, &live));
        verdict.unwrap_or(output.policy == "accept")
    }
}

/// The verdict of one rule for a UDP datagram that leaves by an Ethernet interface from port 50,000; none when it does not
/// match.
fn verdict(rule: &str, to: SocketAddr, elements: &SetElements) -> Option<bool> {
    let accepts = match rule.rsplit(' ').next() {
        Some("accept") => true,
        Some("drop") => false,
        _ => panic!("a rule without verdict: {rule}"),
    };
    let (conditions, _) = rule.rsplit_once(' ').unwrap_or(("", rule));
    let conditions = conditions.split(" counter name ").next().unwrap_or_default();
    let conditions = conditions
        .strip_prefix("counter name ")
        .map_or(conditions, |_| "");
    let v4 = to.is_ipv4();
    let listed = |text: &str| -> Vec<u16> {
        let inner = text.trim_matches(['{', '}', ' ']);
        inner
            .split(',')
            .map(|port| port.trim().parse().unwrap())
            .collect()
    };
    let matches = match conditions {
        "" => true,
        "meta oiftype loopback" => false,
        "ip daddr @hosts4" | "ip6 daddr @hosts6" => elements.hosts.iter().any(|(host, _)| *host == to.ip()),
        "ip daddr @nets4" | "ip6 daddr @nets6" => elements.nets.iter().any(|(net, _)| net.contains(&to.ip())),
        text if text.ends_with("@endpoints4") || text.ends_with("@endpoints6") => {
            elements.endpoints.iter().any(|(address, protocol, port)| {
                (*address, protocol.to_string().as_str(), *port) == (to.ip(), "udp", to.port())
            })
        }
        // Answers, addresses of ours, other protocols.
        text if text.contains(" saddr ") || text.contains("sport") || text.contains("tcp ") => false,
        text if text.starts_with("tcp") || text.contains("icmp") => false,
        text if text.starts_with("udp dport") => {
            listed(text.trim_start_matches("udp dport")).contains(&to.port())
        }
        text => {
            let words: Vec<&str> = text.splitn(6, ' ').collect();
            let [family, "daddr", remote, protocol, "dport", ports] = words.as_slice() else {
                panic!("what does `{text}` mean?");
            };
            let net: ipnet::IpNet = remote.parse().unwrap();
            (*family == "ip") == v4
                && *protocol == "udp"
                && net.contains(&to.ip())
                && listed(ports).contains(&to.port())
        }
    };
    matches.then_some(accepts)
}

/// The enforcer's way to the fake kernel.
pub(super) struct FakeFilter(pub(super) Shared);

impl FakeFilter {
    fn silent() -> Obstacle {
        Obstacle::FilterSilent {
            why: "on purpose".into(),
        }
    }

    /// Fails if that was asked for; gives the world otherwise.
    fn ask<T>(&self, answer: impl FnOnce(&mut super::world::World) -> T) -> Result<T, Obstacle> {
        let mut world = self.0.lock().unwrap();
        if world.fails(Failure::Silent) {
            return Err(Self::silent());
        }
        Ok(answer(&mut world))
    }
}

impl PacketFilter for FakeFilter {
    async fn generation(&mut self) -> Result<u32, Obstacle> {
        self.ask(|world| world.kernel.generation)
    }

    async fn tables(&mut self) -> Result<BTreeSet<Layer>, Obstacle> {
        self.ask(|world| world.kernel.tables.keys().copied().collect())
    }

    async fn try_out(&mut self) -> Result<(), Obstacle> {
        let mut world = self.0.lock().unwrap();
        if world.fails(Failure::NftMissing) {
            return Err(Obstacle::NftMissing);
        }
        Ok(())
    }

    async fn compare(
        &mut self,
        layers: &BTreeSet<Layer>,
        wanted: &Arc<Ruleset>,
        also: Option<&Arc<Ruleset>>,
        now: Timestamp,
    ) -> Result<Comparison, Obstacle> {
        let mut world = self.0.lock().unwrap();
        if world.fails(Failure::NftMissing) {
            return Err(Obstacle::NftMissing);
        }
        if world.fails(Failure::Unlistable) && world.kernel.has_tables() {
            let why = "on purpose".into();
            return Err(Obstacle::NftUnreadable { why });
        }
        let clock = world.now().wall;
        let tables = world
            .kernel
            .tables
            .iter()
            .filter(|(layer, _)| layers.contains(layer));
        let listings: Listings = tables.map(|(layer, table)| (*layer, table.listed(clock))).collect();
        // Somebody edits after the reader has read.
        if world.fails(Failure::EditedWhileRead) {
            world.kernel.other_hand(3);
        }
        Ok(compare(wanted, listings, also.map(|also| &**also), now))
    }

    async fn load(
        &mut self,
        ruleset: &Arc<Ruleset>,
        present: &BTreeSet<Layer>,
        _counted: &CarriedCounters,
        _now: Timestamp,
    ) -> Result<(), Obstacle> {
        let mut world = self.0.lock().unwrap();
        let refused = |complaint: &str| Obstacle::Refused {
            complaint: complaint.into(),
        };
        if world.fails(Failure::NotPermitted) {
            return Err(Obstacle::NotPermitted);
        }
        let has = |layer| ruleset.tables.iter().any(|table| table.layer == layer);
        let refuses_layer =
            (world.lacks_egress && has(Layer::Netdev)) || (world.lacks_bridge && has(Layer::Bridge));
        if world.fails(Failure::Refused) || refuses_layer {
            return Err(refused("on purpose"));
        }
        world.kernel.load(ruleset, present)?;
        if world.fails(Failure::HalfReported) {
            let why = "killed after the kernel had it".into();
            return Err(Obstacle::NftUnreadable { why });
        }
        if world.fails(Failure::Elsewhere) {
            world.kernel.changed();
        }
        if world.fails(Failure::EditedAfterLoad) {
            world.kernel.open_quietly();
        }
        Ok(())
    }

    async fn only_ours(&mut self, _generation: u32) -> Result<bool, Obstacle> {
        self.ask(|world| !world.kernel.is_touched)
    }

    async fn change(
        &mut self,
        ruleset: &Arc<Ruleset>,
        _held: &Arc<Ruleset>,
        _now: Timestamp,
    ) -> Result<(), Obstacle> {
        let mut world = self.0.lock().unwrap();
        if world.fails(Failure::Refused) {
            let complaint = "on purpose".into();
            return Err(Obstacle::Refused { complaint });
        }
        for table in world.kernel.tables.values_mut() {
            table.elements = ruleset.elements.clone();
        }
        world.kernel.changed();
        if world.fails(Failure::Elsewhere) {
            world.kernel.changed();
        }
        Ok(())
    }

    async fn counted(&mut self) -> Result<CarriedCounters, Obstacle> {
        self.ask(|_| CarriedCounters::default())
    }

    async fn egress_devices(&mut self) -> Result<BTreeSet<String>, Obstacle> {
        self.ask(|world| {
            let chains = world.kernel.tables.get(&Layer::Netdev).map(|table| &table.chains);
            let devices = chains.into_iter().flatten().flat_map(|chain| &chain.devices);
            devices.map(|device| device.name.clone()).collect()
        })
    }

    async fn interfaces(&mut self) -> Result<Vec<Link>, String> {
        let world = self.0.lock().unwrap();
        Ok(vec![
            link("eth0", 2, InterfaceKind::Other),
            link("br0", world.bridge_index, InterfaceKind::Bridge),
        ])
    }

    async fn send_canary(&mut self, to: SocketAddr) -> CanaryFate {
        let mut world = self.0.lock().unwrap();
        if world.fails(Failure::CanaryLeaves) {
            return CanaryFate::Left;
        }
        let now = world.now().wall;
        if world.kernel.passes(to, now) {
            CanaryFate::Left
        } else {
            CanaryFate::Refused
        }
    }
}

fn link(name: &str, index: u32, device: InterfaceKind) -> Link {
    Link {
        name: name.into(),
        index,
        kind: LinkKind::Ethernet,
        hardware: Some([2, 0, 0, 0, 0, 1]),
        loopback: false,
        up: true,
        running: true,
        addresses: vec![IpAddr::from([198, 51, 100, 2])],
        broadcasts: Vec::new(),
        networks: Vec::new(),
        master: None,
        lower: None,
        device,
        counters: Counters::default(),
    }
}
