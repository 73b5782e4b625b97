//! The text of each posture, and the properties every text must have.

use super::*;
use crate::quarantine::lifelines::lifeline::{Endpoint, Purpose};
use crate::quarantine::lifelines::ways::Ways;
use crate::quarantine::orders::document::{MAX_BLOCKS, MAX_OPERATOR_BLOCKS};
use crate::quarantine::orders::order::{
    Allowance, Authority, Block, BlockedPort, BlockedRemote, Direction, Limit, Order, Posture, Protocol,
};
use crate::quarantine::plan::{IsolationSettings, Scope, fold};
use ipnet::IpNet;
use nf_tables::{Action, Item};
use std::net::IpAddr;

#[path = "frames_tests.rs"]
mod frames;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn all_hooks() -> Hooks {
    Hooks {
        bridge: true,
        egress: vec![EgressDevice {
            name: "eth0".into(),
            index: 2,
        }],
        ..Hooks::default()
    }
}

fn plan(order: Order, scope: Scope) -> Plan {
    let endpoint = |address: &str, protocol, port| Endpoint {
        purpose: Purpose::DataEndpoint,
        address: address.parse().unwrap(),
        protocol,
        port,
    };
    let endpoints = vec![
        endpoint("198.51.100.1", Protocol::Tcp, 8883),
        endpoint("2001:db8::1", Protocol::Tcp, 8883),
        endpoint("198.51.100.53", Protocol::Udp, 53),
    ];
    fold(&[order], &IsolationSettings::default(), endpoints, scope, now())
}

fn isolation(allow: Vec<Allowance>) -> Order {
    Order {
        allow,
        ..Order::isolate(Authority::Shadow, "shadow", None, now())
    }
}

fn restriction(remotes: &[&str]) -> Order {
    let remotes = remotes.iter().map(|text| BlockedRemote {
        remote: text.parse().unwrap(),
        expires: None,
    });
    Order {
        posture: Posture::Restrict,
        block: Block {
            remotes: remotes.collect(),
            ports: vec![BlockedPort {
                protocol: Protocol::Tcp,
                port: 23,
            }],
            omitted: 0,
        },
        ..isolation(Vec::new())
    }
}

fn rendered(order: Order) -> Ruleset {
    render(&plan(order, Scope::Pinned), &all_hooks(), CutAction::Cut)
}

fn text_of(ruleset: &Ruleset) -> String {
    ruleset.text(&BTreeSet::new(), &CarriedCounters::default(), now())
}

/// Elements alone are changed without any handle.
fn change(wanted: &Ruleset, held: &Ruleset) -> nf_tables::Batch {
    let counted = CarriedCounters::default();
    let change = wanted.change_batch(held, &RuleHandles::new(), &counted, 1, now());
    change.unwrap()
}

#[test]
fn a_normal_plan_only_removes_what_is_there() {
    let nothing = fold(
        &[],
        &IsolationSettings::default(),
        Vec::new(),
        Scope::Pinned,
        now(),
    );
    let ruleset = render(&nothing, &all_hooks(), CutAction::Cut);
    assert!(ruleset.tables.is_empty());
    assert_eq!(text_of(&ruleset), "");
    let present = BTreeSet::from([Layer::Inet, Layer::Netdev]);
    assert_eq!(
        ruleset.text(&present, &CarriedCounters::default(), now()),
        "delete table inet edgewarden\ndelete table netdev edgewarden\n"
    );
}

/// What leaves in whose stream is judged besides what drops.
fn only_of_streams(chain: &Chain) -> bool {
    [LEAVING, UNSENT, CONTROL].contains(&chain.name)
}

#[test]
fn isolation_drops_on_every_hook_and_trusts_no_established_flow() {
    let ruleset = rendered(isolation(Vec::new()));
    let chains: Vec<_> = ruleset.tables.iter().flat_map(|table| &table.chains).collect();
    for chain in chains.iter().filter(|chain| !only_of_streams(chain)) {
        let last = chain.rules.last().unwrap();
        if chain.hook == "egress" {
            assert_eq!(last.statement, "jump frames");
        } else {
            assert_eq!(last.verdict(), Some("drop"), "{}", chain.name);
        }
        let policy = if chain.hook.is_empty() { "" } else { "drop" };
        assert_eq!(chain.policy, policy, "{}", chain.name);
    }
    let hooks: Vec<_> = chains.iter().map(|chain| chain.hook).collect();
    let expected = [
        "output",
        "input",
        "forward",
        "postrouting",
        "forward",
        "",
        "",
        "",
        "egress",
    ];
    assert_eq!(hooks, expected);
    let text = text_of(&ruleset);
    for line in text.lines().filter(|line| line.contains("established")) {
        assert!(
            line.contains("@endpoints") || line.contains("daddr"),
            "unbounded: {line}"
        );
    }
    assert_eq!(
        text.matches("198.51.100.1 . tcp . 8883, 198.51.100.53 . udp . 53")
            .count(),
        2,
        "of the IP stack and of the egress"
    );
    assert!(text.contains("hook egress devices = { \"eth0\" } priority 0"));
}

