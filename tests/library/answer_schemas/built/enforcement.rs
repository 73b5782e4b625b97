//! Orders, what is done about them, and the events of the history.

use edgewarden::document::Fault;
use edgewarden::quarantine::history::{Actor, Event};
use edgewarden::quarantine::lifelines::lifeline::{Endpoint, Lifelines, Purpose};
use edgewarden::quarantine::lifelines::origin::{LifelineAddress, Origin, OriginKind};
use edgewarden::quarantine::lifelines::ways::Way;
use edgewarden::quarantine::orders::order::{
    Allowance, Authority, Block, BlockedPort, BlockedRemote, Direction, Limit, Order, Posture, ProcessAction,
    ProcessMatch, ProcessRule, Protocol,
};
use edgewarden::quarantine::plan::preview::{LimitLine, OrderLine, PlanEffects, PlanPreview, ProcessLine};
use edgewarden::quarantine::plan::processes::StoppedProcess;
use edgewarden::quarantine::plan::{PlanId, Scope};
use edgewarden::quarantine::proof::journal::{OperatorOverride, ReleaseWithoutNucleus};
use edgewarden::quarantine::proof::obstacle::Obstacle;
use edgewarden::quarantine::proof::standing::{Coming, ComingTurn, RolledBack};
use edgewarden::quarantine::proof::state::{
    CutBecause, CutTotals, CutTraffic, HistoryEnd, Phase, QuotaUse, Rejection, SeveredByOrder, State,
};
use edgewarden::quarantine::ruleset::Layer;

use super::{head, id, read, sentence, time};

const AUTHORITIES: [Authority; 5] = [
    Authority::Shadow,
    Authority::Deployment,
    Authority::Detector,
    Authority::Operator,
    Authority::Recovery,
];

pub(super) fn fault() -> Fault {
    Fault {
        path: "quarantine.posture".to_owned(),
        problem: "is 3, expected a posture".to_owned(),
    }
}

fn allowance(direction: Direction, protocol: Protocol) -> Allowance {
    Allowance {
        remote: "2001:db8::/32".parse().unwrap(),
        protocol,
        ports: vec![22],
        direction,
    }
}

fn block() -> Block {
    Block {
        remotes: vec![
            BlockedRemote {
                remote: "203.0.113.0/24".parse().unwrap(),
                expires: None,
            },
            BlockedRemote {
                remote: "2001:db8::7/128".parse().unwrap(),
                expires: Some(time()),
            },
        ]
        .into(),
        ports: vec![BlockedPort {
            protocol: Protocol::Udp,
            port: 19,
        }],
        omitted: 5,
    }
}

fn order(authority: Authority) -> Order {
    Order {
        id: "inc-1".to_owned(),
        authority,
        posture: Posture::Restrict,
        reason: Some("bytes out".to_owned()),
        issued: time(),
        expires: Some(time()),
        allow: vec![
            allowance(Direction::In, Protocol::Tcp),
            allowance(Direction::Out, Protocol::Udp),
        ],
        block: block(),
        limit: Some(Limit {
            egress_bytes_per_second: Some(1_500),
            quota_bytes: Some(1),
            quota_period_seconds: Some(60),
        }),
        processes: [ProcessAction::Freeze, ProcessAction::Kill]
            .map(|action| ProcessRule {
                matches: ProcessMatch {
                    exe: Some("*/rogue".to_owned()),
                    name: Some("rogue".to_owned()),
                },
                action,
            })
            .into(),
    }
}

fn orders() -> Vec<Order> {
    let least = Order::isolate(Authority::Shadow, "shadow", None, time());
    AUTHORITIES.map(order).into_iter().chain([least]).collect()
}

fn overridden() -> OperatorOverride {
    OperatorOverride {
        reason: "break glass".to_owned(),
        at: time(),
        orders: orders(),
    }
}

fn rejection() -> Rejection {
    Rejection {
        authority: Authority::Shadow,
        at: time(),
        faults: vec![fault()],
    }
}

fn blocked() -> CutTotals {
    let cut = CutTraffic {
        packets: 1,
        bytes: 60,
    };
    let ways = ["out", "in", "forward", "bridged", "raw"].into_iter();
    let reasons = ways.zip(["isolated", "remote", "port", "rate", "quota"]);
    CutTotals {
        out: cut,
        inbound: cut,
        forward: cut,
        bridged: cut,
        raw: cut,
        reasons: reasons
            .map(|(way, reason)| CutBecause {
                way: way.to_owned(),
                reason: reason.to_owned(),
                cut,
            })
            .collect(),
    }
}

