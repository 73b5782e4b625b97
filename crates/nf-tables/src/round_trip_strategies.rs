//! Whatever can be written, at random.

use std::fmt::Debug;

use proptest::prelude::*;
use proptest::strategy::Union;

use crate::wire::Unknown;
use crate::*;

fn any_value() -> impl Strategy<Value = Value> {
    prop::collection::vec(any::<u8>(), 0..=Value::MAX).prop_map(|bytes| Value::new(&bytes).unwrap())
}

fn any_register() -> impl Strategy<Value = Register> {
    prop_oneof![
        1 => Just(Register::VERDICT),
        16 => (0..Register::WORDS).prop_map(|word| Register::word(word).unwrap()),
    ]
}

fn any_name() -> impl Strategy<Value = String> {
    "[a-z_%.0-9]{0,20}"
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    (any::<i32>(), prop::option::of(any_name())).prop_map(|(code, chain)| Verdict { code, chain })
}

fn any_limit() -> impl Strategy<Value = Limit> {
    (
        any::<u64>(),
        any::<u64>(),
        any::<u32>(),
        any_of(LimitKind::ALL),
        any::<u32>(),
    )
        .prop_map(|(rate, seconds, burst, kind, flags)| Limit {
            rate,
            seconds,
            burst,
            kind,
            flags: LimitFlags::from_bits(flags),
        })
}

fn any_counter() -> impl Strategy<Value = Counter> {
    any::<(u64, u64)>().prop_map(|(bytes, packets)| Counter { bytes, packets })
}

fn any_quota() -> impl Strategy<Value = Quota> {
    any::<(u64, u32, u64)>().prop_map(|(bytes, flags, used)| Quota {
        bytes,
        flags: QuotaFlags::from_bits(flags),
        used,
    })
}

fn any_of<T: Copy + Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(all)
}

fn boxed(
    expression: impl Strategy<Value = impl Into<Expression> + Debug + 'static> + 'static,
) -> BoxedStrategy<Expression> {
    expression.prop_map(Into::into).boxed()
}

/// Every kind of expression, but lookups of anonymous sets, whose names only the kernel gives.
pub(super) fn any_expression() -> impl Strategy<Value = Expression> {
    let unknown = ("x[a-z]{0,9}", prop::collection::vec(any::<u8>(), 0..40))
        .prop_map(|(name, data)| Expression::Unknown(UnknownExpression { name, data }));
    let mut kinds = vec![unknown.boxed()];
    kinds.extend(loading());
    kinds.extend(comparing());
    kinds.extend(changing());
    kinds.extend(acting());
    Union::new(kinds)
}

fn loading() -> [BoxedStrategy<Expression>; 7] {
    let register = any_register;
    [
        boxed((register(), any_of(MetaKey::ALL)).prop_map(|(destination, key)| Meta { destination, key })),
        boxed((register(), any_of(MetaKey::ALL)).prop_map(|(source, key)| SetMeta { key, source })),
        boxed(
            (register(), any_of(PayloadBase::ALL), any::<(u32, u32)>()).prop_map(
                |(destination, base, (offset, length))| Payload {
                    destination,
                    base,
                    offset,
                    length,
                },
            ),
        ),
        boxed(
            (
                register(),
                any_of(ConntrackKey::ALL),
                proptest::option::of(any::<u8>()),
            )
                .prop_map(|(destination, key, direction)| Conntrack {
                    destination,
                    key,
                    direction: direction.map(Octet),
                }),
        ),
        boxed((register(), any_of(RouteKey::ALL)).prop_map(|(destination, key)| Route { destination, key })),
        boxed(
            (register(), any_of(FibResult::ALL), any::<u32>()).prop_map(|(destination, result, flags)| Fib {
                destination,
                result,
                flags: FibFlags::from_bits(flags),
            }),
        ),
        boxed(
            (
                register(),
                any_of(ExtensionPlace::ALL),
                any::<(u8, u32, u32, u32)>(),
            )
                .prop_map(|(destination, place, (header, offset, length, flags))| {
                    ExtensionHeader {
                        destination,
                        header: Octet(header),
                        offset,
                        length,
                        flags: ExtensionFlags::from_bits(flags),
                        place,
                    }
                }),
        ),
    ]
}

fn comparing() -> [BoxedStrategy<Expression>; 3] {
    let register = any_register;
    [
        boxed(
            (register(), any_of(Operator::ALL), any_value()).prop_map(|(source, operator, value)| {
                Comparison {
                    source,
                    operator,
                    value,
                }
            }),
        ),
        boxed(
            (register(), any_of(RangeOperator::ALL), any_value(), any_value()).prop_map(
                |(source, operator, from, to)| Range {
                    source,
                    operator,
                    from,
                    to,
                },
            ),
        ),
        boxed(
            (register(), any_name(), any::<u32>()).prop_map(|(source, name, flags)| Lookup {
                source,
                set: SetReference::Named(name),
                flags: LookupFlags::from_bits(flags),
            }),
        ),
    ]
}

