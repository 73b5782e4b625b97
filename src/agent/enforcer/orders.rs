//! What the authorities want: the live orders, what the operator ended against their will, what ended for want of a nucleus, and
//! what was refused.
//!
//! In: wishes. Out: the orders that live, and what of it is worth a record. No effects.

use std::borrow::Cow;

use jiff::Timestamp;

use crate::document::fault::{Fault, join};
use crate::moment::Now;
use crate::quarantine::history::{self, Event};
use crate::quarantine::orders::book::OrderBook;
use crate::quarantine::orders::document::Wish;
use crate::quarantine::orders::leftover::passed;
use crate::quarantine::orders::order::{Authority, Order};
use crate::quarantine::proof::journal::{
    EndedWish, Journal, OperatorOverride, ReleaseWithoutNucleus, ShadowVersion,
};
use crate::quarantine::proof::state::{MAX_SHOWN, Rejection, State};

/// The desk at which wishes arrive.
#[derive(Debug, Default)]
pub(super) struct OrderDesk {
    book: OrderBook,
    overridden: Option<OperatorOverride>,
    released_without_nucleus: Option<ReleaseWithoutNucleus>,
    /// How far the shadow was heard.
    heard: Option<ShadowVersion>,
    /// The same when its wish was last news: only then the journal is written for it.
    kept: Option<ShadowVersion>,
    rejected: Vec<Rejection>,
    /// What shadow and deployment may go on saying although it has ended.
    ended: Vec<EndedWish>,
    news: Vec<Event>,
}

impl OrderDesk {
    /// As the journal remembers it.
    pub(super) fn restore(journal: &Journal<'_>) -> Self {
        Self {
            book: journal.book.clone().into_owned(),
            overridden: journal.overridden.clone().into_owned(),
            released_without_nucleus: journal.released_without_nucleus.clone().into_owned(),
            heard: journal.shadow.clone().into_owned(),
            kept: journal.shadow.clone().into_owned(),
            ended: journal.ended.clone().into_owned(),
            ..Self::default()
        }
    }