/// One of every kind.
fn obstacles() -> Vec<Obstacle> {
    let why = || "a reason".to_owned();
    vec![
        Obstacle::EnforcerFailed,
        Obstacle::NotPermitted,
        Obstacle::Unreadable { why: why() },
        Obstacle::FilterSilent { why: why() },
        Obstacle::Refused {
            complaint: why(),
            lacks: Vec::new(),
        },
        Obstacle::Differs { difference: why() },
        Obstacle::EgressDiffers,
        Obstacle::CanaryLeft {
            to: "203.0.113.254:9".parse().unwrap(),
        },
        Obstacle::JournalNotWritten { why: why() },
        Obstacle::ClockDoubted { how: why() },
        Obstacle::NotAllowed { what: why() },
        Obstacle::ProcessesUnknown { why: why() },
        Obstacle::ProcessesNotSeen { seconds: 4 },
        Obstacle::ProcessNotSeen {
            pid: 7,
            name: "rogue".to_owned(),
            seconds: 16,
        },
        Obstacle::ProcessRuns { what: why() },
        Obstacle::ProcessContested {
            pid: 7,
            name: "rogue".to_owned(),
        },
        Obstacle::ProcessStaysFrozen {
            pid: 7,
            name: "rogue".to_owned(),
            why: why(),
        },
        Obstacle::ProcessesElsewhere {
            pid: 7,
            name: "rogue".to_owned(),
            more: 2,
        },
    ]
}

fn coming() -> Coming {
    Coming {
        turn: ComingTurn::PutBack,
        at: time(),
    }
}

fn rolled_back() -> RolledBack {
    RolledBack {
        plan: read("00ab12ef"),
        at: time(),
        why: "silence".to_owned(),
        proven: true,
        times: 2,
    }
}

pub(super) fn state(phase: Phase) -> State {
    State {
        phase,
        wanted: Posture::Isolate,
        posture: Some(Posture::Restrict),
        since: Some(time()),
        verified_at: Some(time()),
        plan: Some(read("00ab12ef")),
        scope: Scope::Wide,
        orders: orders(),
        faults: sentence(),
        obstacles: obstacles(),
        rejected: vec![rejection()],
        rolled_back: Some(rolled_back()),
        coming: Some(coming()),
        overridden: Some(overridden()),
        released_without_nucleus: Some(ReleaseWithoutNucleus {
            at: time(),
            why: "no nucleus".to_owned(),
            orders: vec!["shadow inc-1".to_owned()],
        }),
        stopped: vec![StoppedProcess {
            identity: id(),
            name: "rogue".to_owned(),
            exe: Some("/opt/rogue".to_owned()),
            action: ProcessAction::Freeze,
            at: time(),
            contested: 3,
            stopped_before: false,
            named_by: std::collections::BTreeSet::new(),
            seen_from: None,
            above: Vec::new(),
        }],
        left_running: sentence(),
        spared: sentence(),
        // The cloud's: no answer has it.
        spared_in_short: None,
        idle_rules: sentence(),
        blocked: blocked(),
        would_block: blocked(),
        quotas: vec![quota()],
        uncovered: sentence(),
        reasserted: 1,
        severed: 2,
        severed_by_order: vec![SeveredByOrder {
            order: "shadow:inc-1".to_owned(),
            sockets: 2,
        }],
        severing: Some("not permitted".to_owned()),
        changed_by: Some("nft (7)".to_owned()),
        history: Some(HistoryEnd {
            file: "/var/lib/edgewarden/history".into(),
            head: head(),
        }),
        history_fault: Some("the disk is full".to_owned()),
        lifelines: lifelines(),
        missing_lifelines: sentence(),
    }
}

fn quota() -> QuotaUse {
    QuotaUse {
        order: "shadow:inc-1".to_owned(),
        used: 1,
        bytes: 2,
        since: time(),
        until: time(),
    }
}

fn passing() -> Event {
    Event::Lifelines {
        opened: vec!["data endpoint 192.0.2.1 tcp 8883: look-up of x".to_owned()],
        closed: sentence(),
    }
}

