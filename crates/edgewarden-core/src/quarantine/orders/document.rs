//! Reads a quarantine wish as an authority wrote it: a boolean, an object, or nothing; a deployment may also write a list.
//!
//! In: a JSON value from the shadow, the deployment or the CLI; all of it hostile. Out: a [`Wish`], or every fault.
//! An invalid document changes nothing; that is the caller's rule, kept by getting no wish from here.

use jiff::Timestamp;
use serde_json::Value;

use super::deployed;
use super::order::{
    Allowance, Authority, Block, BlockedPort, BlockedRemote, Direction, Limit, Order, Posture, Protocol,
};
use super::process_rule::read_process_rule;
use crate::Arrange;
use crate::document::fault::{Fault, quote};
use crate::document::fields::{Fields, Scalars, push, read_flag};

/// Allowances of one order. Each becomes two rules; more than this is a mistake, and bounds the ruleset.
pub(crate) const MAX_ALLOWANCES: usize = 64;
/// Ports of one allowance.
const MAX_PORTS: usize = 64;
/// Blocked remotes and ports of one order; the shadow's 8 KB hold about 400.
pub(crate) const MAX_BLOCKS: usize = 1024;
/// Blocked remotes of the operator's order, which comes from a file: the longest lists that are traded have some
/// 100,000; the ruleset takes about 20 MB of kernel memory then.
pub(crate) const MAX_OPERATOR_BLOCKS: usize = 131_072;
/// Slowest egress limit in bytes a second: less could not even carry one full packet a second.
const MIN_RATE: u64 = 1_500;
/// Largest limit and quota in bytes; what the kernel's 64-bit counters take without any doubt.
const MAX_BYTES: u64 = 1 << 50;
/// Shortest and longest quota period in seconds: a minute, so that the counting is not reset all the time, and a year.
const PERIOD: (u64, u64) = (60, 366 * 86_400);
/// Process rules of one order.
pub(crate) const MAX_PROCESS_RULES: usize = 64;
/// Longest id and reason; both are repeated in the reported shadow, which must stay small on nucleus lite.
const MAX_ID: usize = 64;
const MAX_REASON: usize = 256;

/// Keys of a rich order. `components` and `evidence` of the design are refused by name until they work: an order that
/// is only half carried out must not be accepted.
const ORDER_KEYS: [&str; 8] = [
    "id",
    "posture",
    "reason",
    "expires",
    "allow",
    "block",
    "limit",
    "processes",
];

/// What an authority wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    Release,
    Order(Box<Order>),
}

/// Reads what `authority` wrote. `None` (the key is absent or null) means release.
///
/// # Errors
/// Every fault of the document, with its path below `quarantine`.
pub fn read(value: Option<&Value>, authority: Authority, now: Timestamp) -> Result<Wish, Vec<Fault>> {
    let scalars = match authority {
        Authority::Deployment => Scalars::StringsToo,
        _ => Scalars::Exact,
    };
    match value {
        None | Some(Value::Null) => Ok(Wish::Release),
        Some(value) if value.is_object() => read_object(value, authority, scalars, now),
        Some(Value::Array(orders)) if authority == Authority::Deployment => {
            deployed::read_list(orders, scalars, now)
        }
        Some(value) => match read_flag(value, scalars) {
            Some(true) => Ok(Wish::Order(Box::new(Order::isolate(
                authority,
                &authority.to_string(),
                None,
                now,
            )))),
            Some(false) => Ok(Wish::Release),
            None => Err(vec![Fault::new(
                "quarantine",
                format!("is {}, expected {}", quote(value), expected(authority)),
            )]),
        },
    }
}

fn expected(authority: Authority) -> &'static str {
    match authority {
        Authority::Deployment => "true, false, a list of at most one order, or an order object",
        _ => "true, false or an order object",
    }
}

