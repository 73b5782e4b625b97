//! Rules, and who is spared, on lists of the test's own.

use super::*;

fn process(pid: u32, parent: u32, exe: &str) -> Candidate {
    let name = exe.rsplit('/').next().unwrap_or_default().to_owned();
    let exe = (!exe.is_empty()).then(|| exe.to_owned());
    Candidate::plain(Process {
        identity: ProcessId { pid, start_ticks: 7 },
        parent,
        name,
        exe,
        cgroup: Some("/user.slice".into()),
        workload: None,
    })
}

fn rule(exe: &str, action: ProcessAction) -> ProcessRule {
    ProcessRule {
        matches: ProcessMatch {
            exe: Some(exe.to_owned()),
            name: None,
        },
        action,
    }
}

#[test]
fn a_rule_selects_by_pattern_and_the_stronger_action_wins() {
    let list = [process(10, 1, "/opt/x/rogue"), process(11, 1, "/usr/bin/ok")];
    let rules = [
        rule("/opt/*", ProcessAction::Freeze),
        rule("*/rogue", ProcessAction::Kill),
    ];
    let selection = select(&list, &rules, &ProtectedProcesses::default(), NamedBefore::new());
    assert_eq!(selection.act, [(list[0].process.clone(), ProcessAction::Kill)]);
}

#[test]
fn only_the_systems_own_units_are_the_nucleus() {
    assert!(is_nucleus_service("/system.slice/ggl.core.iotcored.service"));
    for cgroup in [
        "/user.slice/user-1000.slice/user@1000.service/app.slice/ggl.core.evil.service",
        "/user.slice/user-1000.slice/user@1000.service/system.slice/ggl.core.evil.service",
        "/system.slice/ggl.com.example.Rogue.service",
        "/system.slice/ggl.core.x.service/child.service",
        "/system.slice/ggl.core.Rogue.service",
        "/system.slice/ggl.core.iotcored.x.service",
        "/system.slice/greengrass.service",
    ] {
        assert!(!is_nucleus_service(cgroup), "{cgroup}");
    }
}

#[test]
fn a_component_called_core_is_no_service_of_the_nucleus() {
    let service = "/system.slice/ggl.core.laterd.service";
    assert_eq!(unknown_service(service), Some("laterd"));
    assert_eq!(unknown_service("/system.slice/ggl.core.ggipcd.service"), None);
    assert_eq!(
        unknown_service("/system.slice/ggl.com.example.core.x.service"),
        None
    );
    let in_service = |is_newer_service| {
        let mut candidate = process(40, 1, "/usr/bin/laterd");
        candidate.process.cgroup = Some(service.into());
        Candidate {
            is_newer_service,
            ..candidate
        }
    };
    let all = [rule("/usr/bin/*", ProcessAction::Kill)];
    let acted = |is_newer| {
        let list = [in_service(is_newer)];
        let selection = select(&list, &all, &ProtectedProcesses::default(), NamedBefore::new());
        selection.act.len()
    };
    assert_eq!((acted(true), acted(false)), (0, 1));
}

#[test]
fn a_rule_for_everything_still_spares_what_must_live() {
    let mut list = vec![
        process(1, 0, "/sbin/init"),
        process(2, 0, ""),
        process(20, 1, "/gg/nucleus"),
        process(21, 20, "/bin/sh"),
        process(22, 21, "/gg/edgewarden"),
        process(30, 1, "/usr/sbin/sshd"),
        process(40, 1, "/opt/rogue"),
    ];
    let mut service = process(50, 1, "/gg/iotcored");
    service.process.cgroup = Some("/system.slice/ggl.core.iotcored.service".into());
    list.push(service);
    let protected = ProtectedProcesses {
        own: 22,
        nucleus: None,
        executables: vec!["/usr/sbin/ssh*".into()],
        ..ProtectedProcesses::default()
    };
    let all = ProcessRule {
        matches: ProcessMatch {
            exe: None,
            name: Some("*".into()),
        },
        action: ProcessAction::Kill,
    };
    let selection = select(&list, &[all], &protected, NamedBefore::new());
    let acted: Vec<u32> = selection
        .act
        .iter()
        .map(|(process, _)| process.identity.pid)
        .collect();
    assert_eq!(acted, [40]);
    assert_eq!(selection.spared.len(), 7);
}