/// One of every purpose and of every origin.
fn lifelines() -> Vec<LifelineAddress> {
    let origins = [
        OriginKind::AskedFor,
        OriginKind::LookUp,
        OriginKind::Nucleus,
        OriginKind::Settings,
        OriginKind::Configuration,
        OriginKind::Remembered,
    ];
    let address = |(purpose, by)| LifelineAddress {
        endpoint: Endpoint {
            purpose,
            address: "198.51.100.1".parse().unwrap(),
            protocol: Protocol::Tcp,
            port: 8883,
        },
        origin: Origin::new(by, "a.example"),
        used: true,
    };
    Purpose::ALL
        .into_iter()
        .zip(origins.into_iter().cycle())
        .map(address)
        .collect()
}

pub(super) fn plan() -> PlanPreview {
    let line = |reason: Option<String>, expires| OrderLine {
        id: "inc-1".to_owned(),
        authority: Authority::Operator,
        posture: Posture::Isolate,
        reason,
        issued: time(),
        expires,
    };
    let process = |action: Option<ProcessAction>| ProcessLine {
        pid: 7,
        name: "rogue".to_owned(),
        exe: action.map(|_| "/opt/rogue".to_owned()),
        action,
        spared: action.is_none().then(|| "it is the nucleus".to_owned()),
    };
    PlanPreview {
        plan: PlanEffects {
            plan: Some(read("00ab12ef")),
            posture: Posture::Isolate,
            orders: vec![line(None, None), line(Some("test".to_owned()), Some(time()))],
            not_done: Some("mode observe".to_owned()),
            lifelines: Lifelines::default(),
            scope: Scope::Pinned,
            endpoints: lifelines(),
            missing: sentence(),
            ways: vec![Way {
                address: "198.51.100.1".parse().unwrap(),
                interface: read("wan0"),
                next_hop: "198.51.100.2".parse().unwrap(),
            }],
            allow: vec![allowance(Direction::In, Protocol::Tcp)],
            block: block(),
            limits: vec![LimitLine {
                order: "operator:inc-1".to_owned(),
                bytes_per_second: Some(1_500),
                quota_bytes: Some(1),
                quota_until: Some(time()),
            }],
            layers: Layer::ALL.into(),
            gaps: sentence(),
            processes: [None, Some(ProcessAction::Freeze), Some(ProcessAction::Kill)]
                .map(process)
                .into(),
            more_processes: 1,
            idle_rules: sentence(),
            not_known: Some("who the nucleus is".to_owned()),
        },
        text: "add table inet edgewarden\n".to_owned(),
    }
}

fn contested() -> Event {
    Event::ProcessContested {
        pid: 7,
        name: "rogue".to_owned(),
        times: 2,
    }
}

fn without_agent() -> Event {
    let why = "no agent runs".to_owned();
    Event::WithoutAgent { why }
}

fn taken_back(authority: Authority, reason: Option<&str>) -> Event {
    Event::Released {
        authority,
        order: "inc-1".to_owned(),
        by: Authority::Operator,
        reason: reason.map(str::to_owned),
    }
}

/// Events with, between them, every member that events have.
pub(super) fn events() -> Vec<Event> {
    let plan: PlanId = read("00ab12ef");
    vec![
        Event::Started {
            version: "0.1.0".to_owned(),
        },
        Event::Stopped,
        without_agent(),
        Event::ordered(&order(Authority::Shadow)),
        Event::ordered(&Order::isolate(Authority::Shadow, "shadow", None, time())),
        Event::Refused {
            authority: Authority::Shadow,
            faults: sentence(),
        },
        taken_back(Authority::Shadow, None),
        taken_back(Authority::Operator, Some("false alarm")),
        Event::Overridden {
            reason: "break glass".to_owned(),
            orders: vec!["shadow inc-1".to_owned()],
        },
        Event::Planned {
            plan: plan.clone(),
            posture: Posture::Isolate,
            scope: Scope::Wide,
            orders: vec!["shadow inc-1".to_owned()],
            held_back: Some("mode observe".to_owned()),
        },
        passing(),
        Event::RolledBack {
            plan,
            why: "silence".to_owned(),
        },
        Event::Reasserted {
            by: None,
            what: "a rule".to_owned(),
        },
        Event::Reasserted {
            by: Some(Actor {
                pid: 7,
                name: "nft".to_owned(),
            }),
            what: "a rule".to_owned(),
        },
        Event::ProcessStopped {
            pid: 7,
            name: "rogue".to_owned(),
            exe: Some("/opt/rogue".to_owned()),
            action: ProcessAction::Kill,
        },
        contested(),
        Event::Torn {
            bytes: 12,
            begin: "{\"seq\"".to_owned(),
        },
        Event::Missed {
            count: 3,
            why: "the disk was full".to_owned(),
        },
    ]
}
