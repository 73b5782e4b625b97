//! Calls with a fixed number of them in flight, until the calls or the time are used up.
//!
//! In: a client and [`Arguments`]. Out: counts, latencies of the calls that succeeded, the first error.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::latencies::Latencies;
use crate::{Arguments, Caller, Case, PAYLOAD_BYTES};

/// What happened.
#[derive(Debug)]
pub(crate) struct Window {
    left: u64,
    until: Instant,
    failed: u64,
    first_error: Option<String>,
    latencies: Latencies,
}

impl Window {
    /// Measures; gives the event that tells the numbers.
    pub(crate) async fn measure<C: Caller>(caller: &Rc<C>, arguments: Arguments) -> Value {
        let started = Instant::now();
        let window = Rc::new(RefCell::new(Self {
            left: arguments.calls,
            until: started + arguments.time,
            failed: 0,
            first_error: None,
            latencies: Latencies::new(),
        }));
        // The first worker is this task itself: with one call in flight there is no other task in the client's way.
        let others: Vec<_> = (1..arguments.in_flight)
            .map(|_| tokio::task::spawn_local(work(Rc::clone(caller), arguments.case, Rc::clone(&window))))
            .collect();
        work(Rc::clone(caller), arguments.case, Rc::clone(&window)).await;
        for other in others {
            drop(other.await);
        }
        window.borrow().event(started.elapsed())
    }

    fn take(&mut self, now: Instant) -> bool {
        let goes_on = self.left > 0 && now < self.until;
        if goes_on {
            self.left -= 1;
        }
        goes_on
    }

    fn event(&self, took: Duration) -> Value {
        json!({
            "event": "done",
            "calls": self.latencies.total(),
            "failed": self.failed,
            "first_error": self.first_error,
            "seconds": took.as_secs_f64(),
            "p50_us": self.latencies.percentile(50),
            "p99_us": self.latencies.percentile(99),
        })
    }
}

async fn work<C: Caller>(caller: Rc<C>, case: Case, window: Rc<RefCell<Window>>) {
    let payload = [b'x'; PAYLOAD_BYTES];
    let mut started = Instant::now();
    while window.borrow_mut().take(started) {
        let outcome = match case {
            Case::Get => caller.get().await,
            Case::Publish => caller.publish(&payload).await,
        };
        let now = Instant::now();
        let mut window = window.borrow_mut();
        match outcome {
            Ok(()) => window.latencies.add(now.duration_since(started)),
            Err(error) => {
                window.failed += 1;
                window.first_error.get_or_insert(error);
            }
        }
        started = now;
    }
}
