//! The table kernel × check: for the terminal, and as `docs/kernels.md`.
//!
//! In: the newest run of each kernel. Out: text. Deliberately absent: any sentence that a run does not bear out.

use std::fmt::Write as _;

use crate::checks::CHECKS;
use crate::list::Kernel;
use crate::results::Run;
use crate::verdict::{self, Verdict};

/// The file that a run of all checks writes.
pub(crate) const DOCUMENT: &str = "docs/kernels.md";

const HEAD: &str = "# Kernels

Written by `cargo xtask kernels`, which boots kernels of Debian in emulated machines and runs the project's own tests in
them, with the agent; not to be edited. *ok*: every test of the check holds. *differs*: what is said
below is otherwise in that kernel, or the kernel lacks what the check is about. *FAILS*: look below, and at the issues.
Which tests a check has stands in [the list](../crates/kernels/src/checks.rs), which kernels there are
[beside it](../crates/kernels/src/list.rs).

";

/// What is known of kernels that cannot be booted: the end of the document, written by hand.
const FEATURES: &str = include_str!("features.md");

/// For the terminal: one line a check and kernel, messages under it.
pub(crate) fn plain(runs: &[(&Kernel, Run)], wanted: impl Fn(usize) -> bool) -> String {
    let mut text = String::new();
    for (kernel, run) in runs {
        let _ = writeln!(
            text,
            "\n{} ({}, nft {}, {}, {} s)",
            kernel.name, run.release, run.nft, run.accelerator, run.seconds
        );
        for (number, check) in CHECKS.iter().enumerate().filter(|(number, _)| wanted(*number)) {
            let (verdict, messages) = verdict::of(kernel, run, number, check);
            let _ = writeln!(text, "  {:<8} {}", verdict.word(), check.title);
            for message in messages {
                let _ = writeln!(text, "           {message}");
            }
        }
        for trouble in run.broken.iter().chain(&run.complaints) {
            let _ = writeln!(text, "  {trouble}");
        }
    }
    text
}

/// Whether nothing fails and every guest came to its end.
pub(crate) fn holds(runs: &[(&Kernel, Run)], wanted: impl Fn(usize) -> bool) -> bool {
    runs.iter().all(|(kernel, run)| {
        let all = CHECKS.iter().enumerate().filter(|(number, _)| wanted(*number));
        run.broken.is_none()
            && all
                .map(|(number, check)| verdict::of(kernel, run, number, check).0)
                .all(|verdict| matches!(verdict, Verdict::Ok | Verdict::Differs))
    })
}

/// The document.
pub(crate) fn document(runs: &[(&Kernel, Run)]) -> String {
    let mut text = HEAD.to_owned();
    text.push_str(
        "| kernel | `uname -r` | nft of the suite | run on | by | seconds |\n|---|---|---|---|---|---|\n",
    );
    for (kernel, run) in runs {
        let _ = writeln!(
            text,
            "| {} ({}) | {} | {} | {} | {} | {} |",
            kernel.name, kernel.suite, run.release, run.nft, run.day, run.accelerator, run.seconds
        );
    }
    text.push_str("\n| check |");
    for (kernel, _) in runs {
        let _ = write!(text, " {} |", kernel.name);
    }
    let _ = writeln!(text, "\n|---|{}", "---|".repeat(runs.len()));
    for (number, check) in CHECKS.iter().enumerate() {
        let words = runs
            .iter()
            .map(|(kernel, run)| verdict::of(kernel, run, number, check).0.word());
        let _ = writeln!(
            text,
            "| {} | {} |",
            check.title,
            words.collect::<Vec<_>>().join(" | ")
        );
    }
    for (kernel, run) in runs {
        let all = CHECKS.iter().enumerate();
        let mut messages: Vec<String> = all
            .flat_map(|(number, check)| {
                let (_, messages) = verdict::of(kernel, run, number, check);
                messages
                    .into_iter()
                    .map(|message| format!("{}: {message}", check.title))
            })
            .collect();
        messages.extend(run.broken.clone());
        messages.extend(
            run.complaints
                .iter()
                .map(|line| format!("the kernel says: `{line}`")),
        );
        if !messages.is_empty() {
            let _ = writeln!(text, "\n## {}\n", kernel.name);
            for message in messages {
                let _ = writeln!(text, "* {}", message.replace('|', "\\|"));
            }
        }
    }
    text.push('\n');
    text.push_str(FEATURES);
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::list::KERNELS;
    use crate::results::Outcome;

    fn run(outcome: &Outcome) -> Run {
        let tests = |number: usize| {
            let names = CHECKS[number].tests.iter().map(|test| (*test).to_owned());
            let mut all: BTreeMap<_, _> = names.map(|test| (test, outcome.clone())).collect();
            all.entry("of the program".to_owned()).or_insert(outcome.clone());
            all
        };
        Run {
            release: "6.1.0".into(),
            outcomes: (0..CHECKS.len()).map(|number| (number, tests(number))).collect(),
            ..Run::default()
        }
    }

    #[test]
    fn what_fails_is_in_the_table_and_below_it() {
        let runs = [
            (&KERNELS[1], run(&Outcome::Ok)),
            (&KERNELS[2], run(&Outcome::Failed("left: 1".into()))),
        ];
        let text = document(&runs);
        assert!(
            text.contains("| ok | FAILS |") && text.contains("## amd64-6.12\n"),
            "{text}"
        );
        assert!(
            text.contains("left: 1") && !text.contains("## amd64-6.1\n"),
            "{text}"
        );
        assert!(holds(&runs[..1], |_| true) && !holds(&runs, |_| true));
    }

    #[test]
    fn a_guest_that_hung_is_no_success() {
        let broken = Run {
            broken: Some("the guest hung at: raw frames".into()),
            ..run(&Outcome::Ok)
        };
        assert!(!holds(&[(&KERNELS[0], broken)], |_| true));
    }
}
