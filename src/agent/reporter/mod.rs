//! Publishes Device Defender reports and feeds the local detector.
//!
//! In: the observer, the configuration, the service's answers, questions of the command line. Out: reports through the
//! nucleus; alarms, and the detector's wish for the enforcer. Decisions are `report`'s and `detect`'s.
//!
//! `composing` makes a report, `delivery` sends it and takes the answer, [`desk`] answers the command line,
//! `detecting` is the detector's.

mod composing;
mod delivery;
pub mod desk;
mod detecting;
mod memory;

use std::path::PathBuf;
use std::sync::Arc;

use greengrass_ipc::Client;
use tokio::sync::watch;

use super::board::Board;
use super::enforcer::Handle;
use crate::agent::observer::Observer;
use crate::cloud::inbox::Inbox;
use crate::cloud::topics;
use crate::config::Config;
use crate::detect::Detector;
use crate::host::clock;
use memory::Memory;

/// Reports for ever.
pub struct Reporter {
    /// The nucleus.
    pub client: Client,
    /// The thing.
    pub thing: String,
    /// The configuration.
    pub config: watch::Receiver<Config>,
    /// Where the detector's wish goes.
    pub enforcer: Handle,
    /// Flow 1's first half.
    pub observer: Arc<Observer>,
    /// The state directory.
    pub state_directory: PathBuf,
    /// The board.
    pub board: Board,
    /// What the command line asks.
    pub questions: desk::Questions,
}

impl Reporter {
    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let mut config = self.config.borrow_and_update().clone();
        let mut memory = self.remember(&config);
        let mut inbox = self.answers(&config);
        loop {
            let due = memory.schedule.next();
            let wake = memory
                .waiting
                .as_ref()
                .map_or(due, |waiting| due.min(waiting.answer_by));
            tokio::select! {
                event = inbox.next() => match event {
                    None => return,
                    Some(event) => self.take(event, &mut memory),
                },
                changed = self.config.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let new = self.config.borrow_and_update().clone();
                    self.reconfigure(&config, &new, &mut memory);
                    if config.reporting.encoding.format != new.reporting.encoding.format {
                        inbox = self.answers(&new);
                    }
                    config = new;
                }
                Some(question) = self.questions.recv() => self.reply(question, &config, &mut memory).await,
                () = tokio::time::sleep_until(wake.into()) => {
                    self.note_silence(&mut memory);
                    if memory.schedule.is_due(clock::instant()) {
                        self.close_interval(&config, &mut memory).await;
                    }
                }
            }
        }
    }

    /// The answers' topics follow the format.
    fn answers(&self, config: &Config) -> Inbox {
        let reserved = topics::metrics(&self.thing, config.reporting.encoding.format.name());
        let answers = vec![format!("{reserved}/accepted"), format!("{reserved}/rejected")];
        Inbox::open(&self.client, answers, 0)
    }

    fn reconfigure(&self, old: &Config, new: &Config, memory: &mut Memory) {
        let (before, after) = (&old.reporting, &new.reporting);
        if before.interval != after.interval {
            memory.schedule.set_interval(after.interval, clock::instant());
        }
        if before.custom != after.custom || before.encoding != after.encoding {
            // What was refused may not be sent any more.
            memory.caution = crate::report::caution::CustomMetricPause::default();
        }
        if before.enabled && !after.enabled {
            // Nobody wants to know what happens meanwhile: the next report begins anew.
            memory.ledgers = self.ledgers();
            self.board.update(|status| status.reports.left_out.clear());
        }
        if old.detect.behaviors != new.detect.behaviors {
            memory.detector = Detector::new(new.detect.behaviors.clone());
        }
    }

    /// Closes the interval, lets the detector look at it and sends the report.
    async fn close_interval(&self, config: &Config, memory: &mut Memory) {
        let observed = self.look(config, Observer::take_interval);
        let sockets = observed.sockets.as_ref().ok();
        self.detect(config, &observed.interval, sockets, memory).await;
        memory.schedule.sent(clock::instant());
        if config.reporting.enabled {
            self.report(config, observed, memory).await;
        }
    }
}