#[test]
fn a_program_that_got_the_nucleus_number_is_not_protected() {
    let list = [
        process(20, 19, "/gg/nucleus"),
        process(19, 1, "/gg/loader"),
        process(22, 1, "/gg/edgewarden"),
    ];
    let all = [rule("/gg/*", ProcessAction::Kill)];
    let acted = |start_ticks| {
        let protected = ProtectedProcesses {
            own: 22,
            nucleus: Some(ProcessId { pid: 20, start_ticks }),
            executables: Vec::new(),
            ..ProtectedProcesses::default()
        };
        let acted = select(&list, &all, &protected, NamedBefore::new())
            .act
            .into_iter();
        acted.map(|(process, _)| process.identity.pid).collect::<Vec<_>>()
    };
    assert_eq!(acted(7), [0; 0], "control: it is the nucleus, and its ancestor");
    assert_eq!(acted(6), [20, 19]);
}

#[test]
fn a_path_protects_only_where_the_system_itself_has_that_file() {
    let protected = ProtectedProcesses {
        own: 22,
        nucleus: None,
        executables: vec!["/usr/lib/systemd/*".into()],
        ..ProtectedProcesses::default()
    };
    let genuine = process(30, 1, "/usr/lib/systemd/systemd-logind");
    let mounted = Candidate {
        at_home: false,
        ..process(31, 1, "/usr/lib/systemd/systemd-rogue")
    };
    let all = [rule("/usr/*", ProcessAction::Kill)];
    let selection = select(
        &[genuine.clone(), mounted.clone()],
        &all,
        &protected,
        NamedBefore::new(),
    );
    assert_eq!(selection.act, [(mounted.process, ProcessAction::Kill)]);
    assert_eq!(selection.spared[0].0, genuine.process);
}

#[test]
fn a_program_is_meant_by_its_aliases_and_rules_for_nobody_are_told() {
    let linked = Candidate {
        aliases: vec!["/bin/rogue".into()],
        ..process(30, 1, "/usr/bin/rogue")
    };
    let rules = [
        rule("/bin/rogue", ProcessAction::Freeze),
        rule("/opt/none", ProcessAction::Kill),
    ];
    let selection = select(
        std::slice::from_ref(&linked),
        &rules,
        &ProtectedProcesses::default(),
        NamedBefore::new(),
    );
    assert_eq!(selection.act, [(linked.process, ProcessAction::Freeze)]);
    assert_eq!(selection.idle, [rules[1].clone()]);
}

fn named(name: &str, action: ProcessAction) -> ProcessRule {
    ProcessRule {
        matches: ProcessMatch {
            exe: None,
            name: Some(name.to_owned()),
        },
        action,
    }
}

#[test]
fn whoever_was_named_stays_so_while_the_rule_holds() {
    let rules = [
        rule("/opt/rogue", ProcessAction::Freeze),
        named("other", ProcessAction::Kill),
    ];
    let protected = ProtectedProcesses {
        own: 22,
        ..ProtectedProcesses::default()
    };
    let rogue = process(30, 1, "/opt/rogue");
    let first = select(
        std::slice::from_ref(&rogue),
        &rules,
        &protected,
        NamedBefore::new(),
    );
    let before = first.named_by;
    let id = rogue.process.identity;
    assert_eq!(before[&id], [rules[0].matches.sum()].into());

    let mut moved = process(30, 1, "/opt/innocent");
    moved.process.name = "kworker".into();
    let act = |list: &[Candidate], rules: &[ProcessRule], before: &NamedBefore| {
        select(list, rules, &protected, before.clone())
    };
    let list = std::slice::from_ref(&moved);
    assert_eq!(
        act(list, &rules, &NamedBefore::new()).act,
        [],
        "control: nobody named it"
    );
    let again = act(list, &rules, &before);
    assert_eq!(again.act, [(moved.process.clone(), ProcessAction::Freeze)]);
    assert_eq!((&again.named_by, again.idle), (&before, vec![rules[1].clone()]));
    // What the rule says now counts.
    let kills = [rule("/opt/rogue", ProcessAction::Kill)];
    assert_eq!(act(list, &kills, &before).act[0].1, ProcessAction::Kill);
    assert_eq!(act(list, &rules[1..], &before).act, [], "the rule has ended");
    // One that cannot be read is not let go.
    assert_eq!(act(&[], &rules, &before).unseen, [(id, ProcessAction::Freeze)]);
    assert_eq!(act(&[], &rules[1..], &before).unseen, []);
    // Its number is another's.
    moved.process.identity.start_ticks += 1;
    assert_eq!(act(&[moved], &rules, &before).act, []);
    // Who must live is let go all the same.
    let ours = Candidate {
        is_ours: true,
        ..rogue
    };
    assert_eq!(act(&[ours], &rules, &before).spared.len(), 1);
}