#[test]
fn a_session_of_ppp_lives_where_there_is_one_and_while_no_way_is_known() {
    let session = |ways: Ways, posture, pppoe| {
        let order = Order {
            posture,
            ..isolation(Vec::new())
        };
        let mut tied = plan(order, Scope::Pinned);
        tied.ways = ways;
        let hooks = Hooks { pppoe, ..all_hooks() };
        text_of(&render(&tied, &hooks, CutAction::Cut)).contains("meta protocol 0x8864")
    };
    let tied = || Ways::Tied(Vec::new());
    assert!(session(tied(), Posture::Isolate, true));
    assert!(!session(tied(), Posture::Isolate, false));
    assert!(session(Ways::default(), Posture::Isolate, false));
}

#[test]
fn without_bridge_and_egress_hook_there_is_one_table() {
    let ruleset = render(
        &plan(isolation(Vec::new()), Scope::Pinned),
        &Hooks::default(),
        CutAction::Cut,
    );
    assert_eq!(ruleset.tables.len(), 1);
    assert_eq!(ruleset.tables[0].layer, Layer::Inet);
}

#[test]
fn only_our_own_tables_are_named() {
    let text = text_of(&render(
        &plan(isolation(Vec::new()), Scope::Wide),
        &all_hooks(),
        CutAction::Cut,
    ));
    assert!(!text.contains("flush"), "a flush would hit other tables");
    for line in text.lines().filter(|line| line.contains("table ")) {
        assert!(line.ends_with(" edgewarden {"), "{line}");
    }
}

#[test]
fn an_inbound_allowance_opens_our_port_and_lets_only_answers_out() {
    let ssh = Allowance {
        remote: "198.51.100.7/32".parse().unwrap(),
        protocol: Protocol::Tcp,
        ports: vec![22],
        direction: Direction::In,
    };
    let text = text_of(&rendered(isolation(vec![ssh])));
    assert!(
        text.contains("ip saddr 198.51.100.7/32 tcp dport { 22 } accept"),
        "{text}"
    );
    let answer = "ip daddr 198.51.100.7/32 tcp sport { 22 } tcp flags & (syn | ack) != syn accept";
    assert_eq!(text.matches(answer).count(), 2, "{text}");
}

#[test]
fn the_wide_scope_opens_ports_of_the_control_channel_only() {
    let text = |scope| {
        text_of(&render(
            &plan(isolation(Vec::new()), scope),
            &all_hooks(),
            CutAction::Cut,
        ))
    };
    assert!(text(Scope::Wide).contains("tcp dport { 443, 8443, 8883 } accept"));
    assert!(!text(Scope::Pinned).contains("wide"));
}

#[test]
fn a_restriction_accepts_by_policy_and_drops_what_it_names_on_every_hook() {
    let ruleset = rendered(restriction(&[
        "203.0.113.0/24",
        "203.0.114.1/32",
        "2001:db8:bad::/48",
    ]));
    let chains = ruleset.tables.iter().flat_map(|table| &table.chains);
    assert!(
        chains
            .clone()
            .all(|chain| chain.hook.is_empty() || chain.policy == "accept")
    );
    // Those of interfaces send all frames to one chain.
    for chain in chains.filter(|chain| chain.hook != "egress" && !only_of_streams(chain)) {
        let drops = chain
            .rules
            .iter()
            .filter(|rule| rule.verdict() == Some("drop") && !rule.statement.contains("disguised"))
            .count();
        assert_eq!(drops, 8, "{}", chain.hook);
    }
}

#[test]
fn observing_cuts_nothing() {
    let limited = Order {
        limit: Some(Limit {
            egress_bytes_per_second: Some(20_000),
            quota_bytes: Some(1_000_000),
            quota_period_seconds: Some(3_600),
        }),
        ..restriction(&["203.0.113.0/24"])
    };
    for order in [isolation(Vec::new()), limited] {
        let text = text_of(&render(
            &plan(order, Scope::Pinned),
            &all_hooks(),
            CutAction::Count,
        ));
        assert!(!text.contains("drop"), "{text}");
        assert!(text.contains("counter name would_out_"), "{text}");
        assert!(
            !text.contains("counter out_"),
            "neither mode goes on from the other's count"
        );
    }
}