pub(super) fn read_object(
    value: &Value,
    authority: Authority,
    scalars: Scalars,
    now: Timestamp,
) -> Result<Wish, Vec<Fault>> {
    let mut faults = Vec::new();
    let wish = Fields::open(value, "quarantine", &ORDER_KEYS, scalars, &mut faults)
        .and_then(|fields| read_order(fields, authority, scalars, now));
    match wish {
        Some(wish) if faults.is_empty() => Ok(wish),
        _ => Err(faults),
    }
}

fn read_order(
    mut fields: Fields<'_>,
    authority: Authority,
    scalars: Scalars,
    now: Timestamp,
) -> Option<Wish> {
    let id = fields
        .text("id", MAX_ID)
        .map_or_else(|| authority.to_string(), str::to_owned);
    let reason = fields.text("reason", MAX_REASON).map(str::to_owned);
    let expires = fields.time("expires");
    let posture = fields.word("posture", "\"normal\", \"restrict\" or \"isolate\"", read_posture);
    if fields.get("posture").is_none() {
        fields.fault(
            "posture",
            "is missing, expected \"normal\", \"restrict\" or \"isolate\"",
        );
    }
    let allow = fields.list("allow", MAX_ALLOWANCES, |item, path, faults| {
        read_allowance(item, path, scalars, faults)
    });
    let block = fields
        .get("block")
        .map(|value| read_block(value, authority, scalars, &mut fields))
        .unwrap_or_default();
    let limit = fields
        .get("limit")
        .and_then(|value| read_limit(value, scalars, &mut fields));
    let processes = fields.list("processes", MAX_PROCESS_RULES, |item, path, faults| {
        read_process_rule(item, path, scalars, faults)
    });
    let posture = posture?;
    if posture == Posture::Restrict
        && block == Block::default()
        && fields.get("limit").is_none()
        && processes.is_empty()
    {
        fields.fault(
            "block",
            "is missing, a restriction must say what it cuts, how much it lets out or which processes it stops",
        );
    }
    if posture == Posture::Normal {
        return Some(Wish::Release);
    }
    Some(Wish::Order(Box::new(Order {
        id,
        authority,
        posture,
        reason,
        issued: now,
        expires,
        allow,
        block,
        limit,
        processes,
    })))
}

fn read_posture(text: &str) -> Option<Posture> {
    match text {
        "normal" => Some(Posture::Normal),
        "restrict" => Some(Posture::Restrict),
        "isolate" => Some(Posture::Isolate),
        _ => None,
    }
}

fn read_protocol(text: &str) -> Option<Protocol> {
    match text {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        _ => None,
    }
}

fn read_port(value: &Value, path: &str, scalars: Scalars, faults: &mut Vec<Fault>) -> Option<u16> {
    let port = crate::document::fields::read_integer(value, scalars)
        .and_then(|n| u16::try_from(n).ok())
        .filter(|port| *port > 0);
    if port.is_none() {
        push(
            faults,
            path,
            format!("is {}, expected a port from 1 to 65535", quote(value)),
        );
    }
    port
}

/// Reads one allowance; used for orders and for the configuration.
pub(crate) fn read_allowance(
    value: &Value,
    path: &str,
    scalars: Scalars,
    faults: &mut Vec<Fault>,
) -> Option<Allowance> {
    let keys = ["remote", "protocol", "ports", "direction"];
    let mut fields = Fields::open(value, path, &keys, scalars, faults)?;
    for key in keys
        .iter()
        .filter(|key| value.get(**key).is_none_or(Value::is_null))
    {
        fields.fault(key, "is missing");
    }
    let remote = fields.network("remote");
    let protocol = fields.word("protocol", "\"tcp\" or \"udp\"", read_protocol);
    let direction = fields.word("direction", "\"in\" or \"out\"", |text| match text {
        "in" => Some(Direction::In),
        "out" => Some(Direction::Out),
        _ => None,
    });
    let mut ports = fields.list("ports", MAX_PORTS, |item, path, faults| {
        read_port(item, path, scalars, faults)
    });
    if value.get("ports").is_some() && ports.is_empty() {
        fields.fault("ports", "has no valid port, expected at least one");
    }
    ports.arrange();
    ports.dedup();
    Some(Allowance {
        remote: remote?,
        protocol: protocol?,
        ports,
        direction: direction?,
    })
}

