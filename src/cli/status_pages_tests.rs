//! The status page in each state that a person may meet: docs/status.md is written from here (`UPDATE_DOCS=1`), and no two
//! lines of a page disagree.

#![expect(clippy::disallowed_methods, reason = "writes and reads docs/status.md")]

use jiff::Timestamp;

#[path = "../../tests/shared/page_rules.rs"]
mod page_rules;

use super::{absent_page, text};
use crate::control::status::{AbsentAgent, CaptureStatus, CloudStatus, LifelineStatus, Status, TaskStatus};
use crate::document::fault::Fault;
use crate::quarantine::lifelines::tunnels::{self, Tunnel, Wrapping};
use crate::quarantine::lifelines::ways::{InterfaceName, Way};
use crate::quarantine::orders::order::{Authority, Order, Posture};
use crate::quarantine::plan::Scope;
use crate::quarantine::plan::tracked::Crowd;
use crate::quarantine::proof::obstacle::Obstacle;
use crate::quarantine::proof::standing::{Coming, ComingTurn, RolledBack};
use crate::quarantine::proof::state::{Phase, Rejection, State};

/// Lines and columns of a terminal of the usual size.
const MOST_LINES: usize = 24;
const COLUMNS: usize = 80;
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/status.md");

fn at(text: &str) -> Timestamp {
    format!("2026-11-28T{text}Z").parse().unwrap()
}

fn now() -> Timestamp {
    at("12:00:00")
}

fn order() -> Order {
    let reason = Some("beaconing to 203.0.113.7".to_owned());
    Order::isolate(Authority::Shadow, "inc-42", reason, at("09:30:00"))
}

fn enforcement(phase: Phase, posture: Option<Posture>) -> State {
    let wanted = if phase == Phase::Released {
        Posture::Normal
    } else {
        Posture::Isolate
    };
    State {
        phase,
        wanted,
        posture,
        since: Some(at("09:30:00")),
        verified_at: Some(at("11:59:57")),
        orders: if wanted == Posture::Normal {
            Vec::new()
        } else {
            vec![order()]
        },
        ..State::default()
    }
}

fn status(enforcement: State) -> Status {
    let mut status = Status {
        version: "0.1.0".into(),
        thing: Some("gateway-01".into()),
        mode: "enforce".into(),
        enforcement,
        cloud: CloudStatus {
            ipc: "connected".into(),
            channel_works: true,
            last_round_trip: Some(at("11:55:00")),
            ..CloudStatus::default()
        },
        lifelines: LifelineStatus {
            addresses: 9,
            unresolved: Vec::new(),
        },
        capture: CaptureStatus {
            receiver: Some("ring".into()),
            interfaces: vec!["eth0".into(), "wlan0".into()],
            lost_frames: Some(0),
            faults: Vec::new(),
        },
        ..Status::default()
    };
    status.configuration.source = "nucleus".into();
    status.reports.sent = 12;
    status.reports.accepted = 12;
    status.reports.last_sent = Some(at("11:57:00"));
    status
}

fn isolated() -> Status {
    status(enforcement(Phase::Enforced, Some(Posture::Isolate)))
}

/// Where connection tracking is crowded, and lifelines lead through a tunnel.
fn uncovered() -> Status {
    let mut status = isolated();
    let crowd = Crowd {
        flows: 49_512,
        most: 65_536,
    };
    let interface = InterfaceName::new("vpn0").unwrap();
    let address = "198.51.100.7".parse().unwrap();
    let way = Way {
        address,
        interface,
        next_hop: address,
    };
    let tunnel = Tunnel {
        interface,
        kind: "vxlan".into(),
        remote: Some("203.0.113.40".parse().unwrap()),
        wrapping: Wrapping::Udp(4_789),
        carries: [interface].into(),
    };
    status.enforcement.uncovered = tunnels::told([&way].into_iter(), &[tunnel], &[], true);
    status.enforcement.uncovered.push(crowd.to_string());
    status
}

fn restricted() -> Status {
    let mut status = status(enforcement(Phase::Enforced, Some(Posture::Restrict)));
    status.enforcement.wanted = Posture::Restrict;
    let order = &mut status.enforcement.orders[0];
    order.posture = Posture::Restrict;
    order.block.remotes = vec!["203.0.113.7/32".parse::<ipnet::IpNet>().unwrap().into()].into();
    status
}

fn rolled_back() -> Status {
    let mut state = enforcement(Phase::RolledBack, Some(Posture::Normal));
    state.since = Some(at("11:58:00"));
    let normal = serde_json::from_str("\"0a1b2c3d\"").unwrap();
    state.rolled_back = Some(RolledBack {
        plan: normal,
        at: at("11:58:00"),
        why: "the control channel worked before and was silent for 90 s behind the rules, and for another 90 s with wider \
              lifelines"
            .into(),
        proven: false,
        times: 1,
    });
    state.coming = Some(Coming {
        turn: ComingTurn::PutBack,
        at: at("12:04:00"),
    });
    let mut status = status(state);
    status.cloud.channel_works = false;
    status.cloud.last_error = Some("the shadow service did not answer within 10 s".into());
    status
}

fn provisional() -> Status {
    let mut state = enforcement(Phase::Provisional, Some(Posture::Isolate));
    state.since = Some(at("11:59:40"));
    state.coming = Some(Coming {
        turn: ComingTurn::Widen,
        at: at("12:01:10"),
    });
    let mut status = status(state);
    status.cloud.channel_works = false;
    status.cloud.last_error = Some("the shadow service did not answer within 10 s".into());
    status
}

