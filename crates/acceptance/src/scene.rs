//! The verbs that scenarios are made of, on whichever nucleus.
//!
//! In: a bed and a round trip. Out: times from a publish at the broker to what the kernel lets through, and the guard of
//! the prober set whenever the way has to be closed.

use std::time::{Duration, Instant};

use edgewarden_lab::site::wait_until;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::bed::{Bed, Lite, PATIENCE, Real};
use crate::error::Trouble;
use crate::processes;

/// An order that is late is waited for this much longer than its limit, so that the table says how late.
const LATENESS: Duration = Duration::from_secs(20);
/// What comes on top of two round trips: the agent's and the nucleus' own time.
const OWN_TIME: Duration = Duration::from_secs(1);

/// What a scenario saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Time until each order was obeyed; none when it was not.
    pub(crate) times: Vec<Option<Duration>>,
    /// What else it says.
    pub(crate) note: String,
    /// That something was not as it has to be, beside times.
    pub(crate) faults: Vec<String>,
}

impl Seen {
    pub(crate) fn times(times: impl IntoIterator<Item = Option<Duration>>) -> Self {
        Self {
            times: times.into_iter().collect(),
            ..Self::default()
        }
    }

    /// What two plays of the same scenario saw.
    pub(crate) fn and(mut self, later: Self) -> Self {
        self.times.extend(later.times);
        self.faults.extend(later.faults);
        Self {
            note: later.note,
            ..self
        }
    }

    pub(crate) fn fault(mut self, is: bool, what: impl Into<String>) -> Self {
        if is {
            self.faults.push(what.into());
        }
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

/// One run of a scenario.
pub(crate) struct Scene<'a> {
    pub(crate) bed: &'a mut dyn Bed,
    /// There and back.
    pub(crate) round_trip: Duration,
    /// Within which an order has to be obeyed.
    pub(crate) limit: Duration,
}

impl Scene<'_> {
    /// Two round trips and a second.
    pub(crate) fn two_round_trips(round_trip: Duration) -> Duration {
        round_trip * 2 + OWN_TIME
    }

    /// Waits for a value; a nucleus that has ended is started again meanwhile.
    pub(crate) fn wait(
        &mut self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut(&mut dyn Bed) -> bool,
    ) -> Result<(), Trouble> {
        let mut kept = Ok(());
        let waited = wait_until(limit, what, || {
            kept = self.bed.keep_nucleus();
            kept.is_err() || condition(self.bed)
        });
        kept?;
        waited.map_err(|_| Trouble::Late {
            what: what.to_owned(),
            seconds: limit.as_secs(),
        })
    }

    /// Free, connected, one agent; from the beginning when it is not so within half a minute. Then the round trip counts.
    pub(crate) fn ready(&mut self) -> Result<(), Trouble> {
        self.bed.prober().unguard();
        self.bed.way().delay(Duration::ZERO)?;
        self.bed.way().black_hole(false)?;
        let at_ease =
            |bed: &mut dyn Bed| bed.prober().is_open() && bed.agent().is_some() && bed.channel_works();
        self.bed.desire(&json!({"quarantine": false}))?;
        if self.wait("a free device", PATIENCE / 2, at_ease).is_err() {
            self.bed.fresh()?;
            self.wait("a free device after a new beginning", PATIENCE * 2, at_ease)?;
        }
        self.bed.way().delay(self.round_trip / 2)?;
        Ok(())
    }

    /// A nucleus with no cuts behind it: it waits longer after each, up to two minutes, whichever scenario they were of.
    pub(crate) fn new_nucleus(&mut self) -> Result<(), Trouble> {
        self.bed.fresh()?;
        self.ready()
    }

    /// Orders isolation and waits until it stands and is confirmed; gives how long it took.
    pub(crate) fn isolate(&mut self) -> Result<Duration, Trouble> {
        self.isolate_by(|bed| bed.desire(&json!({"quarantine": true})).map(drop))
    }

