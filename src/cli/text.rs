//! Text for people. In: [`Status`]. Out: lines, fit for a terminal. Pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::iter::repeat;

use jiff::Timestamp;

use super::headline::{because, channel, headline, next, since};
use super::safe::safe;
use crate::Gather;
use crate::control::status::{CaptureStatus, CloudStatus, ReportStatus, Status, TaskStatus};
use crate::quarantine::orders::order::{Order, Posture};
use crate::quarantine::plan::Scope;
use crate::quarantine::plan::processes::StoppedProcess;
use crate::quarantine::proof::journal::OperatorOverride;
use crate::quarantine::proof::obstacle::Obstacle;
use crate::quarantine::proof::state::{CutBecause, CutTotals, Phase, QuotaUse, Rejection, State};

/// Whether the nucleus speaks with us, and whether it ever will.
fn nucleus(cloud: &CloudStatus) -> String {
    match &cloud.orphan {
        Some(why) => format!("{}; {why}: the next one's agent takes over", cloud.ipc),
        None => cloud.ipc.clone(),
    }
}

/// That nobody but the guard runs an agent, and whom it hears.
fn guarded(since: Timestamp, hears: bool) -> String {
    let heard = if hears {
        "orders from the cloud are heard"
    } else {
        "orders from the cloud are NOT heard, only those of this command line"
    };
    format!(
        "the component does NOT run (since {}); {heard}",
        time(Some(since))
    )
}

/// That the device waits for nobody for ever.
fn opens(at: Timestamp) -> String {
    format!(
        "the orders of shadow and deployment END BY THEMSELVES at {}, unless a nucleus takes this agent before \
         (isolation.releaseWithoutNucleusSeconds)",
        time(Some(at))
    )
}

/// The status page.
pub(super) fn status(status: &Status, now: Timestamp) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: String| {
        let _ = writeln!(text, "{label:<14}{}", safe(&value));
    };
    let thing = status.thing.as_deref().unwrap_or("no thing name yet");
    line(
        "Edgewarden",
        format!("{} on {thing}, mode {}", status.version, status.mode),
    );
    if let Some(predecessor) = &status.predecessor {
        line("Took over", predecessor.clone());
    }
    if let Some(why) = &status.volatile {
        line("Forgets", why.clone());
    }
    if let Some(since) = status.guarded {
        line("Guarded", guarded(since, status.cloud.channel_works));
    }
    if let Some(at) = status.releases_at {
        line("  opens", opens(at));
    }
    enforcement(&status.enforcement, Some(&status.cloud), now, &mut line);
    line("Channel", channel(&status.cloud, now));
    line("Nucleus", nucleus(&status.cloud));
    // What is missing is told once.
    let known = &status.enforcement.faults;
    if let Some(error) = status
        .cloud
        .last_error
        .as_ref()
        .filter(|error| !known.contains(error))
    {
        line("  problem", error.clone());
    }
    line("Lifelines", format!("{} addresses", status.lifelines.addresses));
    for name in &status.lifelines.unresolved {
        line("  problem", name.clone());
    }
    reports(&status.reports, &mut line);
    capture(&status.capture, &mut line);
    for alarm in &status.detector.alarms {
        line("Alarm", alarm.clone());
    }
    line("Config", format!("from {}", status.configuration.source));
    if let Some(problem) = &status.configuration.problem {
        line("  problem", problem.clone());
    }
    let in_force = status.configuration.in_force.iter().map(String::as_str);
    let faults = status.configuration.faults.iter();
    for (fault, value) in faults.zip(in_force.chain(repeat(""))) {
        let stays = if value.is_empty() {
            String::new()
        } else {
            format!("; {value} stays in force")
        };
        line("  fault", format!("{fault}{stays}"));
    }
    tasks(&status.tasks, &mut line);
    text
}

/// How enforcement stands after an instruction.
pub(super) fn after(state: &State, now: Timestamp) -> String {
    let mut text = String::new();
    enforcement(state, None, now, &mut |label, value| {
        let _ = writeln!(text, "{label:<14}{}", safe(&value));
    });
    text
}

/// The same after an order, which a restart of the machine may forget.
pub(super) fn after_order(status: &Status, now: Timestamp) -> String {
    let mut text = after(&status.enforcement, now);
    if let Some(why) = &status.volatile {
        let _ = writeln!(text, "{:<14}{}", "Forgets", safe(why));
    }
    text
}

/// Only those that have failed: a task that runs is no news.
fn tasks(tasks: &[TaskStatus], line: &mut impl FnMut(&str, String)) {
    for task in tasks {
        if let Some(why) = &task.why {
            let (name, restarts) = (&task.name, task.restarts);
            let ended = time(task.ended);
            line(
                "Task",
                format!("{name} was started again {restarts} times, last end {ended}: {why}"),
            );
        }
    }
}