#[test]
fn what_the_ip_stack_has_counted_is_passed_over_below_it_only_where_nothing_is_dropped() {
    let rules = |effect| {
        let ruleset = render(&plan(isolation(Vec::new()), Scope::Pinned), &all_hooks(), effect);
        let chains = ruleset.tables.iter().flat_map(|table| &table.chains);
        let chains = chains.filter(|chain| chain.hook != "egress" && !only_of_streams(chain));
        chains
            .map(|chain| (chain.name, chain.rules[0].statement.contains("rtclassid")))
            .collect::<Vec<_>>()
    };
    let hooks = ["output", "input", "forward", "forward", "frames"];
    assert!(is_own_chain("egress"));
    assert!(hooks.into_iter().all(is_own_chain) && !is_own_chain("more"));
    let first = |asks: [bool; 5]| hooks.into_iter().zip(asks).collect::<Vec<_>>();
    assert_eq!(rules(CutAction::Cut), first([false; 5]));
    assert_eq!(rules(CutAction::Count), first([false, false, false, true, true]));
}

#[test]
fn a_limit_goes_on_counting_where_it_was() {
    let order = Order {
        limit: Some(Limit {
            egress_bytes_per_second: Some(20_000),
            quota_bytes: Some(1_000_000),
            quota_period_seconds: Some(3_600),
        }),
        ..restriction(&[])
    };
    let ruleset = rendered(order);
    let name = quota_name("shadow:shadow", now());
    let mut counted = CarriedCounters::default();
    counted.quotas.insert((Layer::Inet, name.clone()), 77);
    counted
        .counters
        .insert((Layer::Inet, "out_quota".into()), (3, 99));
    let text = ruleset.text(&BTreeSet::new(), &counted, now());
    assert!(
        text.contains(&format!("quota {name} {{\n    over 1000000 bytes used 77 bytes")),
        "{text}"
    );
    assert!(
        text.contains("rate over 20000 bytes/second burst 45536 bytes"),
        "{text}"
    );
    assert!(
        text.contains("counter out_quota {\n    packets 3 bytes 99"),
        "{text}"
    );
}

