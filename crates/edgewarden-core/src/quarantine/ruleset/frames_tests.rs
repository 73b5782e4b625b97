//! What is said of frames: it stays when interfaces come and go, and tells sockets of ours.

use super::*;
use crate::quarantine::lifelines::nucleus_users::NucleusUsers;
use crate::quarantine::lifelines::ways::{Bearer, InterfaceName};

#[test]
fn interfaces_that_come_and_go_leave_every_rule_as_it_is() {
    let plan = plan(isolation(Vec::new()), Scope::Pinned);
    let with = |names: &[&str]| {
        let egress = names.iter().map(|name| EgressDevice {
            name: (*name).to_owned(),
            index: 7,
        });
        let hooks = Hooks {
            egress: egress.collect(),
            ..all_hooks()
        };
        render(&plan, &hooks, CutAction::Cut)
    };
    let (one, two) = (with(&["wan0"]), with(&["wan0", "veth7"]));
    let counted = CarriedCounters::default();
    for (wanted, held) in [(&two, &one), (&one, &two)] {
        assert!(wanted.same_frame(held) && !wanted.same_structure(held));
        assert!(wanted.keeps_lifelines_of(held));
        let batch = wanted.change_batch(held, &handles(held), &counted, 1, now());
        let batch = batch.unwrap();
        let steps: Vec<_> = batch.steps().map(|step| (step.action, &step.item)).collect();
        let [
            (Action::Delete, Item::Chain(gone)),
            (Action::Add, Item::Chain(new)),
            (Action::Add, Item::Rule { chain, .. }),
        ] = steps.as_slice()
        else {
            panic!("{steps:?}");
        };
        assert!([gone, new, chain].into_iter().all(|name| name == "egress"));
    }
    let bridged = Hooks {
        bridge: false,
        ..all_hooks()
    };
    let bridged = render(&plan, &bridged, CutAction::Cut);
    let batch =
        rendered(isolation(Vec::new())).change_batch(&bridged, &handles(&bridged), &counted, 1, now());
    let batch = batch.unwrap();
    assert!(
        batch.steps().all(|step| step.table == own_table(Layer::Bridge)),
        "a bridge more"
    );
}

#[test]
fn lifelines_that_are_taken_away_are_not_kept() {
    let before = rendered(isolation(Vec::new()));
    let mut fewer = before.clone();
    fewer.elements.endpoints.pop();
    assert!(before.keeps_lifelines_of(&fewer) && before.keeps_lifelines_of(&before));
    assert!(!fewer.keeps_lifelines_of(&before));
    let nothing = Ruleset {
        tables: Vec::new(),
        ..before.clone()
    };
    assert!(
        !before.keeps_lifelines_of(&nothing),
        "what was free proves nothing"
    );
}

#[test]
fn what_no_socket_has_sent_is_bounded_where_it_is_told() {
    let isolated = plan(isolation(Vec::new()), Scope::Pinned);
    let frames = |hooks: Hooks, effect| {
        let ruleset = render(&isolated, &hooks, effect);
        let netdev = ruleset
            .tables
            .into_iter()
            .find(|table| table.layer == Layer::Netdev)
            .unwrap();
        netdev.chains[0].rules.clone()
    };
    let unbounded = |rules: &[Rule]| {
        let plain = |rule: &&Rule| rule.what() == "endpoint4" && rule.verdict() == Some("accept");
        rules.iter().filter(plain).count()
    };
    let rules = frames(all_hooks(), CutAction::Cut);
    let of = |what: &str| rules.iter().filter(|rule| rule.what() == what).count();
    assert_eq!(
        (unbounded(&rules), of("sent-endpoint4"), of("closing-endpoint4")),
        (0, 1, 1)
    );
    assert_eq!((of("unsent-endpoint4"), of("copied-endpoint4")), (2, 0));
    let ports = Hooks {
        members: vec![InterfaceName::new("eth0").unwrap()],
        ..all_hooks()
    };
    let rules = frames(ports, CutAction::Cut);
    assert_eq!(
        rules
            .iter()
            .filter(|rule| rule.what() == "copied-endpoint4")
            .count(),
        1
    );
    let unrouted = Hooks {
        unrouted: true,
        ..all_hooks()
    };
    assert_eq!(
        unbounded(&frames(unrouted, CutAction::Cut)),
        1,
        "where nothing tells it"
    );
    assert_eq!(unbounded(&frames(all_hooks(), CutAction::Count)), 1);
}

#[test]
fn a_nucleus_that_runs_as_somebodys_account_is_not_taken_for_another_interfaces() {
    let mac = [2, 0, 0, 0, 0, 1];
    let interface = InterfaceName::new("wan0").unwrap();
    let hooks = Hooks {
        senders: [mac].into(),
        hardware: [Bearer {
            interface,
            hardware: mac,
        }]
        .into(),
        ..all_hooks()
    };
    let said = |users: &[u32]| {
        let mut plan = plan(isolation(Vec::new()), Scope::Pinned);
        plan.nucleus_users = NucleusUsers::of(users.iter().copied());
        let ruleset = render(&plan, &hooks, CutAction::Cut);
        let mut rules = ruleset
            .tables
            .into_iter()
            .flat_map(|table| table.chains)
            .flat_map(|chain| chain.rules);
        let is_it = |rule: &Rule| rule.what() == "sent-as-others" && rule.statement.contains("!= @hardware");
        rules.find(is_it).unwrap().statement
    };
    assert!(!said(&[]).contains("skuid != "), "control");
    assert!(said(&[1_001]).contains("meta skuid != 1001"));
}
