//! When a predecessor is deaf for good. Pure: looks at it, in order, and a verdict.
//!
//! In: what each look found. Out: whether to go on waiting. Deaf is only who was found deaf by every look for as long as
//! the most patient of the reasons asks; a single good answer begins everything anew. A reason that leaves no doubt needs no
//! patience, whatever was seen before. Time in which nobody looked (this process or the whole machine stood still) counts as
//! one look.

use std::time::Duration;

use serde_json::Value;

use crate::process::ProcessId;

/// It takes no question or gives no answer, while its socket is there: it is stopped, or hangs. Longer than a burst of
/// load or a page fault storm lets the deciding thread wait, of which the status itself tells.
const MUTE: Duration = Duration::from_secs(10);
/// Its socket is not there: it may be starting, and the journal alone may take 60 s of that, the rest of the start 20.
const UNREACHABLE: Duration = Duration::from_secs(90);
/// Seconds for which its enforcer has said nothing: one that is slow (a busy kernel, a packet filter that takes its time) says
/// something within a pass, and one that is stuck begins anew by itself after four minutes. This one has not.
const SILENT: u64 = 300;
/// Its enforcer has failed, and no other one has begun by then, or says nothing.
const ENFORCER: Duration = Duration::from_secs(30);
/// Its nucleus takes us, and not it: its client tries again after ten seconds at most, so it was refused at least once while
/// we were taken. A nucleus that merely restarts takes nobody meanwhile, and begins this time anew.
const ORPHAN: Duration = Duration::from_secs(15);
/// Most that one look counts for: a question with its limit, and the pause between two.
const LONGEST_LOOK: Duration = Duration::from_secs(6);

/// What a look at a predecessor found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Look {
    /// It answers, and is not known to miss anything.
    Hears,
    Deaf {
        kind: Deafness,
        /// In words for people, to follow "it".
        why: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deafness {
    Mute,
    Unreachable,
    Enforcer,
    Orphan,
    /// The nucleus that started it has ended, and the next one takes us.
    Abandoned,
}

impl Deafness {
    const fn patience(self) -> Duration {
        match self {
            Self::Mute => MUTE,
            Self::Unreachable => UNREACHABLE,
            Self::Enforcer => ENFORCER,
            Self::Orphan => ORPHAN,
            Self::Abandoned => Duration::ZERO,
        }
    }

    /// Nothing is in doubt: who waited would only leave the device deaf.
    const fn is_certain(self) -> bool {
        matches!(self, Self::Abandoned)
    }
}

/// What an agent says in its status of its own hearing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Connected,
    /// Its link to the nucleus is away, for this reason.
    Away(String),
    /// The same, and for good: the nucleus' process has ended.
    Orphan(String),
    /// Its enforcer does not do its work, in its own words.
    EnforcerGone(String),
}

/// Reads the status of an agent, which may be of another version.
pub(super) fn said(status: &Value) -> Said {
    let obstacles = status.pointer("/enforcement/obstacles").and_then(Value::as_array);
    for obstacle in obstacles.into_iter().flatten() {
        let kind = obstacle["kind"].as_str().unwrap_or_default();
        let gone = match kind {
            "enforcerFailed" => true,
            "enforcerSilent" => obstacle["seconds"].as_u64() >= Some(SILENT),
            _ => false,
        };
        if gone {
            return Said::EnforcerGone(format!("says of its enforcer: {kind}"));
        }
    }
    match status.pointer("/cloud/ipc").and_then(Value::as_str) {
        Some("connected") => Said::Connected,
        _ if let Some(why) = orphan(status) => Said::Orphan(why),
        other => Said::Away(other.unwrap_or("nothing").to_owned()),
    }
}

fn orphan(status: &Value) -> Option<String> {
    let why = status.pointer("/cloud/orphan")?.as_str()?;
    Some(why.to_owned())
}

/// What the looks so far come to.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    of: Option<ProcessId>,
    deaf: Duration,
    patience: Duration,
    /// When the last look ended, of one that was found deaf.
    last: Option<Duration>,
}

impl Suspicion {
    /// Notes a look that ended at `now`; gives for how long the predecessor has been deaf once it is so for good.
    pub(super) fn note(&mut self, of: ProcessId, look: &Look, now: Duration) -> Option<Duration> {
        let Look::Deaf { kind, .. } = look else {
            *self = Self::default();
            return None;
        };
        if self.of != Some(of) {
            *self = Self {
                of: Some(of),
                ..Self::default()
            };
        }
        if let Some(last) = self.last {
            self.deaf += now.saturating_sub(last).min(LONGEST_LOOK);
        }
        self.last = Some(now);
        self.patience = self.patience.max(kind.patience());
        // An agent learns of its nucleus' end up to a second after it, and is found an orphan until then.
        (kind.is_certain() || self.deaf >= self.patience).then_some(self.deaf)
    }