fn read_block(value: &Value, authority: Authority, scalars: Scalars, outer: &mut Fields<'_>) -> Block {
    let mut faults = Vec::new();
    let mut block = Block::default();
    let keys = ["remotes", "ports"];
    if let Some(mut fields) = Fields::open(value, "quarantine.block", &keys, scalars, &mut faults) {
        let most = if authority == Authority::Operator {
            MAX_OPERATOR_BLOCKS
        } else {
            MAX_BLOCKS
        };
        let mut remotes = fields.list("remotes", most, |item, path, faults| {
            read_remote(item, path, scalars, faults)
        });
        block.ports = fields.list("ports", MAX_BLOCKS, |item, path, faults| {
            let mut fields = Fields::open(item, path, &["protocol", "port"], scalars, faults)?;
            let protocol = fields.word("protocol", "\"tcp\" or \"udp\"", read_protocol);
            let port = fields
                .integer("port", 1, 65535)
                .and_then(|n| u16::try_from(n).ok());
            if ["protocol", "port"]
                .iter()
                .any(|key| item.get(*key).is_none_or(Value::is_null))
            {
                fields.fault("", "needs both protocol and port");
            }
            Some(BlockedPort {
                protocol: protocol?,
                port: port?,
            })
        });
        remotes.sort();
        remotes.dedup();
        block.remotes = remotes.into();
        block.ports.arrange();
        block.ports.dedup();
    }
    for fault in faults {
        outer.adopt(fault);
    }
    block
}

/// An address or block alone, or `{"remote": …, "expires": …}`.
fn read_remote(item: &Value, path: &str, scalars: Scalars, faults: &mut Vec<Fault>) -> Option<BlockedRemote> {
    if !item.is_object() {
        let net = item.as_str().and_then(crate::document::fields::read_network);
        if net.is_none() {
            push(
                faults,
                path,
                format!("is {}, expected an address or block", quote(item)),
            );
        }
        return net.map(BlockedRemote::from);
    }
    let mut fields = Fields::open(item, path, &["remote", "expires"], scalars, faults)?;
    let remote = fields.network("remote");
    let expires = fields.time("expires");
    for key in ["remote", "expires"]
        .iter()
        .filter(|key| item.get(**key).is_none_or(Value::is_null))
    {
        fields.fault(key, "is missing");
    }
    Some(BlockedRemote {
        remote: remote?,
        expires: Some(expires?),
    })
}

