//! Text for people. In: [`Status`]. Out: lines, fit for a terminal. Pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use jiff::Timestamp;

use super::safe::safe;
use crate::control::status::{CaptureStatus, CloudStatus, ReportStatus, Status, TaskStatus};
use crate::quarantine::orders::order::{Order, Posture};
use crate::quarantine::plan::Scope;
use crate::quarantine::proof::obstacle::Obstacle;
use crate::quarantine::proof::state::{CutBecause, Phase, QuotaUse, Rejection, State};

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
pub(super) fn status(status: &Status) -> String {
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
    if let Some(since) = status.guarded {
        line("Guarded", guarded(since, status.cloud.channel_works));
    }
    if let Some(at) = status.releases_at {
        line("  opens", opens(at));
    }
    enforcement(&status.enforcement, &mut line);
    let channel = if status.cloud.channel_works {
        "works"
    } else {
        "does not work"
    };
    line(
        "Channel",
        format!(
            "{channel}, last round trip {}",
            time(status.cloud.last_round_trip)
        ),
    );
    line("Nucleus", nucleus(&status.cloud));
    if let Some(error) = &status.cloud.last_error {
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
    for fault in &status.configuration.faults {
        line("  fault", fault.to_string());
    }
    tasks(&status.tasks, &mut line);
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
    line(
        "Reports",
        format!(
            "{} sent, {} accepted, {} rejected, {} unanswered, last {}",
            reports.sent,
            reports.accepted,
            reports.rejected,
            reports.unanswered,
            time(reports.last_sent)
        ),
    );
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

fn headline(state: &State) -> String {
    match state.phase {
        Phase::Starting => "starting".to_owned(),
        Phase::Released => "normal: nothing is cut".to_owned(),
        Phase::Provisional => {
            format!(
                "{}: in the kernel and proven; waiting for a shadow round trip",
                verb(state.posture)
            )
        }
        Phase::Enforced => format!(
            "{}: proven; the control channel has worked through it",
            verb(state.posture)
        ),
        Phase::Failed => match state.posture {
            Some(posture) if posture == state.wanted => {
                format!("FAILED: {posture} is proven as it was before, not as it is wanted")
            }
            Some(posture) => format!("FAILED: {} is wanted, {posture} is proven", state.wanted),
            None => format!(
                "FAILED: {} is wanted, what the kernel holds is not known",
                state.wanted
            ),
        },
        Phase::RolledBack => {
            "ROLLED BACK: not isolated, because isolation cut the control channel".to_owned()
        }
        Phase::Observed => format!("observe only: {} is wanted, nothing is cut", state.wanted),
    }
}

fn enforcement(state: &State, line: &mut impl FnMut(&str, String)) {
    line("Enforcement", headline(state));
    line("  since", time(state.since));
    if state.scope == Scope::Wide && state.posture == Some(Posture::Isolate) {
        line(
            "  lifelines",
            "WIDE: any address on 443, 8443, 8883 and 53".into(),
        );
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
    let steps: BTreeSet<&str> = state.obstacles.iter().map(Obstacle::next_step).collect();
    steps
        .iter()
        .for_each(|step| line("  next step", (*step).to_owned()));
    if let Some(fault) = &state.history_fault {
        line("  history", fault.clone());
    }
    if let Some(rolled_back) = &state.rolled_back {
        line("  gave up", format!("{} at {}", rolled_back.why, rolled_back.at));
    }
    if let Some(overridden) = &state.overridden {
        line(
            "  override",
            format!(
                "{} ({} orders, {})",
                overridden.reason,
                overridden.orders.len(),
                overridden.at
            ),
        );
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
    if state.may_cut() || observed {
        let label = if observed { "  would block" } else { "  blocked" };
        let blocked = &state.blocked;
        let ways = [
            (blocked.out, "out"),
            (blocked.inbound, "in"),
            (blocked.forward, "forwarded"),
            (blocked.bridged, "bridged"),
            (blocked.raw, "past the IP stack"),
        ];
        let ways = ways.map(|(cut, way)| format!("{} {way}", cut.packets));
        line(label, format!("packets: {}", ways.join(", ")));
        for because in &blocked.reasons {
            let CutBecause { way, reason, cut } = because;
            let reason = explain(reason);
            line(
                "",
                format!("{way}: {} packets, {} bytes {reason}", cut.packets, cut.bytes),
            );
        }
    }
    ended(state, line);
    state
        .spared
        .iter()
        .for_each(|spared| line("  spared", spared.clone()));
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
        other => other,
    }
}

/// Sockets and processes that were ended.
fn ended(state: &State, line: &mut impl FnMut(&str, String)) {
    if state.severed > 0 {
        line(
            "  closed",
            format!("{} sockets of cut connections", state.severed),
        );
    }
    if let Some(fault) = &state.severing {
        line("  sockets", fault.clone());
    }
    for stopped in &state.stopped {
        let action = format!("{:?}", stopped.action).to_lowercase();
        let exe = stopped.exe.as_deref().unwrap_or("?");
        line(
            "  stopped",
            format!("{} ({}) {exe}: {action}", stopped.name, stopped.identity.pid),
        );
    }
}

/// Refused wishes, one line a fault.
pub(super) fn rejections(rejected: &[Rejection], line: &mut impl FnMut(&str, String)) {
    for rejection in rejected {
        for fault in &rejection.faults {
            line(
                "  refused",
                format!("{} at {}: {fault}", rejection.authority, rejection.at),
            );
        }
    }
}

/// An order in one line, without what it names.
pub(super) fn order_line(order: &Order) -> String {
    let mut text = format!(
        "{} by {} ({}), since {}",
        order.posture, order.authority, order.id, order.issued
    );
    if let Some(expires) = order.expires {
        let _ = write!(text, ", until {expires}");
    }
    if let Some(reason) = &order.reason {
        let _ = write!(text, ": {reason}");
    }
    text
}

fn verb(posture: Option<Posture>) -> &'static str {
    match posture.unwrap_or_default() {
        Posture::Normal => "normal",
        Posture::Restrict => "RESTRICTED",
        Posture::Isolate => "ISOLATED",
    }
}

/// A time to the second.
fn time(time: Option<Timestamp>) -> String {
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

    #[test]
    fn the_page_says_when_the_device_opens_by_itself_and_that_it_did() {
        let mut page = Status::default();
        assert!(!status(&page).contains("THEMSELVES"));
        let at: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        page.releases_at = Some(at);
        let text = status(&page);
        assert!(
            text.contains("END BY THEMSELVES at 2026-01-01 00:00:00 UTC"),
            "{text}"
        );
        page.enforcement.released_without_nucleus = Some(ReleaseWithoutNucleus {
            at,
            why: "no nucleus for 3600 s".into(),
            orders: vec!["shadow inc-1".into()],
        });
        let text = status(&page);
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
        let text = status(&page);
        assert!(text.contains("ISOLATED: proven"), "{text}");
        assert!(
            text.contains("isolate by shadow (inc-1), since 2026-01-01T00:00:00Z: bytes out"),
            "{text}"
        );
        page.enforcement.phase = Phase::Failed;
        page.enforcement.posture = None;
        assert!(status(&page).contains("FAILED: normal is wanted, what the kernel holds is not known"));
    }
}
