//! Keeps every task of the agent going: one that ends or panics is told and started again.
//!
//! In: a name and a closure for each task, which makes it from what is shared. Out: running tasks; on the status board
//! each with how often it was started again, when it last ended and why.
//! Invariants: no task is silently gone, and none is given up; a task that fails again and again costs one start a minute.
//! Absent: whatever a task knew when it ended. What must outlive it is in what the closure holds.

use std::any::Any;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use super::board::Board;
use crate::control::status::TaskStatus;
use crate::host::clock;
use crate::host::turns::{Timed, timed};

/// Before a task is started again for the first time: what failed it may be over by then, and little is missed.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The pause doubles up to this; a fault that stays must not fill the log.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A task that ran for this long has recovered: its next end is a new fault.
const STEADY: Duration = Duration::from_secs(300);
/// Longest reason in characters; a panic may carry anything.
const MAX_WHY: usize = 256;

type Running = Timed<dyn Future<Output = ()> + Send>;

/// Every task, and those that run.
pub(super) struct Supervisor {
    tasks: Vec<Task>,
    running: JoinSet<()>,
    board: Board,
}

struct Task {
    name: &'static str,
    make: Box<dyn FnMut() -> Running + Send>,
    id: Option<Id>,
    begun: Instant,
    pause: Duration,
    /// When it is started again.
    due: Option<Instant>,
}

impl Supervisor {
    pub(super) fn new(board: Board) -> Self {
        Self {
            tasks: Vec::new(),
            running: JoinSet::new(),
            board,
        }
    }

    /// Starts a task. `make` makes it each time, and only clones what the task needs: a panic in it ends the agent.
    pub(super) fn start<F>(&mut self, name: &'static str, mut make: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.board.update(|status| {
            status.tasks.push(TaskStatus {
                name: name.to_owned(),
                ..TaskStatus::default()
            });
        });
        let mut task = Task {
            name,
            make: Box::new(move || timed(name, Box::pin(make()))),
            id: None,
            begun: Instant::now(),
            pause: FIRST_PAUSE,
            due: None,
        };
        task.begin(&mut self.running);
        self.tasks.push(task);
    }

    /// Runs for ever; to be dropped when the agent stops.
    pub(super) async fn run(&mut self) {
        loop {
            let due = self.tasks.iter().filter_map(|task| task.due).min();
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(ended) = self.running.join_next_with_id() => match ended {
                    Ok((id, ())) => self.ended(id, "it came to its end"),
                    Err(error) => self.ended(error.id(), &reason(error)),
                },
                () = wait => self.start_what_is_due(),
            }
        }
    }

    /// Ends every task and waits for it.
    pub(super) async fn stop(mut self) {
        self.running.shutdown().await;
    }

    fn ended(&mut self, id: Id, why: &str) {
        let Some(place) = self.tasks.iter().position(|task| task.id == Some(id)) else {
            return;
        };
        let task = &mut self.tasks[place];
        let pause = task.rest();
        let name = task.name;
        self.board.update(|status| {
            if let Some(told) = status.tasks.get_mut(place) {
                told.ended = Some(clock::now().wall);
                told.why = Some(why.to_owned());
            }
        });
        tracing::error!(
            "the task {name} has ended: {why}; started again in {} ms",
            pause.as_millis()
        );
    }

    fn start_what_is_due(&mut self) {
        let now = Instant::now();
        for (place, task) in self.tasks.iter_mut().enumerate() {
            if task.due.is_some_and(|due| due <= now) {
                task.begin(&mut self.running);
                self.board.update(|status| {
                    if let Some(told) = status.tasks.get_mut(place) {
                        told.restarts += 1;
                    }
                });
            }
        }
    }
}

impl Task {
    fn begin(&mut self, running: &mut JoinSet<()>) {
        self.due = None;
        self.begun = Instant::now();
        self.id = Some(running.spawn((self.make)()).id());
    }

    /// Notes when it is started again; gives how long that is from now on.
    fn rest(&mut self) -> Duration {
        if self.begun.elapsed() >= STEADY {
            self.pause = FIRST_PAUSE;
        }
        let pause = self.pause;
        self.id = None;
        self.due = Some(Instant::now() + pause);
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        pause
    }
}

fn reason(error: JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else {
        return "it was stopped".to_owned();
    };
    let said = said(panic.as_ref());
    let said: String = said.chars().take(MAX_WHY).collect();
    format!("it panicked: {said}")
}

fn said(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("nobody knows why")
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
mod tests;
