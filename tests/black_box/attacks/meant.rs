//! Whom an order of processes means, and whom it must not touch: programs under names of others, through links, in mount
//! namespaces of their own.
//!
//! Each test shows first that an order stops whoever is named plainly.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{Ns, Running, SpawnSpec, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions, copy_program};
use serde_json::{Value, json};

use super::processes::order_rules;
use crate::common::agent::joined;
use crate::common::programs::{run, sender, state_of, wait_state};
use crate::common::{LIMIT, done, options, ready};

/// What a program of the lab does that sends for ever.
const SENDS: [&str; 4] = ["sensor", "--remote", "198.51.100.1:9000", "--udp"];

/// The cloud isolates the device and stops these.
fn freeze(stage: &Stage, matches: &[Value]) {
    let rules: Vec<_> = matches
        .iter()
        .map(|matches| (matches.clone(), "freeze"))
        .collect();
    order_rules(stage, &rules);
}

fn runs(running: &Running) -> bool {
    state_of(running.pid()).is_some_and(|state| state != 'T')
}

lab_test!(a_path_of_its_own_mounts_protects_no_program, || {
    let stage = ready(StageOptions {
        configuration: json!({
            "development": {"reportIntervalSeconds": 2},
            "isolation": {"protected": ["/usr/bin/*"]},
        }),
        ..options()
    });
    let folder = stage.site.directory();
    let log = folder.join("programs.log");
    // Named by another name, so that an order can mean it.
    let link = folder.join("zqgenuine");
    symlink("/usr/bin/sleep", &link).unwrap();
    let genuine = stage.site.spawn(Ns::Gateway, &link, &["600"], &[], &log).unwrap();
    wait_state(&genuine, "S");
    let own = folder.join("own/zqrogue");
    copy_program(&edgewarden_lab::site::lab_program().unwrap(), &own).unwrap();
    let mut spec = SpawnSpec::new("unshare", &log);
    let script = "mount --bind \"$0\" /usr/bin && exec /usr/bin/zqrogue \"$@\"";
    let words = ["--mount", "--propagation", "private", "sh", "-c", script];
    spec.args = words.iter().map(Into::into).collect();
    spec.args.push(folder.join("own").into());
    spec.args.extend(SENDS.iter().map(Into::into));
    let rogue = stage.site.spawn_with(Ns::Gateway, spec).unwrap();
    let exe = || std::fs::read_link(format!("/proc/{}/exe", rogue.pid())).unwrap_or_default();
    wait_until(LIMIT, "control: it has that path", || {
        exe() == Path::new("/usr/bin/zqrogue")
    })
    .unwrap();
    freeze(&stage, &[json!({"exe": "/usr/bin/*", "name": "zq*"})]);
    wait_state(&rogue, "T");
    let status = stage.status();
    assert!(
        joined(&status["enforcement"]["spared"]).contains("zqgenuine"),
        "{status}"
    );
    assert!(runs(&genuine), "what the system has at that path is spared");
});

lab_test!(a_program_is_stopped_by_what_people_call_it, || {
    let stage = ready(options());
    let at = |path: &str| stage.site.directory().canonicalize().unwrap().join(path);
    symlink("opt", at("link")).unwrap();
    let plain = sender(&stage, "zq-plain");
    let long = sender(&stage, "zq-telemetry-uploader");
    let linked = sender(&stage, "zq-linked");
    let deleted = sender(&stage, "zq-evil (deleted)");
    let bystander = sender(&stage, "zq-telemetry-updater");
    freeze(
        &stage,
        &[
            json!({"exe": at("opt/zq-plain")}),
            json!({"name": "zq-telemetry-uploader"}),
            json!({"exe": at("link/zq-lin*")}),
            json!({"exe": at("opt/zq-evil (deleted)")}),
            json!({"exe": at("opt/zq-evil-twin")}),
        ],
    );
    for (what, running) in [
        ("control", &plain),
        ("long", &long),
        ("linked", &linked),
        ("deleted", &deleted),
    ] {
        println!("{what}");
        wait_state(running, "T");
    }
    assert!(runs(&bystander), "its name begins alike");
    let idle =
        |s: &Value| joined(&s["enforcement"]["idleRules"]).contains("zq-evil-twin has matched no process");
    let status = stage
        .wait_status(LIMIT, "a rule for nobody is told", idle)
        .unwrap();
    assert_eq!(
        status["enforcement"]["idleRules"].as_array().unwrap().len(),
        1,
        "{status}"
    );
    let page = done(&stage, &["status"]);
    assert!(
        page.contains("idle rule") && page.contains("zq-evil-twin"),
        "{page}"
    );
});

