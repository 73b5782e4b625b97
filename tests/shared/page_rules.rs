//! What no two lines of a status page may say against each other.
//!
//! In: the text of a page. Out: a sentence for each pair that disagrees.

/// The values of every line with this label, without the lines that go on below it.
fn lines<'a>(page: &'a str, label: &str) -> Vec<&'a str> {
    let with_label = page.lines().filter_map(|line| {
        let (found, value) = line.split_at_checked(14)?;
        (found.trim_end() == label).then_some(value)
    });
    with_label.collect()
}

/// Every disagreement on the page of an agent that answers.
pub(crate) fn disagreements(page: &str) -> Vec<String> {
    let one = |label: &str| match lines(page, label)[..] {
        [value] => value,
        _ => "",
    };
    let (does, channel) = (one("Enforcement"), one("Channel"));
    let there = |label: &str| !lines(page, label).is_empty();
    let starts = |words: &[&str]| words.iter().any(|word| does.starts_with(word));
    let closed = starts(&["ISOLATED", "RESTRICTED"]);
    let open = starts(&["normal", "observe only"]);
    let says_works = does.contains("the control channel works behind the rules");
    let says_silent = does.contains("does NOT work now");
    let rules = [
        (!does.is_empty(), "one line says what enforcement does"),
        (
            channel.starts_with("works") || channel.starts_with("does NOT work"),
            "one line says how the channel is",
        ),
        (
            !says_works || channel.starts_with("works"),
            "the headline's channel works, the channel's line does not say so",
        ),
        (
            !says_silent || channel.starts_with("does NOT work"),
            "the headline's channel does not work, the channel's line says it does",
        ),
        (!closed || there("  order"), "closed by an order"),
        (!closed || does.contains("proven"), "what is closed is proven"),
        (
            there("  because") == starts(&["ROLLED BACK"]) || does == "normal: nothing is cut",
            "a cause of a rollback goes with a rollback",
        ),
        (
            !starts(&["ROLLED BACK"]) || there("  next"),
            "what follows a rollback is said",
        ),
        (!open || !there("  next"), "normal has no next"),
        (
            !does.contains("not confirmed") || there("  next"),
            "what follows an open trial is said",
        ),
        (
            !starts(&["FAILED"]) || (there("  problem") && there("  next step")),
            "a failure has a problem and a next step",
        ),
        (
            !starts(&["normal"]) || !there("  order"),
            "nothing is cut although something is ordered",
        ),
        (
            !one("  lifelines").starts_with("WIDE") || starts(&["ISOLATED"]),
            "only isolation has lifelines",
        ),
        (
            starts(&["starting"]) || !lines(page, "  since").contains(&"never"),
            "what holds has a beginning",
        ),
    ];
    let broken = rules.iter().filter(|(holds, _)| !holds);
    broken.map(|(_, rule)| format!("{rule}:\n{page}")).collect()
}