    /// As [`Scene::isolate`], ordered in another way.
    pub(crate) fn isolate_by(
        &mut self,
        order: impl FnOnce(&mut dyn Bed) -> Result<(), Trouble>,
    ) -> Result<Duration, Trouble> {
        let began = Instant::now();
        order(self.bed)?;
        let took = self.closed_since(began).ok_or_else(|| Trouble::Late {
            what: "isolation".to_owned(),
            seconds: (self.limit + LATENESS).as_secs(),
        })?;
        self.wait("confirmed isolation", PATIENCE, |bed| {
            bed.status()["enforcement"]["phase"] == "enforced"
        })?;
        self.bed.prober().guard();
        Ok(took)
    }

    /// When the way closed; none if it did not.
    pub(crate) fn closed_since(&mut self, began: Instant) -> Option<Duration> {
        let limit = self.limit + LATENESS;
        self.bed.prober().wait_closed(began, limit)
    }

    /// Ends the order of the shadow and gives when the way opened; none if it did not.
    pub(crate) fn release(&mut self) -> Result<Option<Duration>, Trouble> {
        self.release_by(|bed| bed.desire(&json!({"quarantine": false})).map(drop))
    }

    /// As [`Scene::release`], ordered in another way.
    pub(crate) fn release_by(
        &mut self,
        order: impl FnOnce(&mut dyn Bed) -> Result<(), Trouble>,
    ) -> Result<Option<Duration>, Trouble> {
        self.bed.prober().unguard();
        let began = Instant::now();
        order(self.bed)?;
        Ok(self.open_since(began))
    }

    /// When the way opened; none if it did not.
    pub(crate) fn open_since(&mut self, began: Instant) -> Option<Duration> {
        let deadline = Instant::now() + self.limit + LATENESS;
        while Instant::now() < deadline {
            if let Some(took) = self.bed.prober().wait_open(began, Duration::from_millis(500)) {
                return Some(took);
            }
            let _ = self.bed.keep_nucleus();
        }
        None
    }

    /// The classic nucleus, for what the others are not asked.
    pub(crate) fn real(&mut self) -> Result<&mut Real, Trouble> {
        self.bed.real().ok_or_else(|| another("the classic nucleus"))
    }

    /// Lite, for what the others are not asked.
    pub(crate) fn lite(&mut self) -> Result<&mut Lite, Trouble> {
        self.bed.lite().ok_or_else(|| another("nucleus lite"))
    }

    /// The agent that runs; waits for it.
    pub(crate) fn agent(&mut self) -> Result<i32, Trouble> {
        self.wait("one agent", PATIENCE, |bed| bed.agent().is_some())?;
        self.bed.agent().ok_or_else(|| Trouble::Late {
            what: "one agent".to_owned(),
            seconds: 0,
        })
    }

    /// Kills the agent and waits until another one runs.
    pub(crate) fn kill_agent(&mut self) -> Result<(), Trouble> {
        let agent = self.agent()?;
        processes::signal(agent, Signal::SIGKILL)?;
        self.successor(agent)
    }

    /// Waits until another agent than this runs.
    pub(crate) fn successor(&mut self, agent: i32) -> Result<(), Trouble> {
        self.wait("the agent's successor", PATIENCE, |_| {
            processes::agents().iter().any(|pid| *pid != agent)
        })
    }

    /// Waits until the nucleus has recovered by itself: a further MQTT session, and its interface up.
    pub(crate) fn recovered(&mut self, sessions_before: usize) -> Result<(), Trouble> {
        self.wait("the nucleus' own recovery", PATIENCE * 3, |bed| {
            bed.sessions() > sessions_before && bed.interface_is_up()
        })
    }

    /// Lets time pass that is part of a scenario; a nucleus that ends meanwhile is started again.
    pub(crate) fn pass(&mut self, time: Duration) -> Result<(), Trouble> {
        let until = Instant::now() + time;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.bed.keep_nucleus()?;
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
        Ok(())
    }

    /// What the agent's command line answered, or that it did not do it.
    pub(crate) fn command(&mut self, arguments: &[&str]) -> Result<String, Trouble> {
        let (code, output, errors) = self.bed.edgewarden(arguments)?;
        if code == Some(0) {
            return Ok(output);
        }
        Err(Trouble::Nucleus {
            operation: format!("edgewarden {}", arguments.join(" ")),
            answer: errors.trim().to_owned(),
        })
    }
}

fn another(wanted: &str) -> Trouble {
    Trouble::Nucleus {
        operation: format!("what only {wanted} is asked"),
        answer: "this is another one".to_owned(),
    }
}
