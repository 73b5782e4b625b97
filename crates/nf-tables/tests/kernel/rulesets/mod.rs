//! Whole rulesets shaped like those of a quarantine, as text and as types: tables, objects, sets. Their rules are in
//! [`rules`].

mod rules;

use std::fmt::Write as _;
use std::net::IpAddr;

use nf_tables::{
    Chain, ChainContents, Counter, Element, Expression, Family, Hook, Interval, KeyOrder, KeyType, Limit,
    LimitFlags, LimitKind, Object, ObjectKind, Policy, Quota, QuotaFlags, Rule, Set, SetFlags, Table,
    TableContents, TypeOf, UserData, Value, interval_elements,
};

use crate::writer::{TCP, UDP, octets};

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

/// Bytes in all, and how many are used.
type LimitedBytes = (u64, u64);
/// Remote, bits, protocol, ports, whether we open.
type Allowed = (IpAddr, usize, u8, Vec<u16>, bool);

/// What is different from ruleset to ruleset.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) isolates: bool,
    pub(crate) counts_only: bool,
    pub(crate) wide: bool,
    pub(crate) dhcp: bool,
    pub(crate) pppoe: bool,
    /// Bytes a second, and a quota.
    pub(crate) limits: Vec<(Option<u64>, Option<LimitedBytes>)>,
    pub(crate) ports: Vec<(u8, u16)>,
    pub(crate) endpoints: Vec<(IpAddr, u8, u16)>,
    pub(crate) hosts: Vec<(IpAddr, Option<u64>)>,
    /// Disjoint and ascending.
    pub(crate) nets: Vec<(IpAddr, usize, Option<u64>)>,
    pub(crate) allow: Vec<Allowed>,
    /// What counters begin with.
    pub(crate) counted: (u64, u64),
}

impl Shape {
    pub(crate) fn isolation() -> Self {
        let ip = |text: &str| text.parse().unwrap();
        Self {
            isolates: true,
            counts_only: false,
            wide: true,
            dhcp: true,
            pppoe: true,
            limits: Vec::new(),
            ports: Vec::new(),
            endpoints: vec![
                (ip("198.51.100.1"), TCP, 8883),
                (ip("198.51.100.53"), UDP, 53),
                (ip("2001:db8::1"), TCP, 8883),
            ],
            hosts: Vec::new(),
            nets: Vec::new(),
            allow: vec![
                (ip("0.0.0.0"), 0, TCP, vec![22, 80], true),
                (ip("10.0.0.0"), 12, TCP, vec![22], true),
                (ip("198.51.100.0"), 24, UDP, vec![22, 80], false),
                (ip("198.51.100.7"), 32, TCP, vec![22, 80], false),
                (ip("2001:db8::"), 32, UDP, vec![22, 80], true),
                (ip("2001:db8::"), 37, TCP, vec![443], true),
                (ip("2001:db8::7"), 128, TCP, vec![22, 80], false),
            ],
            counted: (0, 0),
        }
    }

    pub(crate) fn restriction() -> Self {
        let ip = |text: &str| text.parse().unwrap();
        Self {
            isolates: false,
            wide: false,
            limits: vec![
                (Some(20_000), Some((1_000_000, 77))),
                (None, Some((5, 0))),
                (Some(100_000), None),
            ],
            ports: vec![(TCP, 23), (TCP, 2323), (UDP, 53)],
            hosts: vec![
                (ip("203.0.114.1"), None),
                (ip("203.0.114.2"), Some(3_601)),
                (ip("2001:db8:c::1"), Some(31_536_000)),
            ],
            nets: vec![
                (ip("10.0.0.0"), 9, None),
                (ip("10.128.0.0"), 9, Some(60)),
                (ip("203.0.113.0"), 24, Some(3_601)),
                (ip("255.0.0.0"), 8, None),
                (ip("2001:db8:bad::"), 48, Some(3_601)),
            ],
            allow: Vec::new(),
            counted: (3, 99),
            ..Self::isolation()
        }
    }
}

type Written = (String, Rule);

