//! The table at the end: scenario, round trip, stand-in, real, lite, ever open.
//!
//! In: what each scenario saw on each nucleus. Out: Markdown, and whether everything held. What did not hold is bold.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::bed::Kind;
use crate::scenarios::Scenario;
use crate::scene::Seen;

/// One scenario at one round trip, on one nucleus.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) seen: Result<Seen, String>,
    pub(crate) limit: Duration,
    /// How often the way was open although it had to be closed.
    pub(crate) breaches: usize,
    /// How often the nucleus had to kill a process of ours.
    pub(crate) kills: usize,
}

impl Cell {
    /// Whether everything was as it has to be.
    pub(crate) fn held(&self) -> bool {
        let in_time = |time: &Option<Duration>| time.is_some_and(|time| time <= self.limit);
        self.breaches == 0
            && self.kills == 0
            && self
                .seen
                .as_ref()
                .is_ok_and(|seen| seen.faults.is_empty() && seen.times.iter().all(in_time))
    }

    /// Both in one; the later one's note stays.
    fn and(self, later: Self) -> Self {
        let seen = match (self.seen, later.seen) {
            (Ok(before), Ok(after)) => Ok(before.and(after)),
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        Self {
            seen,
            limit: later.limit,
            breaches: self.breaches + later.breaches,
            kills: self.kills + later.kills,
        }
    }

    /// The cell's text.
    pub(crate) fn text(&self) -> String {
        let text = match &self.seen {
            Ok(seen) => told(seen, self.limit),
            Err(error) => format!("stopped: {}", error.replace(['|', '\n'], " ")),
        };
        if self.held() {
            text
        } else {
            format!("**NO** {text}")
        }
    }
}

fn told(seen: &Seen, limit: Duration) -> String {
    let mut parts = Vec::new();
    let obeyed: Vec<_> = seen.times.iter().flatten().collect();
    let in_time = obeyed.iter().filter(|time| ***time <= limit).count();
    if let Some(longest) = obeyed.iter().max() {
        parts.push(format!(
            "{in_time} of {}, {} ms",
            seen.times.len(),
            longest.as_millis()
        ));
    } else if !seen.times.is_empty() {
        parts.push(format!("0 of {}", seen.times.len()));
    }
    let unheard = seen.times.len() - obeyed.len();
    if unheard > 0 {
        parts.push(format!("{unheard} unheard"));
    }
    parts.extend(seen.faults.iter().cloned());
    if !seen.note.is_empty() {
        parts.push(seen.note.clone());
    }
    if parts.is_empty() {
        parts.push("held".to_owned());
    }
    parts.join("; ").replace('|', "/")
}

type Key = (usize, Option<Duration>);

/// All rows.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: BTreeMap<Key, BTreeMap<Kind, Cell>>,
}

impl Table {
    pub(crate) fn put(&mut self, scenario: usize, round_trip: Option<Duration>, kind: Kind, cell: Cell) {
        let row = self.rows.entry((scenario, round_trip)).or_default();
        let whole = match row.remove(&kind) {
            Some(before) => before.and(cell),
            None => cell,
        };
        row.insert(kind, whole);
    }

    /// Whether every row held.
    pub(crate) fn held(&self) -> bool {
        self.rows.values().flat_map(BTreeMap::values).all(Cell::held)
    }

    /// Markdown.
    pub(crate) fn markdown(&self, scenarios: &[Scenario]) -> String {
        let mut text = "| fact | scenario | round trip | limit | stand-in | real | lite | ever open | SIGKILL |\n|---|---|---|---|---|---|---|---|---|\n".to_owned();
        for ((index, round_trip), cells) in &self.rows {
            let scenario = &scenarios[*index];
            let cell = |kind| cells.get(&kind).map_or_else(|| "-".to_owned(), Cell::text);
            let limit = cells.values().next().map_or(Duration::ZERO, |cell| cell.limit);
            let sum = |count: fn(&Cell) -> usize| match cells.values().map(count).sum::<usize>() {
                0 => "0".to_owned(),
                some => format!("**{some}**"),
            };
            let round_trip =
                round_trip.map_or_else(|| "-".to_owned(), |time| format!("{} ms", time.as_millis()));
            let _ = writeln!(
                text,
                "| {} | {} | {round_trip} | {:.1} s | {} | {} | {} | {} | {} |",
                scenario.fact,
                scenario.name,
                limit.as_secs_f64(),
                cell(Kind::StandIn),
                cell(Kind::Real),
                cell(Kind::Lite),
                sum(|cell| cell.breaches),
                sum(|cell| cell.kills),
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(times: &[Option<u64>], breaches: usize) -> Cell {
        let times = times.iter().map(|time| time.map(Duration::from_millis));
        Cell {
            seen: Ok(Seen::times(times)),
            limit: Duration::from_secs(1),
            breaches,
            kills: 0,
        }
    }

    #[test]
    fn only_what_is_in_time_and_stays_closed_holds() {
        assert!(cell(&[Some(10), Some(1_000)], 0).held());
        assert!(!cell(&[Some(1_001)], 0).held());
        assert!(!cell(&[Some(10), None], 0).held());
        assert!(!cell(&[Some(10)], 1).held());
        let stopped = Cell {
            seen: Err("gone".into()),
            ..cell(&[], 0)
        };
        assert!(!stopped.held());
    }

    #[test]
    fn a_cell_tells_the_longest_and_the_unheard() {
        assert_eq!(cell(&[Some(10), Some(20)], 0).text(), "2 of 2, 20 ms");
        assert_eq!(
            cell(&[Some(10), None], 0).text(),
            "**NO** 1 of 2, 10 ms; 1 unheard"
        );
        assert_eq!(cell(&[None], 0).text(), "**NO** 0 of 1; 1 unheard");
    }
}