lab_test!(a_rule_that_can_never_match_is_refused_with_the_reason, || {
    let stage = ready(options());
    let file = stage.site.directory().join("order.json");
    let order = |matches: Value| {
        let rule = json!({"match": matches, "action": "freeze"});
        let order = json!({"posture": "isolate", "reason": "r", "processes": [rule]});
        std::fs::write(&file, order.to_string()).unwrap();
        stage
            .edgewarden(&["quarantine", "--order", file.to_str().unwrap()])
            .unwrap()
    };
    for matches in [
        json!({"exe": "zq-rogue"}),
        json!({"exe": "/opt/../zq-rogue"}),
        json!({"exe": "/opt/zq-rogue/"}),
        json!({"exe": format!("/opt/{}/zq-rogue", "z".repeat(256))}),
        json!({"name": "/opt/zq-rogue"}),
        json!({"name": "zq".repeat(200)}),
    ] {
        let (code, _, errors) = order(matches.clone());
        assert!(
            code != Some(0) && errors.contains("match."),
            "{matches}: {errors}"
        );
        assert_eq!(stage.status()["enforcement"]["orders"], json!([]), "{matches}");
    }
    let (code, _, errors) = order(json!({"exe": "/opt/zq-rogue"}));
    assert_eq!(code, Some(0), "control: {errors}");
});

lab_test!(the_cloud_reads_that_whom_its_order_names_is_spared, || {
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let genuine = folder.path().canonicalize().unwrap().join("zq-sheltered");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    copy_program(Path::new("/bin/sleep"), &genuine).unwrap();
    let stage = ready(StageOptions {
        configuration: json!({
            "development": {"reportIntervalSeconds": 2},
            "isolation": {"protected": [genuine]},
        }),
        ..options()
    });
    let told = |spared: &Value| {
        let is_told = |shadow: &Value| {
            let reported = &shadow["state"]["reported"];
            reported["quarantine"]["id"] == "f" && reported["quarantineStatus"]["spared"] == *spared
        };
        stage.wait_shadow(LIMIT, "what the cloud reads", is_told).unwrap();
    };
    let rule = [(json!({"name": "zq-sheltered"}), "kill")];
    order_rules(&stage, &rule);
    told(&Value::Null);
    let roots = run(&stage, &genuine, &["600"]);
    told(&json!({"count": 1, "first": "zq-sheltered"}));
    assert!(state_of(roots.pid()) == Some('S'), "it goes on");
    drop(roots);
    told(&Value::Null);
});

lab_test!(a_service_of_the_nucleus_in_a_named_hierarchy_is_spared, || {
    let stage = ready(options());
    let place = stage.site.directory().join("hierarchy");
    std::fs::create_dir(&place).unwrap();
    let name = format!("none,name=ew{}", std::process::id());
    let mount = std::process::Command::new("mount")
        .args(["-t", "cgroup", "-o", &name, "cgroup"])
        .arg(&place)
        .status()
        .unwrap();
    if !mount.success() {
        println!("SKIPPED: this kernel has no cgroup v1");
        return;
    }
    let (service, rogue) = (sender(&stage, "zq-service"), sender(&stage, "zq-rogue"));
    // Of a later nucleus, and of a component of such a name.
    let groups = ["zq-service", "zq-component"]
        .map(|name| place.join(format!("system.slice/ggl.core.{name}.service")));
    for (group, running) in groups.iter().zip([&service, &rogue]) {
        std::fs::create_dir_all(group).unwrap();
        std::fs::write(group.join("cgroup.procs"), running.pid().to_string()).unwrap();
    }
    freeze(
        &stage,
        &[
            json!({"exe": "*/opt/zq-service"}),
            json!({"exe": "*/opt/zq-rogue"}),
        ],
    );
    let component = wait_until(LIMIT, "it is frozen", || state_of(rogue.pid()) == Some('T'));
    let status = stage.status();
    let stopped = joined(&status["enforcement"]["stopped"]);
    let (mut service, mut rogue) = (service, rogue);
    let ran = runs(&service);
    // The hierarchy goes with the last of its processes.
    service.kill9().unwrap();
    rogue.kill9().unwrap();
    drop((service, rogue));
    wait_until(LIMIT, "the hierarchy is gone", || {
        groups
            .iter()
            .all(|group| std::fs::remove_dir(group).is_ok() || !group.exists())
    })
    .unwrap();
    std::fs::remove_dir(place.join("system.slice")).unwrap();
    nix::mount::umount(&place).unwrap();
    component.unwrap();
    assert!(ran && !stopped.contains("zq-service"), "{status}");
});