/// Both forms of a ruleset.
pub(crate) fn build(shape: &Shape, name: &str) -> Ruleset {
    let families = [Family::Inet, Family::Bridge, Family::Netdev];
    let mut ruleset = Ruleset {
        text: String::new(),
        tables: Vec::new(),
    };
    for family in families {
        let table = shape.table(&mut ruleset.text, Table::new(family, name));
        ruleset.tables.push(table);
    }
    ruleset
}

impl Shape {
    fn table(&self, text: &mut String, table: Table) -> LoadedTable {
        let family = table.family;
        writeln!(text, "table {table} {{").unwrap();
        let mut contents = TableContents::new(table);
        let chains = self.chains(family);
        contents.objects = self.objects(text, family, &chains);
        let mut elements = Vec::new();
        for v4 in [true, false] {
            if family != Family::Bridge {
                self.endpoints(text, v4, &mut contents, &mut elements);
            }
            self.blocked(text, v4, &mut contents, &mut elements);
        }
        let policy = if self.isolates && !self.counts_only {
            "drop"
        } else {
            "accept"
        };
        for (name, number, rules) in chains {
            let (devices, hook) = match family {
                Family::Netdev => (
                    " devices = { \"eth0\", \"eth1\" }",
                    Hook::egress(0, ["eth1".to_owned(), "eth0".to_owned()]),
                ),
                _ => ("", Hook::new(number, 0)),
            };
            writeln!(
                text,
                "  chain {name} {{\n    type filter hook {name}{devices} priority 0\n    policy {policy}"
            )
            .unwrap();
            for (statement, _) in &rules {
                writeln!(text, "    {statement}").unwrap();
            }
            text.push_str("  }\n");
            contents.chains.push(ChainContents {
                chain: Chain::filter(
                    name,
                    hook,
                    if policy == "drop" {
                        Policy::Drop
                    } else {
                        Policy::Accept
                    },
                ),
                rules: rules.into_iter().map(|(_, rule)| rule).collect(),
            });
        }
        text.push_str("}\n");
        LoadedTable { contents, elements }
    }

