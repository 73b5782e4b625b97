//! A packet filter that keeps the kernel's semantics: whole transactions, generations, tables, sets with time-outs, listings,
//! chains that are read rule by rule for a packet. It fails on demand.
//!
//! The rules are those that enforcement hands over as data; what a statement means is read here anew, and a statement that is
//! not understood fails the run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use edgewarden::moment::Now;
use edgewarden::observe::link::Link;
use edgewarden::observe::way::InterfaceKind;
use edgewarden::quarantine::lifelines::tunnels::Reached;
use edgewarden::quarantine::lifelines::ways::{FoundWays, Way};
use edgewarden::quarantine::plan::tracked::Crowd;
use edgewarden::quarantine::ports::{FilterChange, PacketFilter, StoodIn};
use edgewarden::quarantine::proof::canary::CanaryFate;
use edgewarden::quarantine::proof::obstacle::Obstacle;
use edgewarden::quarantine::ruleset::verify::{Comparison, ListedElements, ListedTable, Listings, compare};
use edgewarden::quarantine::ruleset::{CarriedCounters, Lack, Layer, Ruleset, SetElements, TABLE, Table};
use jiff::Timestamp;
use nf_tables::{ChainContents, Devices, Element, Expression, TableContents, Value};

use super::verdict::verdict;
use super::world::{Failure, Shared, link, way_to};

/// A table as the kernel holds it.
#[derive(Debug, Clone)]
pub(super) struct HeldTable {
    contents: TableContents,
    /// What each rule says, by chain.
    statements: BTreeMap<String, Vec<String>>,
    has_endpoints: bool,
    elements: SetElements,
}

/// All tables of ours, and the generation.
#[derive(Debug, Clone, Default)]
pub(super) struct FakeKernel {
    pub(super) generation: u32,
    /// Somebody else edited our tables, and no pass has begun since.
    pub(super) is_edited: bool,
    /// How often single rules were changed.
    pub(super) rule_changes: usize,
    /// What is put back at once when somebody edits, and whether it was.
    pub(super) standby: Option<Arc<Ruleset>>,
    stood_in: Option<StoodIn>,
    /// The edit, as the kernel tells of it.
    pub(super) told: Option<FilterChange>,
    tables: BTreeMap<Layer, HeldTable>,
}

impl HeldTable {
    fn of(table: &Table, ruleset: &Ruleset) -> Self {
        let says = |chain: &edgewarden::quarantine::ruleset::Chain| {
            let rules = chain.rules.iter();
            let said = rules.map(|rule| rule.statement.clone()).collect();
            (chain.name.to_owned(), said)
        };
        Self {
            contents: ruleset.contents(table, &CarriedCounters::default()),
            statements: table.chains.iter().map(says).collect(),
            has_endpoints: table.has_endpoints,
            elements: ruleset.elements.clone(),
        }
    }

    /// One of somebody else's making.
    fn empty(layer: Layer) -> Self {
        let table = nf_tables::Table::new(edgewarden::quarantine::ruleset::own_table(layer).family, TABLE);
        Self {
            contents: TableContents::new(table),
            statements: BTreeMap::new(),
            has_endpoints: false,
            elements: SetElements::default(),
        }
    }

    fn chain(&mut self, name: &str) -> Option<(&mut ChainContents, &mut Vec<String>)> {
        let chain = self
            .contents
            .chains
            .iter_mut()
            .find(|chain| chain.chain.name == name)?;
        Some((chain, self.statements.entry(name.to_owned()).or_default()))
    }