    /// Begins anew.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ONE: ProcessId = ProcessId {
        pid: 7,
        start_ticks: 1,
    };
    const SECOND: Duration = Duration::from_secs(1);

    fn deaf(kind: Deafness) -> Look {
        Look::Deaf {
            kind,
            why: String::new(),
        }
    }

    /// How long it is looked at, once a second, before the verdict.
    fn verdict(looks: impl IntoIterator<Item = Look>) -> Option<u64> {
        let mut suspicion = Suspicion::default();
        looks.into_iter().zip(0..).find_map(|(look, second)| {
            suspicion
                .note(ONE, &look, SECOND * second)
                .map(|_| u64::from(second))
        })
    }

    #[test]
    fn each_reason_has_its_patience_and_the_most_patient_counts() {
        let always = |kind| verdict(std::iter::repeat_n(deaf(kind), 200));
        assert_eq!(always(Deafness::Abandoned), Some(0), "at the first look");
        assert_eq!(always(Deafness::Mute), Some(10));
        assert_eq!(always(Deafness::Orphan), Some(15));
        assert_eq!(always(Deafness::Enforcer), Some(30));
        assert_eq!(always(Deafness::Unreachable), Some(90));
        let mixed = [Deafness::Mute, Deafness::Orphan].map(deaf);
        assert_eq!(verdict(mixed.into_iter().cycle().take(200)), Some(15));
        let soon_certain = [Deafness::Orphan, Deafness::Abandoned].map(deaf);
        assert_eq!(verdict(soon_certain), Some(1), "certainty waits for no patience");
    }

    #[test]
    fn one_good_answer_begins_everything_anew() {
        let nine = || std::iter::repeat_n(deaf(Deafness::Mute), 10);
        let looks = nine().chain([Look::Hears]).chain(nine());
        assert_eq!(verdict(looks), None);
        assert_eq!(verdict(std::iter::repeat_n(Look::Hears, 10_000)), None);
    }

    #[test]
    fn time_in_which_nobody_looked_is_no_silence() {
        let mut suspicion = Suspicion::default();
        let look = deaf(Deafness::Mute);
        assert_eq!(suspicion.note(ONE, &look, SECOND), None);
        assert_eq!(
            suspicion.note(ONE, &look, SECOND * 3600),
            None,
            "the machine slept"
        );
        assert_eq!(suspicion.note(ONE, &look, SECOND * 3605), Some(SECOND * 11));
    }

    #[test]
    fn another_process_is_another_suspicion() {
        let other = ProcessId {
            start_ticks: 2,
            ..ONE
        };
        let mut suspicion = Suspicion::default();
        let look = deaf(Deafness::Mute);
        for second in 0..10 {
            assert_eq!(suspicion.note(ONE, &look, SECOND * second), None);
        }
        assert_eq!(suspicion.note(other, &look, SECOND * 10), None);
        assert_eq!(suspicion.note(ONE, &look, SECOND * 11), None);
    }

    #[test]
    fn a_status_says_what_its_agent_hears() {
        let status = |ipc: &str, obstacles: Value| {
            said(&json!({"cloud": {"ipc": ipc}, "enforcement": {"obstacles": obstacles}}))
        };
        assert_eq!(status("connected", json!([])), Said::Connected);
        let other = json!([{"kind": "journalNotWritten", "why": "x"}]);
        assert_eq!(status("connected", other), Said::Connected);
        let silent = |seconds: u64| json!([{"kind": "enforcerSilent", "seconds": seconds}]);
        for obstacles in [json!([{"kind": "enforcerFailed"}]), silent(SILENT)] {
            assert!(matches!(status("connected", obstacles), Said::EnforcerGone(_)));
        }
        let slow = status("connected", silent(SILENT - 1));
        assert_eq!(slow, Said::Connected, "it is slow, or begins anew");
        let refused = "not connected: the nucleus refused us";
        assert_eq!(status(refused, json!([])), Said::Away(refused.to_owned()));
        assert!(matches!(said(&Value::Null), Said::Away(_)));
        let orphan = |ipc: &str| said(&json!({"cloud": {"ipc": ipc, "orphan": "process 7 has ended"}}));
        assert_eq!(orphan(refused), Said::Orphan("process 7 has ended".to_owned()));
        assert_eq!(orphan("connected"), Said::Connected);
    }
}