fn read_limit(value: &Value, scalars: Scalars, outer: &mut Fields<'_>) -> Option<Limit> {
    let mut faults = Vec::new();
    let keys = ["egressBytesPerSecond", "quotaBytes", "quotaPeriodSeconds"];
    let limit = Fields::open(value, "quarantine.limit", &keys, scalars, &mut faults).map(|mut fields| {
        let limit = Limit {
            egress_bytes_per_second: fields.integer(keys[0], MIN_RATE, MAX_BYTES),
            quota_bytes: fields.integer(keys[1], 1, MAX_BYTES),
            quota_period_seconds: fields.integer(keys[2], PERIOD.0, PERIOD.1),
        };
        let given = |key: &str| value.get(key).is_some_and(|value| !value.is_null());
        if !given(keys[0]) && !given(keys[1]) {
            fields.fault(
                "",
                "says no limit, expected egressBytesPerSecond, quotaBytes or both",
            );
        }
        if given(keys[1]) != given(keys[2]) {
            fields.fault("", "needs both quotaBytes and quotaPeriodSeconds, or neither");
        }
        limit
    });
    for fault in faults {
        outer.adopt(fault);
    }
    limit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quarantine::orders::order::ProcessAction;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    fn shadow(value: &Value) -> Result<Wish, Vec<Fault>> {
        read(Some(value), Authority::Shadow, now())
    }

    #[test]
    fn booleans_are_the_contract_of_existing_lambdas() {
        assert_eq!(shadow(&json!(false)), Ok(Wish::Release));
        assert_eq!(shadow(&json!(null)), Ok(Wish::Release));
        assert_eq!(read(None, Authority::Shadow, now()), Ok(Wish::Release));
        let Ok(Wish::Order(order)) = shadow(&json!(true)) else {
            panic!("no order")
        };
        assert_eq!((order.posture, order.id.as_str()), (Posture::Isolate, "shadow"));
    }

    #[test]
    fn anything_that_is_neither_boolean_nor_object_is_refused() {
        for value in [json!("true"), json!(1), json!([true]), json!("")] {
            let faults = shadow(&value).unwrap_err();
            assert_eq!(faults[0].path, "quarantine", "{value}");
        }
        assert!(
            read(Some(&json!("true")), Authority::Deployment, now()).is_ok(),
            "lite sends strings"
        );
    }

    #[test]
    fn a_rich_order_is_read_whole() {
        let wish = shadow(&json!({
            "id": "inc-17", "posture": "isolate", "reason": "bytes out", "expires": "2026-11-25T00:00:00Z",
            "allow": [{"remote": "198.51.100.7", "protocol": "tcp", "ports": [22, 22], "direction": "in"}],
            "block": {"remotes": ["203.0.113.0/24", {"remote": "203.0.113.7", "expires": "2026-11-24T13:00:00Z"}],
                      "ports": [{"protocol": "tcp", "port": 23}]},
            "limit": {"egressBytesPerSecond": 20000, "quotaBytes": 5000000, "quotaPeriodSeconds": 86400},
            "processes": [{"match": {"exe": "/usr/bin/rogue"}, "action": "kill"}]
        }));
        let Ok(Wish::Order(order)) = wish else {
            panic!("{wish:?}")
        };
        assert_eq!(order.id, "inc-17");
        assert_eq!(order.allow[0].ports, [22]);
        assert_eq!(order.allow[0].remote.to_string(), "198.51.100.7/32");
        assert_eq!(order.processes[0].action, ProcessAction::Kill);
        assert_eq!(order.limit.and_then(|limit| limit.quota_bytes), Some(5_000_000));
        assert_eq!(
            order.block.remotes[1].expires,
            Some("2026-11-24T13:00:00Z".parse().unwrap())
        );
        let text = serde_json::to_value(&*order).unwrap();
        assert_eq!(
            serde_json::from_value::<Order>(text).unwrap(),
            *order,
            "the journal reads it back"
        );
    }

    #[test]
    fn every_fault_of_a_bad_order_is_named() {
        let faults = shadow(&json!({
            "posture": "total", "expires": "tomorrow", "limit": {"quotaBytes": 0}, "evidence": {},
            "allow": [{"remote": "x", "protocol": "tcp", "ports": [0]}],
            "block": {"remotes": [7, {"remote": "192.0.2.1"}]},
            "processes": [{"match": {"exe": "/*"}, "action": "kill"}]
        }))
        .unwrap_err();
        let paths: Vec<_> = faults.iter().map(|f| f.path.as_str()).collect();
        for path in [
            "quarantine.evidence",
            "quarantine.limit",
            "quarantine.limit.quotaBytes",
            "quarantine.posture",
            "quarantine.expires",
            "quarantine.allow[0].remote",
            "quarantine.allow[0].direction",
            "quarantine.allow[0].ports[0]",
            "quarantine.block.remotes[0]",
            "quarantine.block.remotes[1].expires",
            "quarantine.processes[0].match",
        ] {
            assert!(
                paths.iter().any(|p| p.trim_end_matches('.') == path),
                "{path} is not among {paths:?}"
            );
        }
    }

    #[test]
    fn a_restriction_without_content_is_refused() {
        assert!(shadow(&json!({"posture": "restrict"})).is_err());
        assert!(shadow(&json!({"posture": "restrict", "block": {"remotes": ["203.0.113.9"]}})).is_ok());
    }
}
