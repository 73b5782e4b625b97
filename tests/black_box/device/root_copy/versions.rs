//! What runs when versions come, go and are rolled back, and what stays when the component goes without its uninstall step.

use super::*;

lab_test!(lite_deploys_over_the_running_version, || {
    let mut stage = shipped(Personality::Lite, &[]);
    isolate(&stage);
    let artifacts = stage.artifact().parent().unwrap().to_owned();
    let recipe = stage.site.directory().join("recipe.yaml");
    stage
        .ask_nucleus(&json!({ "recipe": recipe, "artifacts": artifacts }))
        .unwrap();
    stage.wait_rollout(LIMIT, "deployed").unwrap();
    stage.wait_phase(LIMIT, "enforced").unwrap();
    works(&stage);
    release(&stage);
});

lab_test!(each_version_runs_its_own_copy_also_after_a_rollback, || {
    let mut stage = shipped(Personality::Classic, &[]);
    isolate(&stage);
    let first = stage.copy_of(&stage.artifact()).unwrap();
    let mut before = first.clone();
    for version in ["0.2.0", "0.3.0"] {
        let package = stage.package(version).unwrap();
        let own = stage.copy_of(&package.program).unwrap();
        stage.deploy_package(&package).unwrap();
        stage.wait_rollout(LIMIT, "deployed").unwrap();
        assert_eq!(agent(&stage).1, own, "{version}");
        stage.wait_phase(LIMIT, "enforced").unwrap();
        let mut kept = vec![own.clone(), before];
        kept.sort();
        assert_eq!(copies(), kept, "{version} and the one before");
        before = own;
    }

    // What was published is not what the recipe was written for.
    let package = stage.package("0.4.0").unwrap();
    fs::write(&package.program, evil(&stage)).unwrap();
    stage.deploy_package(&package).unwrap();
    let back = stage.wait_rollout(LIMIT, "rolledBack").unwrap();
    assert_eq!(
        (&back["version"], &back["started"]),
        (&json!("0.3.0"), &json!(true))
    );
    assert_eq!(agent(&stage).1, before, "the former version");
    assert_eq!(copies().len(), 2);
    stage.wait_phase(LIMIT, "enforced").unwrap();
    not_as_root(&stage, "published");

    // Another component of the next deployment fails when this one runs already.
    let package = stage.package("0.5.0").unwrap();
    let own = stage.copy_of(&package.program).unwrap();
    stage.deploy_package(&package).unwrap();
    stage.wait_rollout(LIMIT, "deployed").unwrap();
    assert_eq!(agent(&stage).1, own);
    works(&stage);
    stage.ask_nucleus(&json!({"fail": true})).unwrap();
    stage.wait_rollout(LIMIT, "rolledBack").unwrap();
    assert_eq!(agent(&stage).1, before);
    stage.wait_phase(LIMIT, "enforced").unwrap();
    works(&stage);
    release(&stage);
});

lab_test!(
    the_uninstall_step_works_without_its_artifact_and_leaves_the_history,
    || {
        let mut stage = shipped(Personality::Classic, &[]);
        isolate(&stage);
        release(&stage);
        fs::remove_file(stage.stored_artifact(FIRST)).unwrap();
        stage.ask_nucleus(&json!({"remove": true})).unwrap();
        let removed = stage.wait_rollout(LIMIT, "removed").unwrap();
        assert_eq!(removed["uninstall"], 0, "{removed}: {}", stage.agent_output());
        assert!(!stage.has_table().unwrap());
        assert!(!stage.control_socket().exists());
        assert_eq!(left_in(STATE), ["history"]);
        let verified = done(&stage, &["history", "--verify"]);
        assert!(verified.contains("the history is whole"), "{verified}");
    }
);