    fn listed(&self, now: Timestamp) -> ListedTable {
        let live = self.elements.clone().live(now);
        let mut elements = ListedElements::default();
        let octets = |address: IpAddr| match address {
            IpAddr::V4(address) => Value::from(address.octets()),
            IpAddr::V6(address) => Value::from(address.octets()),
        };
        let family = |address: IpAddr| if address.is_ipv4() { '4' } else { '6' };
        for (set, keys) in [("endpoints", &live.endpoints), ("nucleus", &live.nucleus)] {
            for (address, protocol, port) in keys.iter().filter(|_| self.has_endpoints) {
                let number = if protocol.to_string() == "tcp" { 6 } else { 17 };
                let key = Value::concatenation(&[octets(*address).bytes(), &[number], &port.to_be_bytes()]);
                let set = format!("{set}{}", family(*address));
                elements.take(&set, Element::new(key.unwrap()));
            }
        }
        let has_ways = self.has_endpoints && self.contents.table.family == nf_tables::Family::Inet;
        for way in live.ways.iter().filter(|_| has_ways) {
            let (address, hop) = (octets(way.address), octets(way.next_hop));
            let key = Value::concatenation(&[address.bytes(), way.interface.bytes(), hop.bytes()]);
            elements.take(
                &format!("ways{}", family(way.address)),
                Element::new(key.unwrap()),
            );
        }
        let has_bearers = self.contents.table.family == nf_tables::Family::Netdev;
        for (v6, bearer) in live.bearers.iter().filter(|_| has_bearers) {
            let key = Value::concatenation(&[bearer.interface.bytes(), &bearer.hardware]);
            let set = if *v6 { "bearers6" } else { "bearers4" };
            elements.take(set, Element::new(key.unwrap()));
        }
        for hardware in live.senders.iter().filter(|_| has_bearers) {
            elements.take("senders", Element::new(*hardware));
        }
        for bearer in live.hardware.iter().filter(|_| has_bearers) {
            let key = Value::concatenation(&[bearer.interface.bytes(), &bearer.hardware]);
            elements.take("hardware", Element::new(key.unwrap()));
        }
        for (interface, address) in live.homes.iter().filter(|_| has_bearers) {
            let key = Value::concatenation(&[interface.bytes().as_slice(), octets(*address).bytes()]);
            elements.take(&format!("homes{}", family(*address)), Element::new(key.unwrap()));
        }
        for (address, hardware) in live.called.iter().filter(|_| has_bearers) {
            let key = Value::concatenation(&[octets(*address).bytes(), hardware.as_slice()]);
            elements.take(&format!("called{}", family(*address)), Element::new(key.unwrap()));
        }
        for (interface, number) in live.tags.iter().filter(|_| has_bearers) {
            let key = Value::concatenation(&[interface.bytes(), &number.to_be_bytes()]);
            elements.take("tags", Element::new(key.unwrap()));
        }
        for (host, expires) in live.hosts.iter() {
            let left = expires.map(|end| u64::try_from(end.duration_since(now).as_millis()).unwrap() + 1_000);
            let element = Element {
                expiration: left,
                ..Element::new(octets(*host)).with_timeout(left)
            };
            elements.take(&format!("hosts{}", family(*host)), element);
        }
        ListedTable::new(self.contents.clone(), elements)
    }
}

impl FakeKernel {
    /// The agent that made something stand by is gone.
    pub(super) fn restarts(&mut self) {
        self.standby = None;
        self.stood_in = None;
    }

    /// Whether any table of ours is there.
    pub(super) fn has_tables(&self) -> bool {
        !self.tables.is_empty()
    }

