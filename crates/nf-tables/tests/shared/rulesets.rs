//! Whole rulesets shaped like those of a quarantine, as text and as types.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};

use nf_tables::{
    AnonymousSet, Bitwise, ByteOrder, Chain, ChainContents, Comparison, Conntrack, Counter, Element,
    Expression, Family, Hook, Interval, KeyOrder, KeyType, Limit, LimitFlags, LimitKind, Lookup, Meta,
    MetaKey, Object, ObjectKind, Operator, Payload, PayloadBase, Policy, Quota, QuotaFlags, Rule, Set,
    SetFlags, Table, TableContents, TypeOf, UserData, Value, interval_elements,
};

use super::writer::{Side, TCP, UDP, Writer, octets, rule};

/// A ruleset in both forms.
pub struct Ruleset {
    pub text: String,
    pub tables: Vec<LoadedTable>,
}

/// A table with the elements of its sets.
pub struct LoadedTable {
    pub contents: TableContents,
    pub elements: Vec<(String, Vec<Element>)>,
}

/// What is different from ruleset to ruleset.
#[derive(Clone, Debug)]
pub struct Shape {
    pub isolates: bool,
    pub counts_only: bool,
    pub wide: bool,
    pub dhcp: bool,
    pub pppoe: bool,
    pub limits: Vec<(Option<u64>, Option<(u64, u64)>)>,
    pub ports: Vec<(u8, u16)>,
    pub endpoints: Vec<(IpAddr, u8, u16)>,
    pub hosts: Vec<(IpAddr, Option<u64>)>,
    /// Disjoint and ascending.
    pub nets: Vec<(IpAddr, usize, Option<u64>)>,
    /// Remote, bits, protocol, ports, whether we open.
    pub allow: Vec<(IpAddr, usize, u8, Vec<u16>, bool)>,
    /// What counters begin with.
    pub counted: (u64, u64),
}

