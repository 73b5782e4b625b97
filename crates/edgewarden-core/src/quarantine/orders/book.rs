//! All live orders, one for each authority.
//!
//! In: wishes of authorities and `now`. Out: whether something changed, and the live orders.
//! Invariant: an authority ends only its own order; expiry ends any; the operator's override ends all, with a reason.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::document::Wish;
use super::order::{Authority, Order};
use crate::Arrange;

/// The live orders, sorted by authority.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderBook {
    orders: Vec<Order>,
}

impl OrderBook {
    /// Records what `authority` wants; gives whether the book changed. A repeated wish changes nothing, so that
    /// the order keeps the time it was first learned.
    pub fn set(&mut self, authority: Authority, wish: Wish) -> bool {
        let held = self.orders.iter().position(|order| order.authority == authority);
        match (wish, held) {
            (Wish::Release, None) => false,
            (Wish::Release, Some(index)) => {
                self.orders.remove(index);
                true
            }
            (Wish::Order(order), Some(index)) => {
                let changed = !self.orders[index].same_wish(&order);
                if changed {
                    self.orders[index] = *order;
                }
                changed
            }
            (Wish::Order(order), None) => {
                self.orders.push(*order);
                self.orders.arrange_by_key(|order| order.authority);
                true
            }
        }
    }

    /// Removes orders that ended by themselves and gives them back.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Order> {
        let (ended, live) = self.orders.drain(..).partition(|order| order.expired(now));
        self.orders = live;
        ended
    }

    /// The operator's override: ends every order and gives them back.
    pub fn clear(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    /// To be given other lists that say the same.
    pub(in crate::quarantine) fn orders_mut(&mut self) -> &mut [Order] {
        &mut self.orders
    }

    /// The live orders.
    pub fn orders(&self) -> &[Order] {
        &self.orders
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn isolate(authority: Authority, issued: &str) -> Wish {
        Wish::Order(Box::new(Order::isolate(authority, "x", None, at(issued))))
    }

    #[test]
    fn a_repeated_wish_keeps_the_first_time() {
        let mut book = OrderBook::default();
        assert!(book.set(
            Authority::Shadow,
            isolate(Authority::Shadow, "2026-01-01T00:00:00Z")
        ));
        assert!(!book.set(
            Authority::Shadow,
            isolate(Authority::Shadow, "2026-01-02T00:00:00Z")
        ));
        assert_eq!(book.orders()[0].issued, at("2026-01-01T00:00:00Z"));
    }

    #[test]
    fn an_authority_releases_only_its_own_order() {
        let mut book = OrderBook::default();
        book.set(
            Authority::Operator,
            isolate(Authority::Operator, "2026-01-01T00:00:00Z"),
        );
        assert!(!book.set(Authority::Shadow, Wish::Release));
        assert_eq!(book.orders().len(), 1);
        assert!(book.set(Authority::Operator, Wish::Release));
        assert!(book.orders().is_empty());
    }

    #[test]
    fn expired_orders_leave_and_the_override_ends_all() {
        let mut book = OrderBook::default();
        let mut order = Order::isolate(Authority::Shadow, "a", None, at("2026-01-01T00:00:00Z"));
        order.expires = Some(at("2026-01-02T00:00:00Z"));
        book.set(Authority::Shadow, Wish::Order(Box::new(order)));
        book.set(
            Authority::Detector,
            isolate(Authority::Detector, "2026-01-01T00:00:00Z"),
        );
        assert!(book.expire(at("2026-01-01T12:00:00Z")).is_empty());
        assert_eq!(book.expire(at("2026-01-02T00:00:00Z")).len(), 1);
        assert_eq!(book.clear().len(), 1);
        assert!(book.orders().is_empty());
    }
}