    fn changed(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    fn load(&mut self, ruleset: &Ruleset) {
        if self.tables.is_empty() && ruleset.tables.is_empty() {
            return;
        }
        self.standby = None;
        self.tables.clear();
        for table in &ruleset.tables {
            self.tables.insert(table.layer, HeldTable::of(table, ruleset));
        }
        self.changed();
    }

    /// Rules that are not alike are made anew; whoever says wrongly what is held is refused, as by a handle that is not there.
    fn change(&mut self, ruleset: &Ruleset, held: &Ruleset) -> Result<(), Obstacle> {
        for before in &held.tables {
            let known = self.tables.get(&before.layer).map(|table| &table.statements);
            if known != Some(&HeldTable::of(before, held).statements) {
                return Err(refused("no rule of that handle"));
            }
        }
        let is_wanted = |layer: &Layer| ruleset.tables.iter().any(|table| table.layer == *layer);
        self.tables.retain(|layer, _| is_wanted(layer));
        for table in &ruleset.tables {
            self.tables.insert(table.layer, HeldTable::of(table, ruleset));
        }
        self.rule_changes += usize::from(!ruleset.same_structure(held));
        self.changed();
        Ok(())
    }

    /// The edits of [`super::super::reference::EDITS`], by their index.
    pub(super) fn other_hand(&mut self, edit: usize) {
        let inet = |kernel: &mut Self, change: &dyn Fn(&mut ChainContents, &mut Vec<String>)| {
            let output = kernel.tables.get_mut(&Layer::Inet);
            let output = output.and_then(|table| table.chain("output"));
            output.map(|(chain, said)| change(chain, said)).is_some()
        };
        let done = match edit {
            0 => {
                self.tables.clear();
                true
            }
            1 => self.tables.remove(&Layer::Inet).is_some(),
            2 => inet(self, &|output, said| {
                output.rules.clear();
                said.clear();
            }),
            3 => inet(self, &|output, said| {
                let accepts = nf_tables::Rule::new(vec![Expression::accept()], "");
                output.rules.insert(0, accepts);
                said.insert(0, "accept".into());
            }),
            _ => {
                let layer = Layer::Inet;
                self.tables
                    .entry(layer)
                    .or_insert_with(|| HeldTable::empty(layer));
                true
            }
        };
        if !done {
            return;
        }
        self.changed();
        self.told = Some(FilterChange {
            generation: self.generation,
            pid: 1,
            name: "other".into(),
            touched: Some("edited".into()),
            is_ours: false,
        });
        let Some(ready) = self.standby.take() else {
            self.is_edited = true;
            return;
        };
        for table in &ready.tables {
            self.tables.insert(table.layer, HeldTable::of(table, &ready));
        }
        self.stood_in = self.told.clone().map(|after| StoodIn {
            after,
            counted: CarriedCounters::default(),
        });
        self.changed();
    }

    /// The first rule of what leaves lets everything pass, under its old comment.
    fn open_quietly(&mut self) {
        for table in self.tables.values_mut() {
            let Some((chain, said)) = table.chain("output") else {
                continue;
            };
            if let Some((rule, said)) = chain.rules.first_mut().zip(said.first_mut()) {
                rule.expressions = vec![Expression::accept()];
                "accept".clone_into(said);
            }
        }
        self.changed();
    }

    /// Whether a UDP datagram of ours leaves to there.
    pub(super) fn passes(&self, to: SocketAddr, now: Timestamp) -> bool {
        let Some(table) = self.tables.get(&Layer::Inet) else {
            return true;
        };
        let mut chains = table.contents.chains.iter();
        let Some(output) = chains.find(|chain| chain.chain.name == "output") else {
            return true;
        };
        let live = table.elements.clone().live(now);
        let said = table.statements.get("output").into_iter().flatten();
        let verdict = said.map(|rule| verdict(rule, to, &live)).find_map(|found| found);
        verdict.unwrap_or(output.chain.policy == Some(nf_tables::Policy::Accept))
    }
}

fn refused(complaint: &str) -> Obstacle {
    Obstacle::Refused {
        complaint: complaint.into(),
        lacks: Vec::new(),
    }
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

    fn note_settled(&mut self, _: u32) {
        // Here each transaction is complete when it counts.
    }

    async fn tables(&mut self) -> Result<BTreeSet<Layer>, Obstacle> {
        self.ask(|world| world.kernel.tables.keys().copied().collect())
    }

    async fn lacks(&mut self, _loudly: bool) -> Result<Vec<Lack>, Obstacle> {
        Ok(Vec::new())
    }

    async fn try_out(&mut self) -> Result<(), Obstacle> {
        let mut world = self.0.lock().unwrap();
        if world.fails(Failure::NotPermitted) {
            return Err(Obstacle::NotPermitted);
        }
        Ok(())
    }

    async fn compare(
        &mut self,
        layers: &BTreeSet<Layer>,
        wanted: &Arc<Ruleset>,
        before: Option<&Arc<Ruleset>>,
        now: Now,
    ) -> Result<Comparison, Obstacle> {
        let mut world = self.0.lock().unwrap();
        if world.fails(Failure::Unlistable) && world.kernel.has_tables() {
            let why = "on purpose".into();
            return Err(Obstacle::Unreadable { why });
        }
        let clock = world.now().wall;
        let tables = world
            .kernel
            .tables
            .iter()
            .filter(|(layer, _)| layers.contains(layer));
        let listings: Listings = tables
            .map(|(layer, table)| (*layer, table.listed(clock)))
            .collect();
        // Somebody edits after the reader has read.
        if world.fails(Failure::EditedWhileRead) {
            world.kernel.other_hand(3);
        }
        Ok(compare(
            wanted,
            &listings,
            before.map(|before| &**before),
            now.wall,
        ))
    }

    async fn load(
        &mut self,
        ruleset: &Arc<Ruleset>,
        _counted: &CarriedCounters,
        _now: Now,
    ) -> Result<(), Obstacle> {
        let mut world = self.0.lock().unwrap();
        if world.fails(Failure::NotPermitted) {
            return Err(Obstacle::NotPermitted);
        }
        let has = |layer| ruleset.tables.iter().any(|table| table.layer == layer);
        let refuses_layer =
            (world.lacks_egress && has(Layer::Netdev)) || (world.lacks_bridge && has(Layer::Bridge));
        if world.fails(Failure::Refused) || refuses_layer {
            return Err(refused("on purpose"));
        }
        world.kernel.load(ruleset);
        if world.fails(Failure::HalfReported) {
            let why = "killed after the kernel had it".into();
            return Err(Obstacle::Unreadable { why });
        }
        if world.fails(Failure::Elsewhere) {
            world.kernel.changed();
        }
        if world.fails(Failure::EditedAfterLoad) {
            world.kernel.open_quietly();
        }
        Ok(())
    }

    async fn change(
        &mut self,
        ruleset: &Arc<Ruleset>,
        held: &Arc<Ruleset>,
        _counted: &CarriedCounters,
        generation: u32,
        _now: Now,
    ) -> Result<(), Obstacle> {
        let mut world = self.0.lock().unwrap();
        if world.kernel.generation != generation {
            return Err(refused("of another generation"));
        }
        if world.fails(Failure::Refused) {
            return Err(refused("on purpose"));
        }
        assert!(ruleset.same_frame(held), "only what differs can be changed alone");
        world.kernel.standby = None;
        world.kernel.change(ruleset, held)?;
        if world.fails(Failure::Elsewhere) {
            world.kernel.changed();
        }
        if world.fails(Failure::EditedAfterLoad) {
            world.kernel.open_quietly();
        }
        Ok(())
    }

    async fn stand_by(
        &mut self,
        ruleset: &Arc<Ruleset>,
        _counted: &CarriedCounters,
        _now: Now,
    ) -> Result<(), Obstacle> {
        let ready = Arc::clone(ruleset);
        self.ask(|world| world.kernel.standby = Some(ready))
    }

    fn withdraw_standby(&mut self) {
        self.0.lock().unwrap().kernel.standby = None;
    }

    fn stood_in(&mut self) -> Option<StoodIn> {
        self.0.lock().unwrap().kernel.stood_in.take()
    }

    async fn counted(&mut self) -> Result<CarriedCounters, Obstacle> {
        self.ask(|_| CarriedCounters::default())
    }

    async fn egress_devices(&mut self) -> Result<BTreeSet<String>, Obstacle> {
        self.ask(|world| {
            let table = world.kernel.tables.get(&Layer::Netdev);
            let chains = table.into_iter().flat_map(|table| &table.contents.chains);
            let hooks = chains.filter_map(|chain| chain.chain.hook.as_ref());
            let devices = hooks.flat_map(|hook| Devices::names(&hook.devices));
            devices.cloned().collect()
        })
    }

    async fn interfaces(&mut self) -> Result<(Vec<Link>, usize), String> {
        let world = self.0.lock().unwrap();
        let links = vec![
            link("eth0", 2, InterfaceKind::Other),
            link("br0", world.bridge_index, InterfaceKind::Bridge),
        ];
        Ok((links, 0))
    }

    async fn ways(&mut self, to: &BTreeSet<IpAddr>) -> Result<Reached, String> {
        Ok(Reached {
            ways: FoundWays {
                ways: to.iter().map(way_to).collect(),
                ..FoundWays::default()
            },
            tunnels: Vec::new(),
        })
    }

    async fn meet_next_hops(&mut self, _: &[Way]) {}

    async fn crowd(&mut self) -> Option<Crowd> {
        let crowded = self.0.lock().unwrap().fails(Failure::Crowded);
        let flows = if crowded { 262_144 } else { 7 };
        Some(Crowd { flows, most: 262_144 })
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