impl Shape {
    pub fn isolation() -> Self {
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

    pub fn restriction() -> Self {
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
pub fn build(shape: &Shape, name: &str) -> Ruleset {
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
        let policy = if self.isolates && !self.counts_only { "drop" } else { "accept" };
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
                chain: Chain::filter(name, hook, if policy == "drop" { Policy::Drop } else { Policy::Accept }),
                rules: rules.into_iter().map(|(_, rule)| rule).collect(),
            });
        }
        text.push_str("}\n");
        LoadedTable { contents, elements }
    }

    fn objects(&self, text: &mut String, family: Family, chains: &[(&str, u32, Vec<Written>)]) -> Vec<Object> {
        let rules = chains.iter().flat_map(|(_, _, rules)| rules);
        let mut names: Vec<&str> = rules
            .flat_map(|(_, rule)| &rule.expressions)
            .filter_map(|expression| match expression {
                Expression::ObjectReference(object) if object.kind == ObjectKind::Counter => Some(object.name.as_str()),
                _ => None,
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        let (packets, bytes) = self.counted;
        let mut objects = Vec::new();
        for name in names {
            writeln!(text, "  counter {name} {{\n    packets {packets} bytes {bytes}\n  }}").unwrap();
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
                writeln!(text, "  quota quota{index} {{\n    over {bytes} bytes used {used} bytes\n  }}").unwrap();
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
        let own: Vec<_> = self.endpoints.iter().filter(|(address, ..)| address.is_ipv4() == v4).collect();
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
                format!("{address} . {} . {port}", if *protocol == TCP { "tcp" } else { "udp" })
            })
            .collect();
        write_set(text, name, &format!("type {word} . inet_proto . inet_service"), &words);
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
        let time = |seconds: &Option<u64>| seconds.map_or(String::new(), |seconds| format!(" timeout {seconds}s"));
        let hosts: Vec<_> = self.hosts.iter().filter(|(host, _)| host.is_ipv4() == v4).collect();
        let words: Vec<String> = hosts.iter().map(|(host, ends)| format!("{host}{}", time(ends))).collect();
        let name = format!("hosts{suffix}");
        write_set(text, &name, &format!("type {word}\n    flags timeout"), &words);
        contents.sets.push(Set::new(name.as_str(), key_type, length, SetFlags::TIMEOUT));
        let keys = hosts.iter().map(|(host, ends)| {
            let key = Value::new(&octets(*host)).unwrap();
            Element::new(key).with_timeout(ends.map(|seconds| seconds * 1_000))
        });
        elements.push((name, keys.collect()));

        let nets: Vec<_> = self.nets.iter().filter(|(net, ..)| net.is_ipv4() == v4).collect();
        let words: Vec<String> =
            nets.iter().map(|(net, bits, ends)| format!("{net}/{bits}{}", time(ends))).collect();
        let name = format!("nets{suffix}");
        write_set(text, &name, &format!("type {word}\n    flags interval, timeout"), &words);
        let flags = SetFlags::INTERVAL.with(SetFlags::TIMEOUT);
        contents.sets.push(Set::new(name.as_str(), key_type, length, flags));
        let intervals = nets.iter().map(|(net, bits, ends)| {
            let key = Value::new(&octets(*net)).unwrap();
            Interval::prefix(key, *bits).with_timeout(ends.map(|seconds| seconds * 1_000))
        });
        elements.push((name, interval_elements(intervals, true).collect()));
    }

    fn chains(&self, family: Family) -> Vec<(&'static str, u32, Vec<Written>)> {
        let mut chains = match family {
            Family::Inet => {
                let mut output = vec![
                    rule(family)
                        .interface_type(MetaKey::OutputType, "loopback", 772)
                        .accept()
                        .end("loopback"),
                ];
                output.extend(self.lifelines_out(family, 0));
                output.extend(self.blocks(family, "out"));
                output.extend(self.limited(family, "out"));
                output.extend(self.allowed(family, Side::Destination));
                let mut input = self.lifelines_in();
                input.extend(self.blocks(family, "in"));
                input.extend(self.allowed(family, Side::Source));
                let mut forward = self.blocks(family, "forward");
                forward.extend(self.limited(family, "forward"));
                vec![
                    ("output", Hook::OUTPUT, output),
                    ("input", Hook::INPUT, input),
                    ("forward", Hook::FORWARD, forward),
                ]
            }
            Family::Bridge => {
                let mut forward = self.routed(family);
                forward.extend(self.blocks(family, "bridged"));
                vec![("forward", Hook::FORWARD, forward)]
            }
            _ => {
                let mut egress = self.routed(family);
                egress.extend(self.frames());
                egress.extend(self.lifelines_out(family, 18));
                egress.extend(self.blocks(family, "raw"));
                egress.extend(self.allowed(family, Side::Destination));
                vec![("egress", Hook::EGRESS, egress)]
            }
        };
        if self.isolates {
            for (name, _, rules) in &mut chains {
                rules.push(self.cut(rule(family), &format!("{name}_isolated"), "rest"));
            }
        }
        chains
    }

    fn cut(&self, condition: Writer, counter: &str, comment: &str) -> Written {
        let counted = |prefix: &str| condition.clone().count(&format!("{prefix}{counter}"));
        if self.counts_only {
            counted("would_").accept().end(comment)
        } else {
            counted("").drop().end(comment)
        }
    }

    fn routed(&self, family: Family) -> Vec<Written> {
        if !self.counts_only {
            return Vec::new();
        }
        let routed = rule(family)
            .text("meta rtclassid >= 0")
            .step(Meta::first(MetaKey::RouteRealm))
            .step(ByteOrder::to_network())
            .step(Comparison::first(Operator::GreaterOrEqual, [0; 4]));
        vec![routed.accept().end("routed")]
    }

    fn frames(&self) -> Vec<Written> {
        let ethernet = || rule(Family::Netdev).interface_type(MetaKey::OutputType, "ether", 1);
        let link = |offset, length| Payload::first(PayloadBase::Link, offset, length);
        let bits = TypeOf::Bits {
            base: 1,
            offset: 96,
            length: 16,
        };
        let keys = [0x888e_u16, 0x88c7].map(u16::to_be_bytes);
        let protocols = [0x8863_u16, 0x8864].map(u16::to_be_bytes);
        let mut rules = vec![
            ethernet()
                .text("@ll,0,48 & 0xfffffffffff0 == 0x0180c2000000")
                .step(link(0, 6))
                .step(Bitwise::mask([0xff, 0xff, 0xff, 0xff, 0xff, 0xf0]))
                .step(Expression::equal([1, 0x80, 0xc2, 0, 0, 0]))
                .rate(100, ("second", 1), 200)
                .accept()
                .end("link-groups"),
            ethernet()
                .text("@ll,96,16 { 0x888e, 0x88c7 }")
                .step(link(12, 2))
                .step(Lookup::one_of(AnonymousSet::of_values(KeyType::INTEGER, bits, keys)))
                .rate(100, ("second", 1), 200)
                .accept()
                .end("link-keys"),
            rule(Family::Netdev)
                .text("arp htype 1 arp ptype ip arp hlen 6 arp plen 4")
                .step(Meta::first(MetaKey::Protocol))
                .step(Expression::equal([8, 6]))
                .step(Payload::first(PayloadBase::Network, 0, 4))
                .step(Expression::equal([0, 1, 8, 0]))
                .step(Payload::first(PayloadBase::Network, 4, 2))
                .step(Expression::equal([6, 4]))
                .at_most(64)
                .rate(100, ("second", 1), 200)
                .accept()
                .end("arp"),
        ];
        if self.pppoe {
            let meta = TypeOf::Meta(MetaKey::Protocol.number());
            let pppoe = rule(Family::Netdev)
                .text("meta protocol { 0x8863, 0x8864 } @nh,0,8 0x11")
                .step(Meta::first(MetaKey::Protocol))
                .step(Lookup::one_of(AnonymousSet::of_values(KeyType::ETHERNET_TYPE, meta, protocols)))
                .step(Payload::first(PayloadBase::Network, 0, 1))
                .step(Expression::equal([0x11]));
            rules.push(pppoe.accept().end("pppoe"));
        }
        rules
    }

    fn lifelines_out(&self, family: Family, header: u32) -> Vec<Written> {
        let six = |text: &str| text.parse::<Ipv6Addr>().unwrap();
        let mut rules = vec![
            rule(family)
                .destinations6(&[(six("fe80::"), 10), (six("ff02::"), 16)])
                .icmp(false, NEIGHBOURS)
                .accept()
                .end("neighbours"),
            rule(family)
                .icmp(false, &NEIGHBOURS[2..])
                .hop_limit(255)
                .at_most(80 + header)
                .rate(10, ("second", 1), 20)
                .accept()
                .end("neighbour-unicast"),
            rule(family)
                .icmp(
                    false,
                    &[
                        ("mld-listener-report", 131),
                        ("mld2-listener-report", 143),
                        ("mld-listener-done", 132),
                    ],
                )
                .hop_limit(1)
                .accept()
                .end("multicast-listener"),
        ];
        if self.dhcp {
            let slow = |writer: Writer| writer.at_most(1_500 + header).rate(20, ("minute", 60), 20).accept();
            rules.push(
                slow(
                    rule(family)
                        .block(Side::Destination, "255.255.255.255".parse().unwrap(), 32)
                        .udp(68, 67),
                )
                .end("dhcp"),
            );
            rules.push(
                rule(family)
                    .udp(68, 67)
                    .at_most(620 + header)
                    .rate(4, ("minute", 60), 4)
                    .accept()
                    .end("dhcp-renewal"),
            );
            let groups = [(six("fe80::"), 10), (six("ff02::1:2"), 128)];
            rules.push(slow(rule(family).destinations6(&groups).udp(546, 547)).end("dhcp6"));
        }
        rules.push(rule(family).endpoint_in(true, Side::Destination, "endpoints4").accept().end("endpoint4"));
        rules.push(rule(family).endpoint_in(false, Side::Destination, "endpoints6").accept().end("endpoint6"));
        if self.wide {
            rules.push(rule(family).ports(TCP, Side::Destination, WIDE).accept().end("endpoint-wide"));
            rules.push(rule(family).port(UDP, Side::Destination, 53).accept().end("dns-wide"));
        }
        rules
    }

    fn lifelines_in(&self) -> Vec<Written> {
        let inet = || rule(Family::Inet);
        let link_local: IpAddr = "fe80::".parse().unwrap();
        let related = |writer: Writer| writer.state("related", Conntrack::RELATED).accept();
        let mut rules = vec![
            inet().interface_type(MetaKey::InputType, "loopback", 772).accept().end("loopback"),
            inet().icmp(false, NEIGHBOURS).hop_limit(255).accept().end("neighbours"),
            inet()
                .icmp(false, &[("mld-listener-query", 130)])
                .block(Side::Source, link_local, 10)
                .hop_limit(1)
                .accept()
                .end("multicast-listener"),
            related(inet().icmp(
                true,
                &[("destination-unreachable", 3), ("time-exceeded", 11), ("parameter-problem", 12)],
            ))
            .end("errors"),
            related(inet().icmp(
                false,
                &[
                    ("destination-unreachable", 1),
                    ("packet-too-big", 2),
                    ("time-exceeded", 3),
                    ("parameter-problem", 4),
                ],
            ))
            .end("errors6"),
        ];
        if self.dhcp {
            let answers = |writer: Writer| writer.at_most(1_500).rate(50, ("second", 1), 50).accept();
            rules.push(answers(inet().udp(67, 68)).end("dhcp"));
            rules.push(answers(inet().block(Side::Source, link_local, 10).udp(547, 546)).end("dhcp6"));
        }
        for (v4, set) in [(true, "endpoints4"), (false, "endpoints6")] {
            let from = || inet().endpoint_in(v4, Side::Source, set);
            rules.push(from().not_syn().accept().end("tcp"));
            rules.push(udp_answer(from().transport_protocol("udp", UDP)).accept().end("udp"));
        }
        if self.wide {
            let wide = inet().ports(TCP, Side::Source, WIDE).not_syn().reply();
            rules.push(wide.accept().end("endpoint-wide"));
            rules.push(udp_answer(inet().port(UDP, Side::Source, 53)).accept().end("dns-wide"));
        }
        rules
    }

    fn blocks(&self, family: Family, way: &str) -> Vec<Written> {
        let mut rules = Vec::new();
        for (v4, suffix) in [(true, '4'), (false, '6')] {
            for kind in ["hosts", "nets"] {
                for side in [Side::Destination, Side::Source] {
                    let condition = rule(family).address_in(v4, side, &format!("{kind}{suffix}"));
                    rules.push(self.cut(condition, &format!("{way}_remote"), kind));
                }
            }
        }
        for protocol in [TCP, UDP] {
            let own = self.ports.iter().filter(|(of, _)| *of == protocol);
            let ports: Vec<u16> = own.map(|(_, port)| *port).collect();
            if !ports.is_empty() {
                for side in [Side::Destination, Side::Source] {
                    let condition = rule(family).ports(protocol, side, &ports);
                    rules.push(self.cut(condition, &format!("{way}_port"), "port"));
                }
            }
        }
        rules
    }

    fn limited(&self, family: Family, way: &str) -> Vec<Written> {
        let mut rules = Vec::new();
        for (index, (rate, quota)) in self.limits.iter().enumerate() {
            if rate.is_some() {
                let condition = rule(family).object(ObjectKind::Limit, &format!("rate{index}"));
                rules.push(self.cut(condition, &format!("{way}_rate"), "rate"));
            }
            if quota.is_some() {
                let condition = rule(family).object(ObjectKind::Quota, &format!("quota{index}"));
                rules.push(self.cut(condition, &format!("{way}_quota"), "quota"));
            }
        }
        rules
    }

    fn allowed(&self, family: Family, side: Side) -> Vec<Written> {
        let allow = |(remote, bits, protocol, ports, out): &(IpAddr, usize, u8, Vec<u16>, bool)| {
            let opens = (side == Side::Destination) == *out;
            let port = if opens { Side::Destination } else { Side::Source };
            let writer = rule(family).block(side, *remote, *bits).ports(*protocol, port, ports);
            let writer = match (opens, *protocol, family) {
                (true, ..) => writer,
                (false, TCP, _) => writer.not_syn(),
                (false, _, Family::Inet) => udp_answer(writer),
                _ => writer,
            };
            writer.accept().end("allowance")
        };
        self.allow.iter().map(allow).collect()
    }
}

fn udp_answer(writer: Writer) -> Writer {
    writer.state("established", Conntrack::ESTABLISHED).reply()
}

const WIDE: &[u16] = &[443, 8443, 8883];
const NEIGHBOURS: &[(&str, u8)] = &[
    ("nd-router-solicit", 133),
    ("nd-router-advert", 134),
    ("nd-neighbor-solicit", 135),
    ("nd-neighbor-advert", 136),
];

fn write_set(text: &mut String, name: &str, kind: &str, elements: &[String]) {
    writeln!(text, "  set {name} {{\n    {kind}").unwrap();
    if !elements.is_empty() {
        writeln!(text, "    elements = {{ {} }}", elements.join(", ")).unwrap();
    }
    text.push_str("  }\n");
}