fn failed() -> Status {
    let mut state = enforcement(Phase::Failed, None);
    let why = "could not open a netlink socket of the packet filter: Protocol not supported";
    state.obstacles = vec![Obstacle::FilterSilent { why: why.to_owned() }];
    state.faults = state.obstacles.iter().map(ToString::to_string).collect();
    status(state)
}

/// Isolated, and less of it than there should be: wide lifelines, a channel that fell silent, a refused order, a task that
/// had to be started again, a configuration that is refused.
fn degraded() -> Status {
    let mut status = isolated();
    status.enforcement.scope = Scope::Wide;
    let journal = Obstacle::JournalNotWritten {
        why: "/var/lib/edgewarden/journal: no space left on device".into(),
    };
    status.enforcement.faults = vec![journal.to_string()];
    status.enforcement.obstacles = vec![journal];
    status.enforcement.rejected = vec![Rejection {
        authority: Authority::Deployment,
        at: at("11:00:00"),
        faults: vec![Fault::new(
            "quarantine.posture",
            "is \"total\", expected isolate, restrict or normal",
        )],
    }];
    status.cloud.channel_works = false;
    status.cloud.last_error = Some("the shadow service did not answer within 10 s".into());
    status.configuration.in_force = vec!["300".into()];
    status.configuration.faults = vec![Fault::new(
        "reporting.intervalSeconds",
        "is 5, expected 300 to 86400",
    )];
    status.tasks = vec![TaskStatus {
        name: "reporter".into(),
        restarts: 1,
        ended: Some(at("10:00:00")),
        why: Some("it ended by itself".into()),
    }];
    status
}

fn nucleus_dead() -> Status {
    let mut status = isolated();
    status.cloud.ipc = "away: the nucleus closed the connection".into();
    status.cloud.orphan = Some("the nucleus that started this agent has ended".into());
    status.cloud.channel_works = false;
    status.cloud.last_error = Some("no connection to the nucleus: the nucleus closed the connection".into());
    status
}

fn big_shadow() -> Status {
    let mut status = isolated();
    status.cloud.last_error = Some(
        "the shadow service answers our reports, but the shadow itself does not come through: it is probably larger than the \
         5,000 bytes that nucleus lite takes. true and false that reach it are obeyed, a removed key or a large order may not be: use a \
         named shadow for orders (shadow.name), or remove what else is in this one"
            .into(),
    );
    status
}

fn component_gone() -> Status {
    let mut status = isolated();
    status.guarded = Some(at("10:15:00"));
    status
}

fn absent(agent: &str, pid: Option<u32>) -> AbsentAgent {
    AbsentAgent {
        agent: agent.into(),
        pid,
        since: Some(at("08:00:00")),
        guard: Some(811),
        kernel: "holds what is wanted: isolate (inet edgewarden, bridge edgewarden, netdev edgewarden)"
            .into(),
        mode: "enforce".into(),
        wanted: Posture::Isolate,
        orders: vec![order()],
        overridden: None,
        rolled_back: None,
        stopped: Vec::new(),
    }
}

/// Each state with its page.
fn pages() -> Vec<(&'static str, String)> {
    let answered = [
        (
            "Normal",
            status(enforcement(Phase::Released, Some(Posture::Normal))),
        ),
        ("Isolated", isolated()),
        (
            "Isolated, and not all is as it should be around the rules",
            uncovered(),
        ),
        ("Restricted", restricted()),
        (
            "Provisional: the control channel is silent behind new rules",
            provisional(),
        ),
        ("Rolled back", rolled_back()),
        ("Failed: the kernel has no packet filter", failed()),
        ("Degraded", degraded()),
        ("The nucleus is dead", nucleus_dead()),
        ("A shadow too large for nucleus lite", big_shadow()),
        ("The component is gone", component_gone()),
    ];
    let absent = [
        ("The agent is dead", absent("not running", None)),
        ("The agent is stopped", absent("stopped", Some(4242))),
        ("The agent hangs", absent("not answering", Some(4242))),
    ];
    let answered = answered.map(|(name, status)| (name, text::status(&status, now())));
    let absent = absent.map(|(name, status)| (name, absent_page::page(&status)));
    answered.into_iter().chain(absent).collect()
}

#[test]
fn the_pages_are_those_of_docs_and_fit_a_terminal() {
    let mut page = String::from(
        "# What `edgewarden status` says\n\n<!-- Written from src/cli/status_pages_tests.rs by its test (UPDATE_DOCS=1); edit \
         there. -->\n\nIn each state that a person may meet. Where no agent answers the exit code is 3.\n",
    );
    for (name, text) in pages() {
        let wrapped = text
            .lines()
            .map(|line| line.chars().count().div_ceil(COLUMNS).max(1));
        assert!(wrapped.sum::<usize>() <= MOST_LINES, "{name}:\n{text}");
        if !text.starts_with("Agent ") {
            assert_eq!(page_rules::disagreements(&text), Vec::<String>::new(), "{name}");
        }
        page.push_str(&format!("\n## {name}\n\n```text\n{text}```\n"));
    }
    if std::env::var("UPDATE_DOCS").is_ok() {
        std::fs::write(PAGE, &page).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(PAGE).unwrap(),
        page,
        "UPDATE_DOCS=1 writes it"
    );
}