fn changing() -> [BoxedStrategy<Expression>; 2] {
    let register = any_register;
    [
        boxed(
            (register(), register(), any::<u32>(), any_value(), any_value()).prop_map(
                |(source, destination, length, mask, xor)| Bitwise {
                    source,
                    destination,
                    length,
                    mask,
                    xor,
                    operation: BitwiseOperation::MaskXor,
                },
            ),
        ),
        boxed(
            (
                register(),
                register(),
                any_of(ByteOrderOperation::ALL),
                any::<(u32, u32)>(),
            )
                .prop_map(|(source, destination, operation, (length, size))| ByteOrder {
                    source,
                    destination,
                    operation,
                    length,
                    size,
                }),
        ),
    ]
}

fn acting() -> [BoxedStrategy<Expression>; 8] {
    [
        boxed(
            (
                any_register(),
                any_of(DynamicOperation::ALL),
                any_name(),
                any::<(u64, u32)>(),
                prop::option::of(any_limit()),
            )
                .prop_map(
                    |(source, operation, set, (timeout, flags), limit)| DynamicElement {
                        set,
                        operation,
                        source,
                        timeout,
                        expression: limit.map(|limit| Box::new(limit.into())),
                        flags: DynamicFlags::from_bits(flags),
                    },
                ),
        ),
        boxed(
            (any_register(), any_value()).prop_map(|(destination, value)| SetVerdict {
                destination,
                data: Data::Value(value),
            }),
        ),
        boxed(any_verdict().prop_map(SetVerdict::of)),
        boxed(any_limit()),
        boxed(any_counter()),
        boxed(any_quota()),
        boxed(Just(Notrack {})),
        boxed((any_of(ObjectKind::ALL), any_name()).prop_map(|(kind, name)| ObjectReference { kind, name })),
    ]
}

fn any_unknown() -> impl Strategy<Value = Vec<Unknown>> {
    let one = (100..200_u16, prop::collection::vec(any::<u8>(), 0..20))
        .prop_map(|(number, value)| Unknown { number, value });
    prop::collection::vec(one, 0..2)
}

fn any_userdata() -> impl Strategy<Value = UserData> {
    prop_oneof![
        any_name().prop_map(|comment| UserData::rule_comment(&comment)),
        prop::collection::vec(any::<u8>(), 0..30).prop_map(UserData::from_bytes),
    ]
}

pub(super) fn any_rule() -> impl Strategy<Value = Rule> {
    (
        prop::collection::vec(any_expression(), 0..12),
        any_userdata(),
        any_unknown(),
    )
        .prop_map(|(expressions, userdata, unknown)| Rule {
            expressions,
            userdata,
            unknown,
        })
}

pub(super) fn any_chain() -> impl Strategy<Value = Chain> {
    let devices = prop::collection::vec(any_name(), 0..4);
    let hook = (any::<(u32, i32)>(), devices).prop_map(|((number, priority), devices)| Hook {
        number,
        priority,
        devices: Devices::new(devices),
        unknown: Vec::new(),
    });
    (
        any_name(),
        prop::option::of(hook),
        prop::option::of(any_of(Policy::ALL)),
        prop::option::of(any_name()),
        any_userdata(),
        any_unknown(),
    )
        .prop_map(|(name, hook, policy, kind, userdata, unknown)| Chain {
            name,
            hook,
            policy,
            kind,
            flags: ChainFlags::OFFLOADED,
            userdata,
            unknown,
        })
}

pub(super) fn any_set() -> impl Strategy<Value = Set> {
    let parts = prop::collection::vec(any::<u32>().prop_map(|length| SetPart { length }), 0..4);
    (
        any_name(),
        any::<(u32, u32, u32)>(),
        prop::option::of(any::<u32>()),
        parts,
        prop::option::of(any::<u64>()),
        any_userdata(),
        any_unknown(),
    )
        .prop_map(
            |(name, (flags, kind, key_length), size, parts, timeout, userdata, unknown)| Set {
                name,
                flags: SetFlags::from_bits(flags),
                key_type: KeyType::from_number(kind),
                key_length,
                description: SetDescription {
                    size,
                    parts,
                    unknown: Vec::new(),
                },
                timeout,
                userdata,
                unknown,
            },
        )
}

pub(super) fn any_element() -> impl Strategy<Value = Element> {
    let time = || prop::option::of(any::<u64>());
    (
        prop::option::of(any_value()),
        prop::option::of(any_value()),
        any::<u32>(),
        time(),
        time(),
        any_userdata(),
        any_unknown(),
    )
        .prop_map(
            |(key, key_end, flags, timeout, expiration, userdata, unknown)| Element {
                key,
                flags: ElementFlags::from_bits(flags),
                timeout,
                expiration,
                userdata,
                key_end,
                unknown,
            },
        )
}

pub(super) fn any_object() -> impl Strategy<Value = Object> {
    let unknown = (100..200_u32, prop::collection::vec(any::<u8>(), 0..20))
        .prop_map(|(kind, data)| ObjectState::Unknown { kind, data });
    let state = prop_oneof![
        any_counter().prop_map(ObjectState::from),
        any_quota().prop_map(ObjectState::from),
        any_limit().prop_map(ObjectState::from),
        unknown,
    ];
    (any_name(), state, any_unknown()).prop_map(|(name, state, unknown)| Object { name, state, unknown })
}