#[test]
fn a_quotas_name_is_its_orders_and_its_periods_and_fits() {
    let later = now() + jiff::SignedDuration::from_millis(1);
    let names = [
        quota_name("shadow:a", now()),
        quota_name("operator:a", now()),
        quota_name("shadow:b", now()),
        quota_name("shadow:a", later),
        quota_name("deployment:a:b \"c\"", Timestamp::MAX),
    ];
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    let fits = |name: &String| {
        name.len() <= 31
            && name
                .chars()
                .all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    assert!(names.iter().all(fits), "{names:?}");
}

#[test]
fn one_more_remote_is_one_element_in_every_table() {
    let few = rendered(restriction(&["203.0.113.1/32", "203.0.113.2/32"]));
    let more = rendered(restriction(&["203.0.113.2/32", "203.0.113.3/32"]));
    assert!(more.same_structure(&few));
    let change = change(&more, &few);
    let steps: Vec<_> = change
        .steps()
        .map(|step| (step.table.to_string(), step.action, step.item.clone()))
        .collect();
    let hosts = || Item::Elements("hosts4".into());
    for (layer, two) in Layer::ALL.into_iter().zip(steps.chunks(2)) {
        let table = format!("{layer} {TABLE}");
        let wanted = [
            (table.clone(), Action::Delete, hosts()),
            (table, Action::Add, hosts()),
        ];
        assert_eq!(two, wanted);
    }
    assert_eq!(steps.len(), 6);
    assert!(self::change(&more, &more).is_empty());
    let wider = rendered(restriction(&["203.0.113.0/30"]));
    assert!(!wider.same_structure(&few), "other rules ask other sets");
}

/// Handles as the kernel would list them, one for each rule.
fn handles(of: &Ruleset) -> RuleHandles {
    let of_chain = |chain: &Chain| -> Vec<(String, u64)> {
        let numbered = (100..).zip(&chain.rules);
        numbered
            .map(|(handle, _)| (chain.name.to_owned(), handle))
            .collect()
    };
    let tables = of.tables.iter();
    tables
        .map(|table| (table.layer, table.chains.iter().flat_map(of_chain).collect()))
        .collect()
}

#[test]
fn one_port_more_is_two_rules_in_each_chain_and_nothing_else() {
    let port = |port| BlockedPort {
        protocol: Protocol::Tcp,
        port,
    };
    let with_ports = |ports: &[u16]| {
        let mut order = restriction(&["203.0.113.1/32"]);
        order.block.ports = ports.iter().copied().map(port).collect();
        rendered(order)
    };
    let (one, two) = (with_ports(&[23]), with_ports(&[23, 2323]));
    assert!(two.same_frame(&one) && !two.same_structure(&one));
    let counted = CarriedCounters::default();
    let change = |wanted: &Ruleset, held: &Ruleset, handles: &RuleHandles| {
        let batch = wanted.change_batch(held, handles, &counted, 1, now())?;
        Some(batch.steps().cloned().collect::<Vec<_>>())
    };
    let steps = change(&two, &one, &handles(&one)).unwrap();
    assert_eq!(steps.len(), 20, "in five chains; those of interfaces stay");
    for steps in steps.chunks(4) {
        let chain = |step: &nf_tables::Step| match &step.item {
            Item::Rule { chain, .. } => chain.clone(),
            other => panic!("no rule: {other:?}"),
        };
        let actions: Vec<_> = steps.iter().map(|step| step.action).collect();
        assert_eq!(
            actions,
            [Action::Add, Action::Add, Action::Delete, Action::Delete]
        );
        assert!(steps.iter().all(|step| chain(step) == chain(&steps[0])));
    }
    assert_eq!(change(&two, &one, &RuleHandles::new()), None);
    assert_eq!(change(&two, &one, &handles(&with_ports(&[]))), None);
    // The last port's counter goes with it.
    let steps = change(&with_ports(&[]), &one, &handles(&one)).unwrap();
    let counters = steps.iter().filter(|step| matches!(step.item, Item::Object(_)));
    assert_eq!(counters.count(), 5);
}

#[test]
fn other_chains_and_other_limits_are_no_change_of_rules() {
    let before = rendered(restriction(&[]));
    let limited = Order {
        limit: Some(Limit {
            egress_bytes_per_second: Some(20_000),
            quota_bytes: None,
            quota_period_seconds: None,
        }),
        ..restriction(&[])
    };
    let plan = plan(restriction(&[]), Scope::Pinned);
    for other in [rendered(limited), rendered(isolation(Vec::new()))] {
        assert!(!other.same_frame(&before));
    }
    let bare = render(&plan, &Hooks::default(), CutAction::Cut);
    assert!(bare.same_frame(&before), "tables less");
    assert!(rendered(restriction(&["203.0.113.1/32"])).same_frame(&before));
}

#[test]
fn a_long_list_of_hosts_declares_how_long_it_may_get() {
    let with_hosts = |count: u32| {
        let remotes = (0..count).map(|number| BlockedRemote {
            remote: IpNet::from(IpAddr::from((number + 0x0a00_0000).to_be_bytes())),
            expires: None,
        });
        let mut order = restriction(&[]);
        order.block.remotes = remotes.collect();
        rendered(order)
    };
    let (few, many, more) = (with_hosts(16_384), with_hosts(16_385), with_hosts(16_386));
    assert!(!text_of(&few).contains("size 262143"));
    assert_eq!(
        text_of(&many)
            .matches("    flags timeout\n    size 262143\n")
            .count(),
        3
    );
    assert!(!many.same_structure(&few) && !many.same_frame(&few) && more.same_structure(&many));
    let authorities = 5;
    let most = MAX_OPERATOR_BLOCKS + (authorities - 1) * MAX_BLOCKS;
    assert!(most < elements::LONG_SIZE as usize, "no order is refused for it");
}

#[test]
fn what_ends_by_itself_has_its_time_in_the_kernel() {
    let mut order = restriction(&["203.0.113.1/32"]);
    let mut ending = order.block.remotes[0];
    ending.expires = Some("2026-01-01T01:00:00Z".parse().unwrap());
    let others = order.block.remotes.iter().skip(1).copied();
    order.block.remotes = std::iter::once(ending).chain(others).collect();
    let ruleset = rendered(order);
    assert!(text_of(&ruleset).contains("elements = { 203.0.113.1 timeout 3601s }"));
    let after = "2026-01-01T01:00:00Z".parse().unwrap();
    let rest = ruleset.elements.clone().live(after);
    assert!(rest.hosts.is_empty());
    assert!(
        change(&ruleset, &ruleset).is_empty(),
        "nothing to say while it lasts"
    );
}