fn reports(reports: &ReportStatus, line: &mut impl FnMut(&str, String)) {
    let mut told = format!("{} sent, {} accepted", reports.sent, reports.accepted);
    for (count, fate) in [(reports.rejected, "rejected"), (reports.unanswered, "unanswered")] {
        if count > 0 {
            let _ = write!(told, ", {count} {fate}");
        }
    }
    line("Reports", format!("{told}, last {}", time(reports.last_sent)));
    if let Some(problem) = &reports.last_error {
        line("  problem", problem.clone());
    }
    for reason in &reports.left_out {
        line("  left out", reason.clone());
    }
}

fn capture(capture: &CaptureStatus, line: &mut impl FnMut(&str, String)) {
    let interfaces = if capture.interfaces.is_empty() {
        "no interface".to_owned()
    } else {
        capture.interfaces.join(" ")
    };
    let receiver = capture.receiver.as_deref().unwrap_or("nobody yet");
    let lost = capture.lost_frames.map_or("losses not known".to_owned(), |lost| {
        format!("{lost} frames lost")
    });
    line("Capture", format!("{interfaces} by {receiver}, {lost}"));
    let faults = &capture.faults;
    faults.iter().for_each(|fault| line("  problem", fault.clone()));
}

/// What enforcement does, for whom, and what stands in its way; `channel` where it is known how that is doing now.
fn enforcement(
    state: &State,
    channel: Option<&CloudStatus>,
    now: Timestamp,
    line: &mut impl FnMut(&str, String),
) {
    line("Enforcement", headline(state, channel, now));
    line("  since", since(state.since, now));
    // It explains an open device, and nothing else.
    let is_open = matches!(state.phase, Phase::RolledBack | Phase::Released);
    if let Some(rolled_back) = state.rolled_back.as_ref().filter(|_| is_open) {
        line("  because", because(rolled_back));
    }
    if let Some(next) = next(state) {
        line("  next", next);
    }
    if state.scope == Scope::Wide && state.posture == Some(Posture::Isolate) {
        let wide = "WIDE: any address on 443, 8443, 8883 and 53";
        // What holds after a failed load is what was loaded before.
        let failed = if state.phase == Phase::Failed {
            "wanted "
        } else {
            ""
        };
        line("  lifelines", format!("{failed}{wide}"));
    }
    if state.wanted == Posture::Isolate {
        let missing = state.missing_lifelines.iter();
        missing.for_each(|what| line("  lifeline", what.clone()));
    }
    state
        .orders
        .iter()
        .for_each(|order| line("  order", order_line(order)));
    state
        .faults
        .iter()
        .for_each(|fault| line("  problem", fault.clone()));
    // Several obstacles may be removed by the same hand.
    let steps: BTreeSet<&str> = state.obstacles.iter().map(Obstacle::next_step).in_set();
    steps
        .iter()
        .for_each(|step| line("  next step", (*step).to_owned()));
    if let Some(fault) = &state.history_fault {
        line("  history", fault.clone());
    }
    if let Some(overridden) = &state.overridden {
        line("  override", override_line(overridden));
    }
    if let Some(release) = &state.released_without_nucleus {
        let orders = release.orders.join(", ");
        line(
            "  opened",
            format!("BY ITSELF at {}: {orders}: {}", release.at, release.why),
        );
    }
    rejections(&state.rejected, line);
    effects(state, line);
    coverage(state, line);
}

/// What was cut and whom it hit.
fn effects(state: &State, line: &mut impl FnMut(&str, String)) {
    let observed = state.phase == Phase::Observed;
    // What the other mode has counted since the device was free stays true, and apart.
    if (state.may_cut() && !observed) || !state.blocked.reasons.is_empty() {
        totals("  blocked", &state.blocked, line);
    }
    if observed || !state.would_block.reasons.is_empty() {
        totals("  would block", &state.would_block, line);
    }
    ended(state, line);
    state
        .spared
        .iter()
        .for_each(|spared| line("  spared", spared.clone()));
    state
        .idle_rules
        .iter()
        .for_each(|rule| line("  idle rule", rule.clone()));
    if state.reasserted > 0 {
        line(
            "  tampering",
            format!(
                "the rules were changed and put back {} times, last after {}",
                state.reasserted,
                state.changed_by.as_deref().unwrap_or("nobody the kernel named")
            ),
        );
    }
}

/// Packets by the way they were on, and by the reason.
fn totals(label: &str, totals: &CutTotals, line: &mut impl FnMut(&str, String)) {
    let ways = [
        (totals.out, "out"),
        (totals.inbound, "in"),
        (totals.forward, "forwarded"),
        (totals.bridged, "bridged"),
        (totals.raw, "past the IP stack"),
    ];
    let ways = ways.map(|(cut, way)| format!("{} {way}", cut.packets));
    line(label, format!("packets: {}", ways.join(", ")));
    for because in &totals.reasons {
        let CutBecause { way, reason, cut } = because;
        let reason = explain(reason);
        line(
            "",
            format!("{way}: {} packets, {} bytes {reason}", cut.packets, cut.bytes),
        );
    }
}

/// How far quotas are used, and what is not cut although it is wanted.
fn coverage(state: &State, line: &mut impl FnMut(&str, String)) {
    for quota in &state.quotas {
        let QuotaUse {
            order,
            used,
            bytes,
            until,
            ..
        } = quota;
        line(
            "  quota",
            format!(
                "{used} of {bytes} bytes used until {} ({order})",
                time(Some(*until))
            ),
        );
    }
    state
        .uncovered
        .iter()
        .for_each(|what| line("  not covered", what.clone()));
}

