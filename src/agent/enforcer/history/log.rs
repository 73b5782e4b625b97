//! The enforcer's record of what it did: every change once, on disk as soon as nothing waits for it.
//!
//! In: [`Event`]s. Out: the lines of the history, and what stands in the way of writing them.
//! Noting is free of effects; [`HistoryLog::flush`] writes and may block, so both happen on the thread of
//! [`super::HistoryKeeper`]. A history that cannot be written stops nothing; what was noted waits.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::host::clock;
use crate::host::files::FileError;
use crate::host::files::append_file::{self, AppendFile};
use crate::moment::Now;
use crate::quarantine::history::{self, ChainHead, Event, EventBudget, KEPT, MAX_FILE, TAIL};
use crate::quarantine::proof::state::HistoryEnd;

/// Events that wait while the disk is full: an hour of a busy day. The oldest are kept: they say how it began.
pub(super) const MAX_WAITING: usize = 256;

/// The history and what it already says.
pub(crate) struct HistoryLog {
    path: PathBuf,
    file: Option<AppendFile>,
    /// The newest record that is on disk.
    head: Option<ChainHead>,
    waiting: VecDeque<(Timestamp, Event)>,
    /// Events that found no room to wait.
    overflowed: u64,
    budget: EventBudget,
    /// Events of others beyond the budget.
    withheld: u64,
    fault: Option<String>,
    /// Ends without a word: the agent did not stop, it failed.
    silent: bool,
}

impl HistoryLog {
    /// The history in `state_directory`; nothing is touched before the first [`HistoryLog::flush`].
    pub(crate) fn new(state_directory: &Path) -> Self {
        Self {
            path: state_directory.join(history::FILE),
            file: None,
            head: None,
            waiting: VecDeque::new(),
            overflowed: 0,
            budget: EventBudget::new(clock::now().uptime),
            withheld: 0,
            fault: None,
            silent: false,
        }
    }

    /// Notes what happened then.
    pub(crate) fn note(&mut self, then: Now, event: Event) {
        // A command that did what could not wait is no agent that stops.
        self.silent |= matches!(event, Event::WithoutAgent { .. });
        if event.is_provoked() && !self.budget.take(then.uptime) {
            self.withheld += 1;
        } else {
            self.wait(then.wall, event);
        }
    }

    /// Events that found no room before they came here.
    pub(crate) fn note_overflow(&mut self, count: u64) {
        self.overflowed = self.overflowed.saturating_add(count);
    }

    /// The agent failed: no record says that it stopped.
    pub(crate) fn end_silently(&mut self) {
        self.silent = true;
    }

    /// What stands in the way of writing, for the operator.
    pub(crate) fn fault(&self) -> Option<String> {
        self.fault.clone()
    }

    /// Where the history ends on disk.
    pub(crate) fn end(&self) -> Option<HistoryEnd> {
        self.head.clone().map(|head| HistoryEnd {
            file: self.path.clone(),
            head,
        })
    }

    /// Writes everything that waits and waits for the disk.
    pub(crate) fn flush(&mut self, now: Now) {
        if self.withheld > 0 && self.budget.take(now.uptime) {
            let count = std::mem::take(&mut self.withheld);
            let why = "somebody makes them happen in a loop".into();
            self.wait(now.wall, Event::Missed { count, why });
        }
        if self.waiting.is_empty() {
            return;
        }
        let outcome = self.write(now);
        if outcome.is_err() {
            self.file = None;
        }
        let error = outcome.err();
        // Without a directory there is nothing of ours at all; whoever could not make it has said so.
        let nowhere = |error: &FileError| matches!(error, FileError::Write { source, .. } if source.kind() == std::io::ErrorKind::NotFound);
        let quiet = error.as_ref().is_some_and(nowhere);
        let fault = error.map(|error| format!("{}: what happens is not recorded", crate::error_text(&error)));
        if !quiet && let Some(fault) = fault.as_ref().filter(|fault| Some(*fault) != self.fault.as_ref()) {
            tracing::error!("history: {fault}");
        }
        self.fault = fault;
    }

    fn wait(&mut self, at: Timestamp, event: Event) {
        if self.waiting.len() >= MAX_WAITING {
            self.overflowed += 1;
        } else {
            self.waiting.push_back((at, event));
        }
    }

    fn write(&mut self, now: Now) -> Result<(), FileError> {
        let change = self.file.as_ref().and_then(AppendFile::change);
        if let Some(change) = change {
            self.file = None;
            let what = format!("{}: {change}", self.path.display());
            tracing::warn!("somebody changed the history: {what}");
            self.tell_first(now, Event::Damaged { what });
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.open(now)?,
        };
        let (text, head) = self.lines(now);
        if !file.is_empty() && file.len() + text.len() as u64 > MAX_FILE {
            drop(file);
            append_file::rotate(&self.path, KEPT)?;
            file = AppendFile::open(&self.path)?;
        }
        file.append(text.as_bytes())?;
        self.head = head;
        self.waiting.clear();
        self.overflowed = 0;
        self.file = Some(file);
        Ok(())
    }

    fn lines(&self, now: Now) -> (String, Option<ChainHead>) {
        let mut head = self.head.clone();
        let mut text = String::new();
        let missed = (self.overflowed > 0).then(|| {
            let (count, why) = (self.overflowed, "the history could not be written".into());
            (now.wall, Event::Missed { count, why })
        });
        for (at, event) in self.waiting.iter().chain(&missed) {
            let (line, next) = history::line(head.as_ref(), *at, event);
            text.push_str(&line);
            head = Some(next);
        }
        (text, head)
    }

    /// Opens the file and finds where to go on: after the newest record that is on disk, or that we know of. Records
    /// that somebody removed leave a gap that a reader sees.
    fn open(&mut self, now: Now) -> Result<AppendFile, FileError> {
        let mut file = AppendFile::open(&self.path)?;
        let tail = file.tail(TAIL)?;
        let resume = history::resume(&tail, file.len() <= TAIL);
        let mut found = resume.head;
        for age in 1..=KEPT {
            if found.is_some() || self.head.is_some() {
                break;
            }
            // One that cannot be read is what a reader of the history will be told.
            let older = append_file::end_of(&append_file::aged(&self.path, age), TAIL);
            found = older
                .ok()
                .flatten()
                .and_then(|(tail, all)| history::resume(&tail, all).head);
        }
        file.cut(resume.cut)?;
        if resume.newline {
            file.append(b"\n")?;
        }
        let known = self.head.as_ref().map_or(0, |head| head.seq);
        if let Some(found) = found.filter(|found| found.seq > known) {
            self.head = Some(found);
        }
        if let Some(told) = resume.told {
            self.tell_first(now, told);
        }
        Ok(file)
    }

    /// What was found before anything is written; found again at every try, told once.
    fn tell_first(&mut self, now: Now, event: Event) {
        if self.waiting.front().is_none_or(|(_, first)| *first != event) {
            self.waiting.push_front((now.wall, event));
        }
    }
}

impl Drop for HistoryLog {
    /// The agent stops: the last record. What is aborted by a signal ends here too.
    fn drop(&mut self) {
        // Whatever failed, a second failure in here would end the agent.
        if std::thread::panicking() {
            return;
        }
        let now = clock::now();
        if !self.silent {
            self.note(now, Event::Stopped);
        }
        self.flush(now);
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
#[expect(
    clippy::disallowed_methods,
    reason = "looks at the files and changes them as somebody would"
)]
mod tests;