lab_test!(a_removal_while_an_order_lives_leaves_device_and_way_out, || {
    let mut stage = shipped(Personality::Classic, &[]);
    isolate(&stage);
    stage.ask_nucleus(&json!({"remove": true})).unwrap();
    let removed = stage.wait_rollout(LIMIT, "removed").unwrap();
    assert_eq!(removed["uninstall"], 1, "{removed}: {}", stage.agent_output());
    assert!(stage.agent_output().contains("orders live (shadow shadow)"));
    assert!(stage.has_table().unwrap(), "a removal opens nothing");
    let output = own(&stage, &["uninstall"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stage.has_table().unwrap());
    let output = own(&stage, &GONE[..4]);
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        told.contains("ended every order: shadow shadow") && told.contains("kept, as evidence"),
        "{told}"
    );
    assert!(!stage.has_table().unwrap());
    assert_eq!(left_in(STATE), ["history"]);
    let history = done(&stage, &["history"]);
    assert!(
        history.contains("operator ended every order (shadow shadow): gone"),
        "{history}"
    );
});

/// Names of what is in a folder.
fn left_in(folder: &str) -> Vec<String> {
    let names = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}

/// The operator's own program, in the gateway.
fn own(stage: &Stage, arguments: &[&str]) -> Output {
    let run = || Command::new(OWN).args(arguments).output().unwrap();
    stage.site.run_in(Ns::Gateway, run).unwrap()
}

/// What removes everything, whatever is ordered.
const GONE: [&str; 5] = ["uninstall", "--release", "--reason", "gone", "--purge"];

/// Nobody of the component is left, and the device is as it was ordered; the operator's program frees it.
fn freed_by_hand(stage: &Stage) {
    assert!(stage.has_table().unwrap(), "isolated with nobody left");
    assert!(
        !stage.stored_artifact(FIRST).exists(),
        "control: the program went with its artifacts"
    );
    let mut powerless = Command::new("setpriv");
    powerless.args(["--bounding-set", "-net_admin", "--inh-caps", "-net_admin", OWN]);
    powerless.args(GONE);
    let failed = stage.site.run_in(Ns::Gateway, || powerless.output().unwrap());
    let failed = failed.unwrap();
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert!(
        stage.has_table().unwrap(),
        "what cannot be undone is not forgotten"
    );
    let output = own(stage, &GONE);
    assert!(output.status.success(), "tried again: {output:?}");
    assert!(!stage.has_table().unwrap());
    assert!(!Path::new(STATE).exists());
}

fn a_first_deployment_rolled_back() {
    let mut stage = shipped(Personality::Classic, &[]);
    isolate(&stage);
    let (pid, _) = agent(&stage);
    let status = own(&stage, &["status", "--json"]);
    assert!(
        status.status.success(),
        "control: it answers while the agent runs: {status:?}"
    );
    stage.ask_nucleus(&json!({"fail": true})).unwrap();
    let back = stage.wait_rollout(LIMIT, "rolledBack").unwrap();
    assert_eq!(back["version"], Value::Null, "{back}");
    assert!(kill(pid, None).is_err(), "control: the agent is gone");
    freed_by_hand(&stage);
}

lab_test!(
    a_first_deployment_that_is_rolled_back_leaves_the_way_out,
    a_first_deployment_rolled_back
);

lab_test!(
    a_first_deployment_that_is_rolled_back_leaves_the_way_out_with_systemd,
    || {
        fs::create_dir_all("/etc/systemd/system").unwrap();
        fs::create_dir_all("/run/systemd/system").unwrap();
        a_first_deployment_rolled_back();
        let units = fs::read_dir("/etc/systemd/system").unwrap();
        let names: Vec<_> = units.map(|entry| entry.unwrap().file_name()).collect();
        assert!(
            names
                .iter()
                .all(|name| !name.to_string_lossy().contains("edgewarden")),
            "{names:?}"
        );
    }
);

lab_test!(a_removal_without_an_uninstall_step_leaves_the_way_out, || {
    for (personality, more) in [
        (Personality::Lite, [].as_slice()),
        (Personality::Classic, &["--no-uninstall-step"]),
    ] {
        let mut stage = shipped(personality, more);
        isolate(&stage);
        stage.ask_nucleus(&json!({"remove": true})).unwrap();
        let removed = stage.wait_rollout(LIMIT, "removed").unwrap();
        assert_eq!(removed["uninstall"], Value::Null, "control: no step was run");
        freed_by_hand(&stage);
    }
});
