//! One measured number, and what it is compared with.
//!
//! In: a value with its unit. Out: the JSON line that a reader of `--json` gets:
//! `{"bench", "case", "metric", "value", "unit", "baseline", "ratio"}`. Pure.
//!
//! `baseline` names whose number `value` was divided by to get `ratio`; that number has a line of its own, with the
//! same metric. Both are null for a number that is compared with nothing.

use serde_json::{Value, json};

/// What a ratio should be for the bench's claim to hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Aim {
    /// This much or more.
    AtLeast(f64),
    /// This much or less.
    AtMost(f64),
}

impl Aim {
    /// Whether a ratio reaches it.
    pub(crate) fn holds(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(wanted) => ratio >= wanted,
            Self::AtMost(wanted) => ratio <= wanted,
        }
    }

    /// The aim and how far the ratio is from it, in words.
    pub(crate) fn verdict(self, ratio: f64) -> String {
        let (sign, wanted) = match self {
            Self::AtLeast(wanted) => (">=", wanted),
            Self::AtMost(wanted) => ("<=", wanted),
        };
        if self.holds(ratio) {
            return format!("aim {sign} {wanted}: reached");
        }
        let off = (ratio / wanted - 1.0).abs() * 100.0;
        format!("aim {sign} {wanted}: MISSED by {off:.0} %")
    }
}

/// A ratio to somebody else's number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Comparison {
    /// Whose number.
    pub(crate) baseline: String,
    /// Ours divided by theirs.
    pub(crate) ratio: f64,
    /// What it should be, when there is such a wish.
    pub(crate) aim: Option<Aim>,
}

/// One number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Figure {
    /// What was measured, and on whom; words joined by blanks.
    pub(crate) case: String,
    /// Name of the quantity, in snake case.
    pub(crate) metric: &'static str,
    /// The number.
    pub(crate) value: f64,
    /// Its unit.
    pub(crate) unit: &'static str,
    /// What it is compared with.
    pub(crate) comparison: Option<Comparison>,
}

impl Figure {
    /// A number that is compared with nothing.
    pub(crate) fn new(case: impl Into<String>, metric: &'static str, value: f64, unit: &'static str) -> Self {
        Self {
            case: case.into(),
            metric,
            value,
            unit,
            comparison: None,
        }
    }

    /// The same number with its ratio to `theirs`, a number of `baseline`. No ratio is made with nothing.
    pub(crate) fn against(&self, baseline: &str, theirs: f64, aim: Option<Aim>) -> Self {
        let comparison = (theirs != 0.0).then(|| Comparison {
            baseline: baseline.to_owned(),
            ratio: self.value / theirs,
            aim,
        });
        Self {
            comparison,
            ..self.clone()
        }
    }

    /// The line for `--json`.
    pub(crate) fn json(&self, bench: &str) -> Value {
        let comparison = self.comparison.as_ref();
        json!({
            "bench": bench,
            "case": self.case,
            "metric": self.metric,
            "value": self.value,
            "unit": self.unit,
            "baseline": comparison.map(|comparison| &comparison.baseline),
            "ratio": comparison.map(|comparison| comparison.ratio),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_one_object_with_every_member() {
        let figure = Figure::new("lite get", "calls_per_second", 50.0, "1/s");
        assert_eq!(
            figure.json("ipc").to_string(),
            r#"{"baseline":null,"bench":"ipc","case":"lite get","metric":"calls_per_second","ratio":null,"unit":"1/s","value":50.0}"#
        );
        let compared = figure.against("python", 10.0, Some(Aim::AtLeast(5.0)));
        assert_eq!(compared.json("ipc")["ratio"], 5.0);
        assert_eq!(compared.json("ipc")["baseline"], "python");
        assert_eq!(figure.against("nobody", 0.0, None).comparison, None);
    }

    #[test]
    fn an_aim_says_by_how_much_it_was_missed() {
        assert_eq!(Aim::AtLeast(5.0).verdict(5.0), "aim >= 5: reached");
        assert_eq!(Aim::AtLeast(5.0).verdict(4.0), "aim >= 5: MISSED by 20 %");
        assert_eq!(Aim::AtMost(1.0).verdict(1.25), "aim <= 1: MISSED by 25 %");
    }
}