    fn objects(
        &self,
        text: &mut String,
        family: Family,
        chains: &[(&str, u32, Vec<Written>)],
    ) -> Vec<Object> {
        let rules = chains.iter().flat_map(|(_, _, rules)| rules);
        let mut names: Vec<&str> = rules
            .flat_map(|(_, rule)| &rule.expressions)
            .filter_map(|expression| match expression {
                Expression::ObjectReference(object) if object.kind == ObjectKind::Counter => {
                    Some(object.name.as_str())
                }
                _ => None,
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        let (packets, bytes) = self.counted;
        let mut objects = Vec::new();
        for name in names {
            writeln!(
                text,
                "  counter {name} {{\n    packets {packets} bytes {bytes}\n  }}"
            )
            .unwrap();
            objects.push(Object::new(name, Counter { packets, bytes }));
        }
        if family != Family::Inet {
            return objects;
        }
        for (index, (rate, quota)) in self.limits.iter().enumerate() {
            if let Some(rate) = *rate {
                let burst = 65_536_u64.saturating_sub(rate).max(1_500);
                writeln!(
                    text,
                    "  limit rate{index} {{\n    rate over {rate} bytes/second burst {burst} bytes\n  }}"
                )
                .unwrap();
                let limit = Limit {
                    rate,
                    seconds: 1,
                    burst: u32::try_from(burst).unwrap(),
                    kind: LimitKind::Bytes,
                    flags: LimitFlags::OVER,
                };
                objects.push(Object::new(format!("rate{index}"), limit));
            }
            if let Some((bytes, used)) = *quota {
                writeln!(
                    text,
                    "  quota quota{index} {{\n    over {bytes} bytes used {used} bytes\n  }}"
                )
                .unwrap();
                let flags = QuotaFlags::OVER;
                objects.push(Object::new(format!("quota{index}"), Quota { bytes, flags, used }));
            }
        }
        objects
    }

    fn endpoints(
        &self,
        text: &mut String,
        v4: bool,
        contents: &mut TableContents,
        elements: &mut Vec<(String, Vec<Element>)>,
    ) {
        let (name, address, word) = if v4 {
            ("endpoints4", KeyType::IPV4, "ipv4_addr")
        } else {
            ("endpoints6", KeyType::IPV6, "ipv6_addr")
        };
        let key_type = KeyType::concatenation(&[address, KeyType::TRANSPORT_PROTOCOL, KeyType::PORT]);
        let own: Vec<_> = self
            .endpoints
            .iter()
            .filter(|(address, ..)| address.is_ipv4() == v4)
            .collect();
        let keys: Vec<Element> = own
            .iter()
            .map(|(address, protocol, port)| {
                let parts: [&[u8]; 3] = [&octets(*address), &[*protocol], &port.to_be_bytes()];
                Element::new(Value::concatenation(&parts).unwrap())
            })
            .collect();
        let words: Vec<String> = own
            .iter()
            .map(|(address, protocol, port)| {
                format!(
                    "{address} . {} . {port}",
                    if *protocol == TCP { "tcp" } else { "udp" }
                )
            })
            .collect();
        write_set(
            text,
            name,
            &format!("type {word} . inet_proto . inet_service"),
            &words,
        );
        contents.sets.push(Set {
            userdata: UserData::of_set(KeyOrder::None, false, Some(TypeOf::Concatenation)),
            ..Set::new(name, key_type, if v4 { 12 } else { 24 }, SetFlags::NONE)
        });
        elements.push((name.to_owned(), keys));
    }

    fn blocked(
        &self,
        text: &mut String,
        v4: bool,
        contents: &mut TableContents,
        elements: &mut Vec<(String, Vec<Element>)>,
    ) {
        let (suffix, key_type, word, length) = if v4 {
            ('4', KeyType::IPV4, "ipv4_addr", 4)
        } else {
            ('6', KeyType::IPV6, "ipv6_addr", 16)
        };
        let time =
            |seconds: &Option<u64>| seconds.map_or(String::new(), |seconds| format!(" timeout {seconds}s"));
        let hosts: Vec<_> = self
            .hosts
            .iter()
            .filter(|(host, _)| host.is_ipv4() == v4)
            .collect();
        let words: Vec<String> = hosts
            .iter()
            .map(|(host, ends)| format!("{host}{}", time(ends)))
            .collect();
        let name = format!("hosts{suffix}");
        write_set(text, &name, &format!("type {word}\n    flags timeout"), &words);
        contents
            .sets
            .push(Set::new(name.as_str(), key_type, length, SetFlags::TIMEOUT));
        let keys = hosts.iter().map(|(host, ends)| {
            let key = Value::new(&octets(*host)).unwrap();
            Element::new(key).with_timeout(ends.map(|seconds| seconds * 1_000))
        });
        elements.push((name, keys.collect()));

        let nets: Vec<_> = self.nets.iter().filter(|(net, ..)| net.is_ipv4() == v4).collect();
        let words: Vec<String> = nets
            .iter()
            .map(|(net, bits, ends)| format!("{net}/{bits}{}", time(ends)))
            .collect();
        let name = format!("nets{suffix}");
        write_set(
            text,
            &name,
            &format!("type {word}\n    flags interval, timeout"),
            &words,
        );
        let flags = SetFlags::INTERVAL.with(SetFlags::TIMEOUT);
        contents
            .sets
            .push(Set::new(name.as_str(), key_type, length, flags));
        let intervals = nets.iter().map(|(net, bits, ends)| {
            let key = Value::new(&octets(*net)).unwrap();
            Interval::prefix(key, *bits).with_timeout(ends.map(|seconds| seconds * 1_000))
        });
        elements.push((name, interval_elements(intervals, true).collect()));
    }
}

fn write_set(text: &mut String, name: &str, kind: &str, elements: &[String]) {
    writeln!(text, "  set {name} {{\n    {kind}").unwrap();
    if !elements.is_empty() {
        writeln!(text, "    elements = {{ {} }}", elements.join(", ")).unwrap();
    }
    text.push_str("  }\n");
}
