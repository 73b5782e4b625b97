//! Statements of nft, each with the expressions that it is made of.

use nf_tables::{
    AnonymousSet, Bitwise, ByteOrder, Comparison, Conntrack, ConntrackKey, Counter, Expression, Fib, Header,
    Interval, KeyType, Limit, LimitFlags, LimitKind, Lookup, Meta, MetaKey, Notrack, ObjectKind,
    ObjectReference, Operator, Payload, PayloadBase, Quota, QuotaFlags, Range, RangeOperator, Register,
    TypeOf, Value,
};

/// A statement and its expressions.
pub(super) type Pair = (&'static str, Vec<Expression>);

fn is(key: MetaKey, value: impl Into<Value>) -> [Expression; 2] {
    [Meta::first(key).into(), Expression::equal(value)]
}

fn load(base: PayloadBase, offset: u32, length: u32) -> Expression {
    Payload::first(base, offset, length).into()
}

fn steps<const N: usize>(first: [Expression; 2], then: [Expression; N]) -> Vec<Expression> {
    first.into_iter().chain(then).collect()
}

const IPV4: [u8; 1] = [2];
const IPV6: [u8; 1] = [10];
const TCP: [u8; 1] = [6];

/// Addresses: in sets, in blocks, among constants.
pub(super) fn addresses() -> Vec<Pair> {
    let counted = ObjectReference {
        kind: ObjectKind::Counter,
        name: "counted".to_owned(),
    };
    let in_set = [
        load(PayloadBase::Network, 16, 4),
        Lookup::named("hosts4").into(),
        counted.into(),
        Expression::drop(),
    ];
    let in_block = [
        load(PayloadBase::Network, 12, 4),
        Bitwise::mask([255, 240, 0, 0]).into(),
        Expression::equal([10, 16, 0, 0]),
        Expression::drop(),
    ];
    let links = [
        load(PayloadBase::Network, 24, 16),
        Lookup::one_of(links()).into(),
        Expression::accept(),
    ];
    vec![
        (
            "ip daddr @hosts4 counter name counted drop",
            steps(is(MetaKey::NetworkFamily, IPV4), in_set),
        ),
        (
            "ip daddr . meta l4proto . th dport @endpoints4 accept",
            steps(is(MetaKey::NetworkFamily, IPV4), concatenated()),
        ),
        (
            "ip saddr 10.16.0.0/12 drop",
            steps(is(MetaKey::NetworkFamily, IPV4), in_block),
        ),
        (
            "ip6 daddr { fe80::/10, ff02::/16 } accept",
            steps(is(MetaKey::NetworkFamily, IPV6), links),
        ),
    ]
}

/// Each part in the register behind the one before.
fn concatenated() -> [Expression; 5] {
    let protocol = Meta {
        destination: Register::FIRST.behind(4).unwrap(),
        key: MetaKey::TransportProtocol,
    };
    let port = Payload {
        destination: protocol.destination.behind(1).unwrap(),
        ..Payload::first(PayloadBase::Transport, 2, 2)
    };
    [
        load(PayloadBase::Network, 16, 4),
        protocol.into(),
        port.into(),
        Lookup::named("endpoints4").into(),
        Expression::accept(),
    ]
}

fn links() -> AnonymousSet {
    let nets = [([0xfe, 0x80], 10), ([0xff, 0x02], 16)].map(|(beginning, bits)| {
        let mut net = [0; 16];
        net[..2].copy_from_slice(&beginning);
        Interval::prefix(net, bits)
    });
    let type_of = TypeOf::Field {
        header: Header::Ip6,
        field: 9,
    };
    AnonymousSet::of_intervals(KeyType::IPV6, type_of, nets)
}

/// Ports, flags, what connection tracking knows.
pub(super) fn numbers() -> Vec<Pair> {
    let type_of = TypeOf::Field {
        header: Header::Tcp,
        field: 2,
    };
    let ports = [22_u16, 80].map(u16::to_be_bytes);
    let ports = AnonymousSet::of_values(KeyType::PORT, type_of, ports);
    let port = || load(PayloadBase::Transport, 2, 2);
    let other_ports = Range {
        source: Register::FIRST,
        operator: RangeOperator::Without,
        from: 1_000_u16.to_be_bytes().into(),
        to: 2_000_u16.to_be_bytes().into(),
    };
    vec![
        (
            "meta iiftype loopback accept",
            steps(
                is(MetaKey::InputType, 772_u16.to_ne_bytes()),
                [Expression::accept()],
            ),
        ),
        (
            "tcp dport { 22, 80 } accept",
            steps(
                is(MetaKey::TransportProtocol, TCP),
                [port(), Lookup::one_of(ports).into(), Expression::accept()],
            ),
        ),
        (
            "tcp dport != 1000-2000 accept",
            steps(
                is(MetaKey::TransportProtocol, TCP),
                [port(), other_ports.into(), Expression::accept()],
            ),
        ),
        (
            "tcp flags & (syn | ack) != syn accept",
            steps(
                is(MetaKey::TransportProtocol, TCP),
                [
                    load(PayloadBase::Transport, 13, 1),
                    Bitwise::mask([0x12]).into(),
                    Comparison::first(Operator::NotEqual, [2]).into(),
                    Expression::accept(),
                ],
            ),
        ),
        (
            "ct state related ct direction reply accept",
            vec![
                Conntrack::first(ConntrackKey::State).into(),
                Bitwise::mask(Conntrack::RELATED.to_ne_bytes()).into(),
                Comparison::first(Operator::NotEqual, [0; 4]).into(),
                Conntrack::first(ConntrackKey::Direction).into(),
                Expression::equal(Conntrack::REPLY),
                Expression::accept(),
            ],
        ),
    ]
}

/// What counts and limits, in the rule itself and in objects.
pub(super) fn limits() -> Vec<Pair> {
    let object = |kind, name: &str| ObjectReference {
        kind,
        name: name.to_owned(),
    };
    let rate = Limit {
        rate: 20,
        seconds: 60,
        burst: 20,
        kind: LimitKind::Packets,
        flags: LimitFlags::NONE,
    };
    let quota = Quota {
        bytes: 25,
        flags: QuotaFlags::OVER,
        used: 0,
    };
    let counter = Counter { packets: 3, bytes: 4 };
    vec![
        (
            "meta length <= 1500 limit rate 20/minute burst 20 packets accept",
            vec![
                Meta::first(MetaKey::Length).into(),
                ByteOrder::to_network().into(),
                Comparison::first(Operator::LessOrEqual, 1_500_u32.to_be_bytes()).into(),
                rate.into(),
                Expression::accept(),
            ],
        ),
        (
            "limit name \"rate0\" drop",
            vec![object(ObjectKind::Limit, "rate0").into(), Expression::drop()],
        ),
        (
            "quota name \"quota0\" drop",
            vec![object(ObjectKind::Quota, "quota0").into(), Expression::drop()],
        ),
        (
            "counter packets 3 bytes 4 quota over 25 bytes drop",
            vec![counter.into(), quota.into(), Expression::drop()],
        ),
    ]
}

/// Before connection tracking.
pub(super) fn tracking() -> Vec<Pair> {
    let loopback = is(MetaKey::InputType, 772_u16.to_ne_bytes());
    let elsewhere = [
        Fib::source_type().into(),
        Comparison::first(Operator::NotEqual, Fib::LOCAL.to_ne_bytes()).into(),
        Expression::drop(),
    ];
    vec![
        (
            "meta iiftype loopback notrack",
            steps(loopback.clone(), [Notrack {}.into()]),
        ),
        (
            "meta iiftype loopback fib saddr type != local drop",
            steps(loopback, elsewhere),
        ),
    ]
}

/// Of a bridge.
pub(super) fn frames() -> Vec<Pair> {
    let source = [
        load(PayloadBase::Network, 12, 4),
        Lookup::named("nets4").into(),
        Expression::drop(),
    ];
    vec![(
        "ip saddr @nets4 drop",
        steps(is(MetaKey::Protocol, 0x800_u16.to_be_bytes()), source),
    )]
}

/// Of interfaces: told by the frame's own bytes.
pub(super) fn groups() -> Vec<Pair> {
    vec![(
        "@ll,0,48 & 0xfffffffffff0 == 0x0180c2000000 accept",
        vec![
            load(PayloadBase::Link, 0, 6),
            Bitwise::mask([0xff, 0xff, 0xff, 0xff, 0xff, 0xf0]).into(),
            Expression::equal([0x01, 0x80, 0xc2, 0, 0, 0]),
            Expression::accept(),
        ],
    )]
}
