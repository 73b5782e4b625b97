//! The enforcer's desk: what each command changes in the journal and the settings. No effects.

use jiff::Timestamp;

use super::{Command, Enforcer, REMEMBERED, Settings};
use crate::document::fault::{Fault, join};
use crate::moment::Now;
use crate::quarantine::history::{self, Event};
use crate::quarantine::orders::document::Wish;
use crate::quarantine::orders::order::{Authority, Order};
use crate::quarantine::proof::journal::Overridden;
use crate::quarantine::proof::state::{MAX_SHOWN, Rejection};

impl Enforcer {
    pub(super) fn handle(&mut self, command: Command, now: Now) {
        match command {
            Command::Wish {
                authority,
                wish: Ok(wish),
            } => self.take_wish(authority, wish, now),
            Command::Wish {
                authority,
                wish: Err(faults),
            } => self.refuse_wish(authority, faults, now),
            Command::Override { reason } => self.override_all(reason, now),
            // Whoever asked may have gone.
            Command::Plan { order, reply } => drop(reply.send(Box::new(self.outlook(order, now)))),
            Command::Settings(settings) => self.take_settings(*settings),
            Command::Addresses(endpoints) => {
                if self.journal.addresses.note(endpoints, now.wall) {
                    tracing::debug!("lifeline addresses changed");
                }
            }
            Command::KernelChanged(change) => {
                self.changes.extend(change);
                let surplus = self.changes.len().saturating_sub(REMEMBERED);
                self.changes.drain(..surplus);
            }
            // Nothing to note: the reconciliation that follows every command looks at everything.
            Command::LinksChanged | Command::Look => {}
            Command::Channel { works } => self.channel_works = works,
            Command::ServiceTime(time) => self.clock.service(now, time),
            Command::RoundTrip { sent } => {
                self.channel_works = true;
                self.round_trip = self.round_trip.max(Some(sent));
            }
        }
    }

    fn take_wish(&mut self, authority: Authority, wish: Wish, now: Now) {
        self.rejected.retain(|rejection| rejection.authority != authority);
        // A person who decides ends what a damaged journal made us assume.
        if authority == Authority::Operator {
            self.set(Authority::Recovery, Wish::Release, authority);
        }
        let wish = match wish {
            Wish::Order(order) => match in_trusted_time(*order, now) {
                order if order.expired(now.wall) => Wish::Release,
                order => Wish::Order(Box::new(order)),
            },
            Wish::Release => Wish::Release,
        };
        if self.is_overridden(authority, &wish) {
            return;
        }
        if self.set(authority, wish, authority) {
            // New orders deserve a new try.
            self.journal.rolled_back = None;
        }
    }

    /// Changes what `authority` wants; gives whether that is news.
    fn set(&mut self, authority: Authority, wish: Wish, by: Authority) -> bool {
        let orders = self.journal.book.orders();
        let held = orders.iter().find(|order| order.authority == authority);
        let (text, event) = match &wish {
            Wish::Order(order) => (format!("{} ({})", order.posture, order.id), Event::ordered(order)),
            Wish::Release => {
                let order = held.map(|order| order.id.clone()).unwrap_or_default();
                let event = Event::Released { authority, order, by };
                ("release".to_owned(), event)
            }
        };
        let news = self.journal.book.set(authority, wish);
        if news {
            tracing::info!(%authority, "new wish: {text}");
            self.history.note(event);
        }
        news
    }

    /// Whether the operator has ended just this wish; another wish of the same authority ends the override for it.
    fn is_overridden(&mut self, authority: Authority, wish: &Wish) -> bool {
        let Some(overridden) = &mut self.journal.overridden else {
            return false;
        };
        // Shadow and deployment are read again and again; the others speak once, so what they say is always news.
        let repeats = matches!(authority, Authority::Shadow | Authority::Deployment);
        let same = |order: &Order| matches!(wish, Wish::Order(wanted) if repeats && order.authority == authority && order.same_wish(wanted));
        if overridden.orders.iter().any(same) {
            return true;
        }
        overridden.orders.retain(|order| order.authority != authority);
        if overridden.orders.is_empty() {
            self.journal.overridden = None;
        }
        false
    }

    fn refuse_wish(&mut self, authority: Authority, faults: Vec<Fault>, now: Now) {
        let known = self
            .rejected
            .iter()
            .any(|old| old.authority == authority && old.faults == faults);
        if known {
            return;
        }
        tracing::warn!(%authority, "the order is refused and changes nothing: {}", join(&faults));
        self.history.note(Event::Refused {
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

    fn override_all(&mut self, reason: String, now: Now) {
        let mut orders = self.journal.book.clear();
        for order in &orders {
            tracing::warn!(order = %order.id, authority = %order.authority, "ended by the operator: {reason}");
        }
        if !orders.is_empty() {
            self.history.note(Event::Overridden {
                reason: reason.clone(),
                orders: history::names(&orders),
            });
        }
        self.journal.rolled_back = None;
        // The operator's own order and what a damaged journal made us assume end for good: nobody's will is held back.
        orders.retain(|order| !matches!(order.authority, Authority::Operator | Authority::Recovery));
        if !orders.is_empty() {
            // What was ended before and is still repeated must not come back by this.
            let earlier = self.journal.overridden.take();
            orders.extend(earlier.into_iter().flat_map(|earlier| earlier.orders));
            self.journal.overridden = Some(Overridden {
                reason,
                at: now.wall,
                orders,
            });
        }
    }

    fn take_settings(&mut self, settings: Settings) {
        let lifelines = &settings.isolation.settings.lifelines;
        self.journal
            .addresses
            .keep_purposes(|purpose| lifelines.wants(purpose));
        if settings.isolation != self.settings.isolation {
            // Another endpoint or another lifeline may be what the plan that was given up needed.
            self.journal.rolled_back = None;
        }
        self.settings = settings;
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