/// Why packets were cut.
fn explain(reason: &str) -> &str {
    match reason {
        "isolated" => "that no lifeline or allowance covers",
        "remote" => "of blocked remotes",
        "port" => "on blocked ports",
        "rate" => "above the egress rate",
        "quota" => "above the quota",
        "disguised" => "that are not what their sender says",
        other => other,
    }
}

/// Sockets and processes that were ended.
fn ended(state: &State, line: &mut impl FnMut(&str, String)) {
    if state.severed > 0 {
        line("  closed", closed(state));
    }
    if let Some(fault) = &state.severing {
        line("  sockets", fault.clone());
    }
    for stopped in &state.stopped {
        line("  stopped", stopped_line(stopped));
    }
}

/// How many sockets, and for which live orders; one that several orders cut counts for each.
fn closed(state: &State) -> String {
    let all = format!(
        "{} sockets of cut connections since the agent started",
        state.severed
    );
    let orders = state.severed_by_order.iter();
    let orders: Vec<String> = orders
        .map(|by| format!("{} by {}", by.sockets, by.order))
        .collect();
    if orders.is_empty() {
        return all;
    }
    format!("{all}; of live orders: {}", orders.join(", "))
}

pub(super) fn override_line(overridden: &OperatorOverride) -> String {
    let OperatorOverride { reason, at, orders } = overridden;
    format!("{reason} ({} orders, {})", orders.len(), time(Some(*at)))
}

pub(super) fn stopped_line(stopped: &StoppedProcess) -> String {
    let action = format!("{:?}", stopped.action).to_lowercase();
    let exe = stopped.exe.as_deref().unwrap_or("?");
    let mut text = format!("{} ({}) {exe}: {action}", stopped.name, stopped.identity.pid);
    if stopped.contested > 0 {
        text.push_str(&format!(
            ", CONTESTED: found to have run {} times since",
            stopped.contested
        ));
    }
    if stopped.stopped_before {
        text.push_str(", was stopped before and stays so");
    }
    text
}

/// Refused wishes, one line a fault.
pub(super) fn rejections(rejected: &[Rejection], line: &mut impl FnMut(&str, String)) {
    for rejection in rejected {
        for fault in &rejection.faults {
            line(
                "  refused",
                format!("{} at {}: {fault}", rejection.authority, time(Some(rejection.at))),
            );
        }
    }
}

/// An order in one line, without what it names.
pub(super) fn order_line(order: &Order) -> String {
    let mut text = format!(
        "{} by {} ({}), since {}",
        order.posture,
        order.authority,
        order.id,
        time(Some(order.issued))
    );
    if let Some(expires) = order.expires {
        let _ = write!(text, ", until {}", time(Some(expires)));
    }
    if let Some(reason) = &order.reason {
        let _ = write!(text, ": {reason}");
    }
    text
}

/// A time to the second.
pub(super) fn time(time: Option<Timestamp>) -> String {
    time.map_or_else(
        || "never".into(),
        |time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quarantine::orders::order::Authority;
    use crate::quarantine::proof::journal::ReleaseWithoutNucleus;

    fn at() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn the_page_says_when_the_device_opens_by_itself_and_that_it_did() {
        let mut page = Status::default();
        assert!(!status(&page, at()).contains("THEMSELVES"));
        page.releases_at = Some(at());
        let text = status(&page, at());
        assert!(
            text.contains("END BY THEMSELVES at 2026-01-01 00:00:00 UTC"),
            "{text}"
        );
        page.enforcement.released_without_nucleus = Some(ReleaseWithoutNucleus {
            at: at(),
            why: "no nucleus for 3600 s".into(),
            orders: vec!["shadow inc-1".into()],
        });
        let text = status(&page, at());
        let opened = "BY ITSELF at 2026-01-01T00:00:00Z: shadow inc-1: no nucleus for 3600 s";
        assert!(text.contains(opened), "{text}");
    }

    #[test]
    fn the_page_says_whether_the_device_obeys() {
        let mut page = Status::default();
        page.enforcement.phase = Phase::Enforced;
        page.enforcement.posture = Some(Posture::Isolate);
        let issued = "2026-01-01T00:00:00Z".parse().unwrap();
        page.enforcement.orders = vec![Order::isolate(
            Authority::Shadow,
            "inc-1",
            Some("bytes out".into()),
            issued,
        )];
        let text = status(&page, at());
        assert!(
            text.contains(
                "ISOLATED: proven; the control channel worked behind the rules and does NOT work now"
            ),
            "{text}"
        );
        assert!(
            text.contains("isolate by shadow (inc-1), since 2026-01-01 00:00:00 UTC: bytes out"),
            "{text}"
        );
        page.enforcement.phase = Phase::Failed;
        page.enforcement.posture = None;
        assert!(status(&page, at()).contains("FAILED: normal is wanted, what the kernel holds is not known"));
    }
}
