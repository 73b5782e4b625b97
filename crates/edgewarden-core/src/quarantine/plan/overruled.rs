//! What an order allows and does not get, because another order says otherwise.
//!
//! In: the order, all live orders. Out: each such allowance with who overrules it. Pure.

use super::asked;
use crate::quarantine::orders::order::{Allowance, Authority, BlockedPort, Order};

/// An allowance that has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overruled<'a> {
    pub allowance: &'a Allowance,
    /// Whose order overrules it.
    pub by: Authority,
    /// The authority's name for that order.
    pub order: &'a str,
    /// It blocks the remote or one of the ports; otherwise it isolates and does not grant it.
    pub blocks: bool,
}

/// What of `own`'s allowances has no effect, or not all of it, while these orders live. Nothing where nothing isolates: then
/// all passes that nobody blocks.
pub fn overruled<'a>(own: &'a Order, orders: &'a [Order]) -> Vec<Overruled<'a>> {
    if asked(orders).next().is_none() {
        return Vec::new();
    }
    let is_asked = |order: &Order| asked(orders).any(|asked| std::ptr::eq(asked, order));
    let overrules = |order: &Order, allowance: &Allowance| {
        let blocks = blocks(order, allowance);
        (blocks || (is_asked(order) && !order.allow.contains(allowance))).then_some(blocks)
    };
    let found = own.allow.iter().filter_map(|allowance| {
        let (order, blocks) = orders
            .iter()
            .find_map(|order| Some((order, overrules(order, allowance)?)))?;
        Some(Overruled {
            allowance,
            by: order.authority,
            order: &order.id,
            blocks,
        })
    });
    found.collect()
}

/// Whether the order blocks some of what is allowed.
fn blocks(order: &Order, allowance: &Allowance) -> bool {
    let Allowance {
        remote,
        protocol,
        ports,
        ..
    } = allowance;
    let meets = |blocked: &ipnet::IpNet| blocked.contains(remote) || remote.contains(blocked);
    let is_blocked = |port: &u16| {
        let blocked = BlockedPort {
            protocol: *protocol,
            port: *port,
        };
        order.block.ports.contains(&blocked)
    };
    order.block.remotes.iter().any(|blocked| meets(&blocked.remote)) || ports.iter().any(is_blocked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quarantine::orders::order::{Direction, Posture, Protocol};

    fn order(authority: Authority, posture: Posture, allow: &[Allowance]) -> Order {
        let issued = "2026-01-01T00:00:00Z".parse().unwrap();
        Order {
            posture,
            allow: allow.to_vec(),
            ..Order::isolate(authority, "inc", None, issued)
        }
    }

    fn allowance(remote: &str) -> Allowance {
        Allowance {
            remote: remote.parse().unwrap(),
            protocol: Protocol::Tcp,
            ports: vec![22],
            direction: Direction::In,
        }
    }

    #[test]
    fn what_others_do_not_grant_or_block_is_named_with_them() {
        let (one, two) = (allowance("192.0.2.1/32"), allowance("198.51.100.0/24"));
        let own = order(Authority::Operator, Posture::Isolate, &[one.clone(), two.clone()]);
        assert_eq!(overruled(&own, std::slice::from_ref(&own)), [], "control: alone");
        let mut other = order(Authority::Shadow, Posture::Isolate, std::slice::from_ref(&one));
        let alarm = order(Authority::Detector, Posture::Isolate, &[]);
        assert_eq!(
            overruled(&own, &[own.clone(), alarm]),
            [],
            "an alarm takes nothing away"
        );
        let orders = [other.clone(), own.clone()];
        let found = overruled(&own, &orders);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].allowance, found[0].by), (&two, Authority::Shadow));
        assert!(!found[0].blocks);

        other.posture = Posture::Restrict;
        other.block.remotes = vec!["198.51.100.7/32".parse::<ipnet::IpNet>().unwrap().into()].into();
        let orders = [other.clone(), own.clone()];
        assert!(matches!(
            overruled(&own, &orders)[..],
            [Overruled { blocks: true, .. }]
        ));
        other.block.remotes = Vec::new().into();
        other.block.ports = vec![BlockedPort {
            protocol: Protocol::Tcp,
            port: 22,
        }];
        let orders = [other, own.clone()];
        assert_eq!(overruled(&own, &orders).len(), 2);
        let restricts = order(Authority::Operator, Posture::Restrict, &[one]);
        assert_eq!(overruled(&restricts, &orders[..1]), [], "nothing isolates");
    }
}
