//! Ways past the packet filter as enforcement asks for them: [`Bypasses`].
//!
//! In: whether anything is cut. Out: what is not, found and closed where that is possible by a thread of its own, at a bounded
//! pace. That thread keeps the seats at the queues of the interfaces (`queue_seats`), and looks for what can only be told: programs
//! and filters at interfaces (`link_programs`), interfaces that were moved away (`moved_links`), who reads frames
//! (`packet_sockets`).

use std::time::{Duration, Instant};

use netlink_sys::protocols::{NETLINK_ROUTE, NETLINK_SOCK_DIAG};
use tokio::sync::oneshot;
use tokio::time;

use super::link_programs::link_programs;
use super::links::links_from;
use super::moved_links::MovedLinks;
use super::netlink::{Netlink, NetlinkError};
use super::packet_sockets::PacketSockets;
use super::queue_seats::QueueSeats;
use crate::error_text;
use crate::host::clock;
use crate::host::processes::pace::thread_time;
use crate::host::worker::Worker;
use crate::quarantine::ports::Bypasses;

/// Seats that are given back wait for the kernel, 64 of them a second and a half.
const LIMIT: Duration = Duration::from_secs(10);
/// From one look to the next at least; interfaces come and go in bursts.
const REST: Duration = Duration::from_millis(250);
/// What is somebody else's is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// Of the time at most one part in so many is spent on looks.
const SHARE: u32 = 20;

/// Ways that are told one by one.
const MAX_TOLD: usize = 16;

/// What the thread keeps.
#[derive(Default)]
pub(crate) struct BypassLooks {
    sockets: Option<Sockets>,
    seats: QueueSeats,
    readers: PacketSockets,
    moved: MovedLinks,
}

/// Open from the first look on: at an order there may be no descriptor left, and what is opened then may be the one that the
/// operator needs.
struct Sockets {
    route: Netlink,
    diag: Netlink,
}

impl Sockets {
    fn open() -> Result<Self, NetlinkError> {
        Ok(Self {
            route: Netlink::open(NETLINK_ROUTE)?,
            diag: Netlink::open(NETLINK_SOCK_DIAG)?,
        })
    }
}

/// What a look found.
#[derive(Debug, Default)]
pub(crate) struct Look {
    uncovered: Vec<String>,
    /// Processor time that it took.
    cost: Duration,
    /// When the next one is wanted, whatever happens.
    again: Option<Duration>,
}

impl Look {
    fn failed(why: &str) -> Self {
        Self {
            uncovered: vec![not_looked_for(why)],
            again: Some(AGAIN),
            ..Self::default()
        }
    }
}

impl BypassLooks {
    fn look(&mut self, cuts: bool) -> Look {
        if self.sockets.is_none() {
            match Sockets::open() {
                Ok(sockets) => self.sockets = Some(sockets),
                Err(error) => return Look::failed(&error_text(&error)),
            }
            self.moved.listen();
        }
        let Some(sockets) = &mut self.sockets else {
            return Look::failed("there are no sockets");
        };
        if !cuts {
            self.seats.give_back();
            self.moved.forget();
            self.readers.forget(&mut sockets.diag);
            return Look::default();
        }
        let began = thread_time();
        let links = match links_from(&mut sockets.route) {
            Ok((links, _)) => links,
            Err(error) => return Look::failed(&error_text(&error)),
        };
        let moved = self.moved.look(&links);
        let seated = self.seats.take(&links, clock::instant());
        let readers = self.readers.look(&mut sockets.diag);
        // A kernel that does not list them has none.
        let programs = link_programs(&mut sockets.route).unwrap_or_default();
        let mut uncovered = seated.uncovered;
        uncovered.extend(moved);
        uncovered.extend(programs);
        let surplus = uncovered.len().saturating_sub(MAX_TOLD);
        if surplus > 0 {
            uncovered.truncate(MAX_TOLD);
            uncovered.push(format!("{surplus} more ways past the rules were found"));
        }
        uncovered.extend(readers.uncovered);
        Look {
            uncovered,
            cost: thread_time().saturating_sub(began),
            again: (seated.waits || readers.waits).then_some(AGAIN),
        }
    }
}

/// A look that is under way.
struct UnderWay {
    answer: oneshot::Receiver<Look>,
    began: Instant,
    /// That it is late is told once.
    is_late: bool,
}

/// The ways past the packet filter of the network namespace of the thread that first asks.
pub struct HostBypasses {
    looks: Worker<BypassLooks>,
    cuts: Option<bool>,
    found: Vec<String>,
    under_way: Option<UnderWay>,
    /// When the next look is due.
    due: Option<Instant>,
    /// No look before this, but after another order.
    rests: Option<Instant>,
    is_urgent: bool,
}

impl HostBypasses {
    /// The thread, for a machine whose enforcers follow one another: what it has taken it keeps.
    pub(crate) fn thread() -> Worker<BypassLooks> {
        Worker::new("bypasses", LIMIT)
    }

    /// Nothing is looked for before [`Bypasses::changed`] is waited for.
    pub(crate) const fn new(looks: Worker<BypassLooks>) -> Self {
        Self {
            looks,
            cuts: None,
            found: Vec::new(),
            under_way: None,
            due: None,
            rests: None,
            is_urgent: false,
        }
    }

    /// Begins a look once one is due.
    async fn begin(&mut self) {
        let Some(due) = self.due else {
            return std::future::pending().await;
        };
        let rests = self.rests.filter(|_| !self.is_urgent);
        time::sleep_until(rests.map_or(due, |rests| rests.max(due)).into()).await;
        let cuts = self.cuts.unwrap_or_default();
        (self.due, self.is_urgent) = (None, false);
        let began = clock::instant();
        match self.looks.begin(move |looks| looks.look(cuts)) {
            Ok(answer) => {
                self.under_way = Some(UnderWay {
                    answer,
                    began,
                    is_late: false,
                });
            }
            Err(error) => {
                self.due = Some(began + AGAIN);
                self.say(vec![not_looked_for(&error_text(&error))]);
            }
        }
    }

    fn say(&mut self, found: Vec<String>) {
        self.found = if self.cuts == Some(true) {
            found
        } else {
            Vec::new()
        };
    }
}

fn not_looked_for(why: &str) -> String {
    format!("ways past the packet filter are not looked for: {why}")
}

impl Bypasses for HostBypasses {
    fn guard(&mut self, cuts: bool) {
        if self.cuts.replace(cuts) != Some(cuts) {
            self.is_urgent = true;
            self.found.clear();
        } else if !cuts {
            return;
        }
        self.due = Some(clock::instant());
    }

    fn found(&self) -> &[String] {
        &self.found
    }

    async fn changed(&mut self) {
        let before = self.found.clone();
        while self.found == before {
            let Some(look) = &mut self.under_way else {
                self.begin().await;
                continue;
            };
            let answered = if look.is_late {
                (&mut look.answer).await
            } else {
                match time::timeout_at((look.began + LIMIT).into(), &mut look.answer).await {
                    Ok(answered) => answered,
                    Err(_) => {
                        look.is_late = true;
                        self.say(vec![not_looked_for("the kernel is late with its answers")]);
                        continue;
                    }
                }
            };
            self.under_way = None;
            // A thread that panicked is made anew by the next look.
            let look = answered.unwrap_or_else(|_| Look::failed("it failed"));
            let now = clock::instant();
            self.rests = Some(now + REST.max(look.cost.saturating_mul(SHARE)));
            if let Some(again) = look.again {
                let again = now + again;
                self.due = Some(self.due.map_or(again, |due| due.min(again)));
            }
            self.say(look.uncovered);
        }
    }
}
