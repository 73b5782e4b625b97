//! Frozen processes that cannot be seen from here: an agent froze them in another pid or time namespace, where the same number
//! and start time are another process', or nobody can be seen at all.
//!
//! In: whom a journal names, and from where we see. Out: whom we can look at; of the others what stays in the journal, for an
//! agent that is where they are, and what is told. Nobody here is said to have ended because nothing is found.

use crate::process::SeenFrom;
use crate::quarantine::orders::order::ProcessAction;
use crate::quarantine::plan::processes::StoppedProcess;
use crate::quarantine::proof::obstacle::Obstacle;

/// Those, and from where we see.
#[derive(Debug, Clone, Default)]
pub struct Elsewhere {
    here: Option<SeenFrom>,
    frozen: Vec<StoppedProcess>,
}

impl Elsewhere {
    /// Takes out of `known` whom we cannot see; `here` is none where we see nobody. The killed among them are for display alone.
    pub fn take_out(here: Option<SeenFrom>, known: &mut Vec<StoppedProcess>) -> Self {
        let is_elsewhere = |known: &mut StoppedProcess| !sees(here.as_ref(), known.seen_from.as_ref());
        let taken = known.extract_if(.., is_elsewhere);
        let frozen = taken.filter(|known| known.action == ProcessAction::Freeze);
        Self {
            frozen: frozen.collect(),
            here,
        }
    }

    /// What the journal must remember: `stopped`, who are here, and those that are not.
    pub fn beside(&self, stopped: &[StoppedProcess]) -> Vec<StoppedProcess> {
        let here = stopped.iter().map(|known| StoppedProcess {
            seen_from: self.here.clone(),
            ..known.clone()
        });
        here.chain(self.frozen.iter().cloned()).collect()
    }

    /// That they stay frozen, in one sentence.
    pub fn obstacle(&self) -> Option<Obstacle> {
        let first = self.frozen.first()?;
        Some(Obstacle::ProcessesElsewhere {
            pid: first.identity.pid,
            name: first.name.clone(),
            more: self.frozen.len() - 1,
        })
    }
}

/// Whether what was seen from `theirs` is seen from `here`. No process outlives its boot, and older agents did not say where
/// they were.
fn sees(here: Option<&SeenFrom>, theirs: Option<&SeenFrom>) -> bool {
    let Some(here) = here else { return false };
    theirs.is_none_or(|theirs| theirs.boot != here.boot || theirs == here)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::ProcessId;
    use jiff::Timestamp;

    fn place(boot: &str, pids: u64, time: Option<u64>) -> Option<SeenFrom> {
        let boot = boot.to_owned();
        Some(SeenFrom { boot, pids, time })
    }

    fn known(pid: u32, action: ProcessAction, seen_from: Option<SeenFrom>) -> StoppedProcess {
        StoppedProcess {
            identity: ProcessId { pid, start_ticks: 7 },
            name: "rogue".to_owned(),
            exe: None,
            action,
            at: Timestamp::UNIX_EPOCH,
            contested: 0,
            stopped_before: false,
            named_by: std::collections::BTreeSet::new(),
            seen_from,
            above: Vec::new(),
        }
    }

    fn numbers(known: &[StoppedProcess]) -> Vec<u32> {
        known.iter().map(|known| known.identity.pid).collect()
    }

    #[test]
    fn whom_we_cannot_see_stays_in_the_journal_as_he_was() {
        use ProcessAction::{Freeze, Kill};
        let here = place("b", 1, Some(2));
        let all = [
            known(1, Freeze, here.clone()),
            known(2, Freeze, place("b", 9, Some(2))),
            known(3, Freeze, place("b", 1, Some(9))),
            known(4, Kill, place("b", 9, Some(2))),
            known(5, Freeze, place("before", 9, Some(9))),
            known(6, Freeze, None),
        ];
        let mut seen = all.to_vec();
        let elsewhere = Elsewhere::take_out(here.clone(), &mut seen);
        assert_eq!(numbers(&seen), [1, 5, 6]);
        let kept = elsewhere.beside(&seen);
        assert_eq!(numbers(&kept), [1, 5, 6, 2, 3]);
        assert!(kept[..3].iter().all(|known| known.seen_from == here));
        assert_eq!(kept[3..], all[1..3]);
        let told = elsewhere.obstacle().unwrap();
        assert!(matches!(
            told,
            Obstacle::ProcessesElsewhere { pid: 2, more: 1, .. }
        ));

        // Where nobody can be seen nobody has ended.
        let mut seen = all.to_vec();
        let blind = Elsewhere::take_out(None, &mut seen);
        assert_eq!((numbers(&seen), blind.frozen.len()), (Vec::new(), 5));
        assert_eq!(Elsewhere::take_out(here, &mut Vec::new()).obstacle(), None);
    }
}
