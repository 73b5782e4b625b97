//! Two small rulesets with every kind of expression and object, each as nft's text and as types, written by hand. The pairs
//! were taken from `nft --debug=netlink`. Whole rulesets of a product are compared where its rules are written.

mod pairs;

use nf_tables::{
    Chain, ChainContents, Counter, Element, Family, Hook, Interval, KeyOrder, KeyType, Limit, LimitFlags,
    LimitKind, Object, Policy, Quota, QuotaFlags, Rule, Set, SetFlags, Table, TableContents, TypeOf,
    UserData, Value, interval_elements,
};

use pairs::{Pair, addresses, frames, groups, limits, numbers, tracking};

/// A ruleset in both forms.
pub(crate) struct Ruleset {
    pub(crate) text: String,
    pub(crate) tables: Vec<LoadedTable>,
}

/// A table with the elements of its sets.
pub(crate) struct LoadedTable {
    pub(crate) contents: TableContents,
    pub(crate) elements: Vec<(String, Vec<Element>)>,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shape {
    /// Drops by policy.
    Closed,
    /// Passes by policy, and has other rules.
    Open,
}

/// Tables of that name in the families inet, bridge and netdev.
pub(crate) fn build(shape: Shape, name: &str) -> Ruleset {
    let mut addresses = addresses();
    if shape == Shape::Open {
        addresses.truncate(2);
    }
    let egress = Hook::egress(0, ["eth1".to_owned(), "eth0".to_owned()]);
    let mut ruleset = Ruleset {
        text: String::new(),
        tables: Vec::new(),
    };
    let mut inet = elements();
    inet.push(("endpoints4".to_owned(), vec![Element::new(endpoint())]));
    let whole = format!("{OBJECTS}{SETS}{ENDPOINTS}");
    ruleset.table(
        Family::Inet,
        name,
        &whole,
        objects(),
        [sets(), vec![endpoint_set()]].concat(),
        inet,
    );
    ruleset.chain(shape, "output", Hook::new(Hook::OUTPUT, 0), addresses);
    ruleset.chain(shape, "input", Hook::new(Hook::INPUT, 0), numbers());
    ruleset.chain(shape, "forward", Hook::new(Hook::FORWARD, 0), limits());
    let first = Hook::new(Hook::PREROUTING, -300);
    ruleset.chain(shape, "prerouting", first, tracking());
    ruleset.table(Family::Bridge, name, SETS, Vec::new(), sets(), elements());
    ruleset.chain(shape, "forward", Hook::new(Hook::FORWARD, 0), frames());
    ruleset.table(Family::Netdev, name, "", Vec::new(), Vec::new(), Vec::new());
    ruleset.chain(shape, "egress", egress, groups());
    ruleset
}

impl Ruleset {
    /// A table more, without chains; `text` declares its objects and sets.
    fn table(
        &mut self,
        family: Family,
        name: &str,
        text: &str,
        objects: Vec<Object>,
        sets: Vec<Set>,
        elements: Vec<(String, Vec<Element>)>,
    ) {
        let table = Table::new(family, name);
        self.text.push_str(&format!("table {table} {{{text}}}\n"));
        let contents = TableContents {
            objects,
            sets,
            ..TableContents::new(table)
        };
        self.tables.push(LoadedTable { contents, elements });
    }

    /// A chain more in the newest table.
    fn chain(&mut self, shape: Shape, name: &str, hook: Hook, rules: Vec<Pair>) {
        let LoadedTable { contents, .. } = self.tables.last_mut().unwrap();
        let (word, policy) = match shape {
            Shape::Closed => ("drop", Policy::Drop),
            Shape::Open => ("accept", Policy::Accept),
        };
        let devices = if hook.devices.names().is_empty() {
            String::new()
        } else {
            format!("devices = {{ {} }}", hook.devices.names().join(", "))
        };
        self.text.push_str(&format!(
            "table {} {{ chain {name} {{ type filter hook {name} {devices} priority {}; policy {word};\n",
            contents.table, hook.priority
        ));
        let mut typed = Vec::new();
        for (number, (statement, steps)) in rules.into_iter().enumerate() {
            let comment = format!("rule {number}");
            self.text
                .push_str(&format!("{statement} comment \"{comment}\"\n"));
            typed.push(Rule::new(steps, &comment));
        }
        self.text.push_str("}\n}\n");
        contents.chains.push(ChainContents {
            chain: Chain::filter(name, hook, policy),
            rules: typed,
        });
    }
}

const OBJECTS: &str = r"
  counter counted { packets 3 bytes 99; }
  limit rate0 { rate over 20000 bytes/second burst 45536 bytes; }
  quota quota0 { over 1000000 bytes used 77 bytes; }
";

fn objects() -> Vec<Object> {
    let rate = Limit {
        rate: 20_000,
        seconds: 1,
        burst: 45_536,
        kind: LimitKind::Bytes,
        flags: LimitFlags::OVER,
    };
    let quota = Quota {
        bytes: 1_000_000,
        flags: QuotaFlags::OVER,
        used: 77,
    };
    let counted = Counter {
        packets: 3,
        bytes: 99,
    };
    vec![
        Object::new("counted", counted),
        Object::new("rate0", rate),
        Object::new("quota0", quota),
    ]
}

const SETS: &str = r"
  set hosts4 { type ipv4_addr; flags timeout; elements = { 203.0.114.1, 203.0.114.2 timeout 3601s } }
  set nets4 { type ipv4_addr; flags interval, timeout; elements = {
    10.0.0.0/9, 10.128.0.0/9 timeout 60s, 203.0.113.0/24 timeout 3601s, 255.0.0.0/8 } }
  set none6 { type ipv6_addr; flags interval, timeout; }
";

fn sets() -> Vec<Set> {
    let intervals = SetFlags::INTERVAL.with(SetFlags::TIMEOUT);
    vec![
        Set::new("hosts4", KeyType::IPV4, 4, SetFlags::TIMEOUT),
        Set::new("nets4", KeyType::IPV4, 4, intervals),
        Set::new("none6", KeyType::IPV6, 16, intervals),
    ]
}

fn elements() -> Vec<(String, Vec<Element>)> {
    let hosts = vec![
        Element::new([203, 0, 114, 1]),
        Element::new([203, 0, 114, 2]).with_timeout(Some(3_601_000)),
    ];
    let nets = [
        ([10, 0, 0, 0], 9, None),
        ([10, 128, 0, 0], 9, Some(60_000)),
        ([203, 0, 113, 0], 24, Some(3_601_000)),
        ([255, 0, 0, 0], 8, None),
    ];
    let nets = nets.map(|(net, bits, time)| Interval::prefix(net, bits).with_timeout(time));
    let nets = interval_elements(nets, true).collect();
    vec![
        ("hosts4".to_owned(), hosts),
        ("nets4".to_owned(), nets),
        ("none6".to_owned(), Vec::new()),
    ]
}

const ENDPOINTS: &str = "set endpoints4 { type ipv4_addr . inet_proto . inet_service; elements = { 198.51.100.1 . tcp . 8883 } }\n";

fn endpoint_set() -> Set {
    let parts = [KeyType::IPV4, KeyType::TRANSPORT_PROTOCOL, KeyType::PORT];
    Set {
        userdata: UserData::of_set(KeyOrder::None, false, Some(TypeOf::Concatenation)),
        ..Set::new("endpoints4", KeyType::concatenation(&parts), 12, SetFlags::NONE)
    }
}

fn endpoint() -> Value {
    Value::concatenation(&[&[198, 51, 100, 1], &[6], &8_883_u16.to_be_bytes()]).unwrap()
}