#[test]
fn who_shows_no_program_is_judged_by_name_or_told() {
    let hidden = |may_be_protected| Candidate {
        nature: Nature::Hidden { may_be_protected },
        ..process(30, 1, "")
    };
    let verdict = |candidate: &Candidate, rule: ProcessRule| {
        let candidates = std::slice::from_ref(candidate);
        let selector = Selector::new(
            candidates,
            &[rule],
            &ProtectedProcesses::default(),
            NamedBefore::new(),
        );
        selector.judge(candidate)
    };
    let (freeze, acts) = (ProcessAction::Freeze, Some(Verdict::Act(ProcessAction::Freeze)));
    let mut deep = hidden(false);
    deep.process.name = "rogue".into();
    assert_eq!(verdict(&deep, named("rogue", freeze)), acts);
    assert_eq!(verdict(&deep, named("other", freeze)), None);
    assert_eq!(verdict(&deep, rule("*/rogue", freeze)), Some(Verdict::Unknown));
    deep.aliases.push("/opt/rogue".into());
    assert_eq!(verdict(&deep, rule("*/rogue", freeze)), acts, "the file is known");
    let mut unseen = hidden(true);
    unseen.process.name = "rogue".into();
    assert_eq!(verdict(&unseen, named("rogue", freeze)), Some(Verdict::Unknown));
    let mut first = hidden(true);
    first.process.identity.pid = 1;
    assert_eq!(
        verdict(&first, rule("*/rogue", freeze)),
        None,
        "nobody would stop it"
    );
    let mut ended = process(30, 1, "");
    ended.nature = Nature::Ended;
    assert_eq!(
        verdict(&ended, named("*", freeze)),
        Some(Verdict::Spare("it has ended"))
    );
    let all = [named("*", freeze)];
    let selection = select(&[ended], &all, &ProtectedProcesses::default(), NamedBefore::new());
    assert_eq!(
        (selection.spared, selection.act),
        (vec![], vec![]),
        "it is nobody"
    );
}

#[test]
fn what_an_ordinary_user_puts_on_is_told_and_protects_not() {
    let protected = ProtectedProcesses {
        own: 22,
        nucleus: None,
        executables: vec!["/usr/sbin/sshd".into()],
        ..ProtectedProcesses::default()
    };
    let genuine = process(30, 1, "/usr/sbin/sshd");
    let worn = Candidate {
        at_home: false,
        is_worn: true,
        ..process(31, 1, "/usr/sbin/sshd")
    };
    let all = [rule("/usr/*", ProcessAction::Kill)];
    let selection = select(&[genuine, worn.clone()], &all, &protected, NamedBefore::new());
    assert_eq!(selection.act, [(worn.process.clone(), ProcessAction::Kill)]);
    assert_eq!((selection.worn, selection.spared.len()), (vec![worn.process], 1));
}

#[test]
fn what_the_nucleus_was_is_spared_while_none_runs_and_nobody_else_is() {
    let trace = NucleusTrace {
        exe: "/usr/bin/java".into(),
        cgroup: Some("/user.slice".into()),
        user: 0,
    };
    let like = |pid, exe: &str, user| Candidate {
        user,
        ..process(pid, 1, exe)
    };
    let mut elsewhere = like(13, "/usr/bin/java", Some(0));
    elsewhere.process.cgroup = Some("/docker/x".into());
    let mut list = vec![
        like(10, "/usr/bin/java", Some(0)),
        like(11, "/usr/bin/java", Some(1_000)),
        like(12, "/opt/java", Some(0)),
        elsewhere,
        like(14, "/usr/bin/java", None),
    ];
    let rules = [rule("*/java", ProcessAction::Kill)];
    let nucleus = ProcessId {
        pid: 20,
        start_ticks: 7,
    };
    let protected = ProtectedProcesses {
        nucleus: Some(nucleus),
        traces: vec![trace],
        ..ProtectedProcesses::default()
    };
    let acted = |list: &[Candidate]| {
        let selection = select(list, &rules, &protected, NamedBefore::new());
        let acted = selection.act.iter();
        acted
            .map(|(process, _)| process.identity.pid)
            .collect::<Vec<u32>>()
    };
    assert_eq!(acted(&list), [11, 12, 13, 14]);
    list.push(process(20, 1, "/gg/nucleus"));
    assert_eq!(acted(&list), [10, 11, 12, 13, 14], "it runs itself");
}
