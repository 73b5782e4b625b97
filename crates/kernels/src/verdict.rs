//! What is said of a check in a kernel: it holds, fails, differs as is known, or could not be tried.
//!
//! In: what became of its tests, and [`DIFFERENCES`]. Out: one [`Verdict`] and its messages. Deliberately absent: any
//! difference without a reason that a reader can act on.

use std::collections::BTreeMap;

use crate::checks::Check;
use crate::list::Kernel;
use crate::results::{Outcome, Run};

/// Tests that are known to come out otherwise in some kernels, for a reason that is theirs.
#[derive(Debug)]
pub(crate) struct Difference {
    /// Kernels, by a part of their name.
    pub(crate) kernels: &'static [&'static str],
    /// The tests.
    pub(crate) tests: &'static [&'static str],
    /// What is otherwise there, and whose doing it is.
    pub(crate) why: &'static str,
}

/// Every known one.
pub(crate) const DIFFERENCES: &[Difference] = &[Difference {
    kernels: &["5.10"],
    tests: &[
        "faults::a_whole_load_is_whole_whoever_writes_between_its_steps",
        "listings::a_list_is_of_one_generation_while_others_write",
        "listings::a_table_that_is_too_large_is_an_error",
        "listings::chains_that_are_not_expected_are_listed_too",
        "listings::every_transaction_is_told_with_its_tables_and_its_maker",
        "listings::notices_that_are_lost_are_told",
        "listings::others_tables_are_passed_over",
        "listings::what_is_not_ours_is_listed_and_equals_nothing_of_ours",
        "oracle::intervals_come_back",
        "oracle::nft_sees_what_is_not_the_same",
        "oracle::what_is_loaded_is_listed_by_nft_as_its_own",
        "oracle::what_nft_loads_is_loaded_again_as_it_was",
        "transactions::counters_and_quotas_begin_where_they_are_told_to",
        "transactions::whole_tables_are_replaced_in_one_transaction",
    ],
    why: "the packet filter of this kernel has no hook at egress (Linux 5.16), and the test loads a chain there",
}];

/// Of one check in one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Every test holds.
    Ok,
    /// Some does not, and nobody knew of it.
    Fails,
    /// Some does not for a known reason, or says that the kernel lacks what it is about.
    Differs,
    /// The kernel was not booted, or did not get there.
    Unknown,
}

impl Verdict {
    /// As tables show it.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fails => "FAILS",
            Self::Differs => "differs",
            Self::Unknown => "?",
        }
    }
}

/// What became of the check, and the messages of whatever is not simply so.
pub(crate) fn of(kernel: &Kernel, run: &Run, number: usize, check: &Check) -> (Verdict, Vec<String>) {
    let Some(outcomes) = run.outcomes.get(&number) else {
        return (Verdict::Unknown, Vec::new());
    };
    judge(kernel.name, outcomes, check, DIFFERENCES)
}

fn judge(
    kernel: &str,
    outcomes: &BTreeMap<String, Outcome>,
    check: &Check,
    known: &[Difference],
) -> (Verdict, Vec<String>) {
    let mut verdict = Verdict::Ok;
    let mut messages = Vec::new();
    let mut say = |found: Verdict, message: String| {
        messages.push(message);
        if verdict != Verdict::Fails {
            verdict = found;
        }
    };
    let absent = check.tests.iter().filter(|test| !outcomes.contains_key(**test));
    for test in absent {
        say(
            Verdict::Fails,
            format!("`{test}` has no result: there is no such test, or it did not end"),
        );
    }
    if outcomes.is_empty() && check.tests.is_empty() {
        say(Verdict::Fails, format!("`{}` has run no test", check.program));
    }
    for (test, outcome) in outcomes {
        let difference = known.iter().find(|known| {
            known.tests.contains(&test.as_str()) && known.kernels.iter().any(|part| kernel.contains(part))
        });
        match (outcome, difference) {
            (Outcome::Ok, None) => {}
            (Outcome::Ok, Some(_)) => say(
                Verdict::Fails,
                format!("`{test}` holds, and is listed as one that does not: the list is out of date"),
            ),
            (Outcome::Failed(_), Some(known)) => say(Verdict::Differs, format!("`{test}`: {}", known.why)),
            (Outcome::Failed(message), None) => say(Verdict::Fails, format!("`{test}`: {message}")),
            (Outcome::Skipped(reason), _) => {
                say(Verdict::Differs, format!("`{test}` was not tried: {reason}"))
            }
        }
    }
    (verdict, messages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::CHECKS;
    use crate::list::KERNELS;

    const CHECK: Check = Check {
        title: "",
        program: "black_box",
        tests: &["a"],
    };
    const KNOWN: &[Difference] = &[Difference {
        kernels: &["5.10"],
        tests: &["a"],
        why: "it has no such hook",
    }];

    fn verdict(kernel: &str, outcome: Option<Outcome>) -> Verdict {
        let outcomes = outcome
            .map(|outcome| ("a".to_owned(), outcome))
            .into_iter()
            .collect();
        judge(kernel, &outcomes, &CHECK, KNOWN).0
    }

    #[test]
    fn a_known_difference_is_one_where_it_is_known_only() {
        let failed = || Some(Outcome::Failed("left: 1".into()));
        assert_eq!(verdict("amd64-5.10", failed()), Verdict::Differs);
        assert_eq!(verdict("amd64-6.1", failed()), Verdict::Fails);
        assert_eq!(verdict("amd64-6.1", Some(Outcome::Ok)), Verdict::Ok);
        assert_eq!(
            verdict("amd64-5.10", Some(Outcome::Ok)),
            Verdict::Fails,
            "nobody took it from the list"
        );
        assert_eq!(
            verdict("amd64-6.1", Some(Outcome::Skipped("no vrf".into()))),
            Verdict::Differs
        );
        assert_eq!(verdict("amd64-6.1", None), Verdict::Fails);
    }

    #[test]
    fn known_differences_are_of_tests_and_kernels_that_there_are() {
        for known in DIFFERENCES {
            for test in known.tests {
                let of_test = |check: &Check| check.tests.is_empty() || check.tests.contains(test);
                assert!(CHECKS.iter().any(of_test), "{test}");
            }
            for part in known.kernels {
                assert!(KERNELS.iter().any(|kernel| kernel.name.contains(part)), "{part}");
            }
        }
    }
}