    /// Lends the journal what it must remember.
    pub(super) fn lend<'a>(&'a self, journal: &mut Journal<'a>) {
        journal.book = Cow::Borrowed(&self.book);
        journal.overridden = Cow::Borrowed(&self.overridden);
        journal.released_without_nucleus = Cow::Borrowed(&self.released_without_nucleus);
        journal.shadow = Cow::Borrowed(&self.kept);
        journal.ended = Cow::Borrowed(&self.ended);
    }

    /// How far the shadow was heard, in this life or an earlier one.
    pub(super) fn shadow_heard(&self) -> Option<ShadowVersion> {
        self.heard.clone()
    }

    /// The live orders.
    pub(super) fn orders(&self) -> &[Order] {
        self.book.orders()
    }

    /// The book as it would be if the operator gave `order`.
    pub(super) fn with(&self, order: Option<Box<Order>>, now: Now) -> OrderBook {
        let mut book = self.book.clone();
        book.expire(now.wall);
        if let Some(order) = order {
            // As `take` does.
            book.set(Authority::Recovery, Wish::Release);
            book.set(Authority::Operator, Wish::Order(order));
        }
        book
    }

    /// What is worth a record since the last call.
    pub(super) fn take_news(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.news)
    }

    /// How long until the next order ends by itself.
    pub(super) fn next_end(&self, now: Now) -> Option<std::time::Duration> {
        let ends = self.orders().iter().filter_map(|order| order.expires);
        ends.map(|end| end.duration_since(now.wall).try_into().unwrap_or_default())
            .min()
    }

    /// Ends what has ended by itself.
    pub(super) fn expire(&mut self, now: Now) {
        for ended in self.book.expire(now.wall) {
            tracing::info!(order = %ended.id, authority = %ended.authority, "the order has expired");
            self.note_ended(&ended);
            self.news.push(Event::Expired {
                authority: ended.authority,
                order: ended.id,
            });
        }
    }

    /// Remembers an order that has ended and that its authority is not known to have taken back.
    fn note_ended(&mut self, order: &Order) {
        let authority = order.authority;
        if authority.needs_nucleus() {
            let sum = order.wish_sum();
            self.forget_ended(authority);
            self.ended.push(EndedWish { authority, sum });
        }
    }

    fn forget_ended(&mut self, authority: Authority) {
        self.ended.retain(|ended| ended.authority != authority);
    }

    /// Whether that is what was live until its end, or until the operator ended it: its authority need not have read that.
    fn has_ended(&self, order: &Order) -> bool {
        let mut overridden = self.overridden.iter().flat_map(|ended| &ended.orders);
        let mut ended = self.ended.iter();
        overridden.any(|known| known.same_wish(order))
            || ended.any(|ended| ended.authority == order.authority && ended.sum == order.wish_sum())
    }

    /// What is left of a wish by the clock that is trusted: of an order that is over, and is said again, nothing.
    ///
    /// # Errors
    /// Another order, whose own end had passed when it came: to obey it and to take it for a release would both be wrong.
    fn what_is_left(&mut self, authority: Authority, wish: Wish, now: Now) -> Result<Wish, Vec<Fault>> {
        let Wish::Order(order) = wish else {
            self.forget_ended(authority);
            return Ok(Wish::Release);
        };
        let order = in_trusted_time(*order, now);
        let Some(end) = order.expires.filter(|_| order.expired(now.wall)) else {
            self.forget_ended(authority);
            return Ok(Wish::Order(Box::new(order)));
        };
        // It may be the live one, whose end has come this very moment.
        self.expire(now);
        if !self.has_ended(&order) {
            return Err(passed(authority, end));
        }
        self.note_ended(&order);
        Ok(Wish::Release)
    }

    /// Takes what an authority wants. Gives whether that is news: then what was given up deserves another try.
    pub(super) fn take(&mut self, authority: Authority, wish: Wish, now: Now) -> bool {
        let wish = match self.what_is_left(authority, wish, now) {
            Ok(wish) => wish,
            Err(faults) => {
                self.refuse(authority, faults, now);
                return false;
            }
        };
        self.rejected.retain(|rejection| rejection.authority != authority);
        // A person who decides ends what a damaged journal made us assume.
        if authority == Authority::Operator {
            self.set(Authority::Recovery, Wish::Release, authority);
        }
        !self.is_overridden(authority, &wish) && self.set(authority, wish, authority)
    }

    /// The operator takes back the own order, and may say why. Gives whether that is news.
    pub(super) fn take_back(&mut self, reason: Option<&str>, now: Now) -> bool {
        let earlier = self.news.len();
        let news = self.take(Authority::Operator, Wish::Release, now);
        for event in self.news.iter_mut().skip(earlier) {
            if let Event::Released { reason: why, .. } = event {
                *why = reason.map(str::to_owned);
            }
        }
        news
    }

    /// Takes what the shadow wants, as [`OrderDesk::take`] does. What is not settled may be an old message: it may close
    /// for the moment until the shadow's own answer is there, and is otherwise left to that answer.
    pub(super) fn take_shadow(
        &mut self,
        wish: Wish,
        heard: Option<ShadowVersion>,
        settled: bool,
        now: Now,
    ) -> bool {
        if !settled && !self.only_closes(&wish) {
            tracing::info!("what the shadow said may be old: its answer to a question is waited for");
            return false;
        }
        let held_back = |desk: &Self| desk.overridden.as_ref().map(|ended| ended.orders.len());
        let before = held_back(self);
        let news = self.take(Authority::Shadow, wish, now);
        let changed = news || held_back(self) != before;
        // Where there is no shadow there is no version: what was heard before still tells its old messages.
        if let Some(heard) = heard.filter(|_| settled || changed) {
            self.heard = Some(heard);
        }
        if changed {
            self.kept.clone_from(&self.heard);
        }
        news
    }

    /// Whether a wish of the shadow closes more, lets nothing go, and does not touch what the operator ended: whether it is just that, or
    /// another one that counts, only the shadow's answer can tell.
    fn only_closes(&self, wish: &Wish) -> bool {
        let is_shadows = |order: &&Order| order.authority == Authority::Shadow;
        let ended = self.overridden.iter().flat_map(|ended| &ended.orders);
        let Wish::Order(order) = wish else { return false };
        ended.filter(is_shadows).count() == 0 && order.only_closes(self.orders().iter().find(is_shadows))
    }

    /// Changes what `authority` wants; gives whether that is news.
    pub(super) fn set(&mut self, authority: Authority, wish: Wish, by: Authority) -> bool {
        let held = self.orders().iter().find(|order| order.authority == authority);
        let (text, event) = match &wish {
            Wish::Order(order) => {
                let carries = order.carries();
                let with = if carries.is_empty() { "" } else { ", with " };
                let text = format!("{} ({}){with}{carries}", order.posture, order.id);
                (text, Event::ordered(order))
            }
            Wish::Release => {
                let order = held.map(|order| order.id.clone()).unwrap_or_default();
                let reason = None;
                let event = Event::Released {
                    authority,
                    order,
                    by,
                    reason,
                };
                ("release".to_owned(), event)
            }
        };
        let news = self.book.set(authority, wish);
        if news {
            if authority.needs_nucleus() && matches!(event, Event::Released { .. }) {
                // Whoever takes an order back has read what became of the one before.
                self.released_without_nucleus = None;
            }
            tracing::info!(%authority, "new wish: {text}");
            self.news.push(event);
        }
        news
    }

    /// Whether the operator has ended just this wish; another wish of the same authority ends the override for it.
    fn is_overridden(&mut self, authority: Authority, wish: &Wish) -> bool {
        let Some(overridden) = &mut self.overridden else {
            return false;
        };
        // Shadow and deployment are read again and again; the others speak once, so what they say is always news.
        let repeats = authority.needs_nucleus();
        let same = |order: &Order| matches!(wish, Wish::Order(wanted) if repeats && order.authority == authority && order.same_wish(wanted));
        if overridden.orders.iter().any(same) {
            return true;
        }
        overridden.orders.retain(|order| order.authority != authority);
        if overridden.orders.is_empty() {
            self.overridden = None;
        }
        false
    }

    /// A wish that cannot be read changes nothing and is told.
    pub(super) fn refuse(&mut self, authority: Authority, faults: Vec<Fault>, now: Now) {
        let known = self
            .rejected
            .iter()
            .any(|old| old.authority == authority && old.faults == faults);
        if known {
            return;
        }
        tracing::warn!(%authority, "the order is refused and changes nothing: {}", join(&faults));
        self.news.push(Event::Refused {
            authority,
            faults: faults.iter().map(Fault::to_string).collect(),
        });
        self.rejected.retain(|rejection| rejection.authority != authority);
        self.rejected.insert(
            0,
            Rejection {
                authority,
                at: now.wall,
                faults,
            },
        );
        self.rejected.truncate(MAX_SHOWN);
    }

    /// Ends what came through a nucleus, as if its authorities had taken it back; gives whether there was anything. What the
    /// operator ended before stays ended; what is still wanted when a nucleus is back counts again.
    pub(super) fn release_without_nucleus(&mut self, why: String, now: Now) -> bool {
        let through = |order: &&Order| order.authority.needs_nucleus();
        let ended: Vec<Order> = self.orders().iter().filter(through).cloned().collect();
        if ended.is_empty() {
            return false;
        }
        for order in &ended {
            self.book.set(order.authority, Wish::Release);
            self.note_ended(order);
            tracing::warn!(order = %order.id, authority = %order.authority, "THE ORDER ENDS BY ITSELF: {why}");
        }
        let orders = history::names(&ended);
        self.news.push(Event::ReleasedWithoutNucleus {
            why: why.clone(),
            orders: orders.clone(),
        });
        self.released_without_nucleus = Some(ReleaseWithoutNucleus {
            at: now.wall,
            why,
            orders,
        });
        true
    }

    /// The operator ends every order.
    pub(super) fn override_all(&mut self, reason: String, now: Now) {
        self.released_without_nucleus = None;
        let mut orders = self.book.clear();
        for order in &orders {
            tracing::warn!(order = %order.id, authority = %order.authority, "ended by the operator: {reason}");
        }
        if !orders.is_empty() {
            self.news.push(Event::Overridden {
                reason: reason.clone(),
                orders: history::names(&orders),
            });
        }
        // The operator's own order and what a damaged journal made us assume end for good: nobody's will is held back.
        orders.retain(|order| !matches!(order.authority, Authority::Operator | Authority::Recovery));
        if !orders.is_empty() {
            // What was ended before and is still repeated must not come back by this.
            let earlier = self.overridden.take();
            orders.extend(earlier.into_iter().flat_map(|earlier| earlier.orders));
            self.overridden = Some(OperatorOverride {
                reason,
                at: now.wall,
                orders,
            });
        }
    }

    /// What may be said of it.
    pub(super) fn show(&self, state: &mut State) {
        state.orders = self.orders().iter().map(Order::for_show).collect();
        state.rejected.clone_from(&self.rejected);
        state.overridden.clone_from(&self.overridden);
        state
            .released_without_nucleus
            .clone_from(&self.released_without_nucleus);
    }
}

/// Operator and detector say how long, and the wall clock made a time of it; the cloud says until when.
fn in_trusted_time(mut order: Order, now: Now) -> Order {
    if matches!(order.authority, Authority::Operator | Authority::Detector) {
        let lasts = order.expires.map(|end| end.duration_since(order.issued));
        order.expires = lasts.map(|lasts| now.wall.checked_add(lasts).unwrap_or(Timestamp::MAX));
    }
    order.issued = now.wall;
    order
}

#[cfg(test)]
#[path = "orders_tests.rs"]
mod tests;
