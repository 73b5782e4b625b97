//! What the agent told of its turns.
//!
//! In: the file that the agent writes, a line for each second's probes and one for each long turn. Out: sums.

use std::path::Path;

use xtask::workspace::file;

use crate::error::BenchError;

/// All that was told so far.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Lateness {
    lines: usize,
    pub(super) probes: f64,
    late: f64,
    pub(super) latest_ms: f64,
    pub(super) longest_turn_ms: f64,
    /// Whose it was.
    pub(super) longest_holder: Option<String>,
    text: Vec<String>,
}

impl Lateness {
    /// Reads the file; one that is not there yet is empty.
    pub(super) fn read(path: &Path) -> Result<Self, BenchError> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(path).map_err(file("read", path))?;
        Ok(Self::of(text.lines()))
    }

    fn of<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut sums = Self::default();
        for line in lines {
            sums.lines += 1;
            sums.text.push(line.to_owned());
            let number = |name: &str| {
                let (_, rest) = line.split_once(name)?;
                rest.split_ascii_whitespace().next()?.parse::<f64>().ok()
            };
            if let (Some(probes), Some(late), Some(latest)) =
                (number("probes="), number("late_5ms="), number("latest_us="))
            {
                sums.probes += probes;
                sums.late += late;
                sums.latest_ms = sums.latest_ms.max(latest / 1_000.0);
            } else if let Some(held) = number("held_ms=") {
                let all = held + number("waited_ms=").unwrap_or_default();
                if all > sums.longest_turn_ms {
                    sums.longest_turn_ms = all;
                    sums.longest_holder = Some(line.to_owned());
                }
            }
        }
        sums
    }

    /// What was told after `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        Self::of(self.text.iter().skip(before.lines).map(String::as_str))
    }

    /// Share of turns that came late.
    pub(super) fn late_percent(&self) -> f64 {
        if self.probes > 0.0 {
            self.late / self.probes * 100.0
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_summed_and_the_longest_turn_has_a_holder() {
        let lines = [
            "turns: probes=200 late_5ms=1 late_50ms=0 latest_us=7000",
            "a long turn of enforcer: held_ms=12 waited_ms=3",
            "turns: probes=200 late_5ms=3 late_50ms=0 latest_us=6100",
        ];
        let all = Lateness::of(lines.into_iter());
        assert!((all.late_percent() - 1.0).abs() < 1e-9);
        assert!((all.latest_ms - 7.0).abs() < 1e-9 && (all.longest_turn_ms - 15.0).abs() < 1e-9);
        assert!(all.longest_holder.as_deref().is_some_and(|line| line.contains("enforcer")));
        let first = Lateness::of(lines[..2].iter().copied());
        let rest = all.since(&first);
        assert!((rest.probes - 200.0).abs() < 1e-9 && rest.longest_holder.is_none());
        assert!(Lateness::default().late_percent().abs() < 1e-9);
    }
}
