//! Installations: the first deployment, one that is rolled back, the usual component user, a proxy.
//!
//! Each has a nucleus of its own, set up in another way.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use edgewarden_lab::site::{BROKER_PORT, INTERNET_V4, Ns};
use serde_json::{Value, json};
use xtask::workspace;

use crate::bed::{COMPONENT, FAILING, PATIENCE, PROXY_PORT, Setup, write_failing};
use crate::error::{Trouble, io};
use crate::ipc;
use crate::own_files::{COMPONENT_GROUP, COMPONENT_UID, COMPONENT_USER};
use crate::processes;
use crate::scene::{Scene, Seen};

/// How long what was left by a rolled-back deployment is watched.
const WATCHED: Duration = Duration::from_secs(10);

/// Nothing is deployed yet.
pub(super) fn empty(setup: &mut Setup) {
    setup.deployed = false;
}

/// From the deployment's end until the agent says that its channel works.
pub(super) fn first_deployment(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    let began = Instant::now();
    let word = scene.bed.deploy_agent()?;
    let deployed = Instant::now();
    scene.wait("the agent's channel", PATIENCE, |bed| bed.channel_works())?;
    Ok(Seen::times([Some(deployed.elapsed())])
        .fault(word != "SUCCEEDED", format!("the deployment {word}"))
        .note(format!(
            "deployed in {} ms",
            deployed.duration_since(began).as_millis()
        )))
}

/// The first deployment fails with another component's and is rolled back, while the shadow says that the device is to be
/// isolated. Then the shadow says otherwise, and the operator, too.
pub(super) fn first_rolled_back(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    scene.bed.desire(&json!({"quarantine": true}))?;
    let both = failing(scene)?;
    let (word, closed) = rolled_back(scene, both)?;
    let rolled_back = word == "FAILED";
    if closed.is_none() {
        return Ok(never_isolated(&word));
    }
    scene.pass(WATCHED)?;
    let left = processes::of_gateway()
        .iter()
        .filter(|process| process.words.join(" ").contains("edgewarden"))
        .count();
    let by_shadow = scene.release()?;
    let began = Instant::now();
    let told = scene.command(&["release", "--override", "--reason", "acceptance"]);
    let by_operator = match by_shadow {
        Some(_) => None,
        None => scene.open_since(began),
    };
    let text = |time: Option<Duration>| {
        time.map_or_else(|| "unheard".to_owned(), |time| format!("{} ms", time.as_millis()))
    };
    let note = format!(
        "{left} processes of ours left; `false` in the shadow: {}; release at the device: {}",
        text(by_shadow),
        if by_shadow.is_some() {
            "not needed".to_owned()
        } else {
            told.map_or_else(|trouble| trouble.to_string(), |_| text(by_operator))
        }
    );
    // Whichever of the two is there has to be obeyed.
    Ok(Seen::times([by_shadow.or(by_operator)])
        .fault(!rolled_back, format!("the deployment {word}"))
        .note(note))
}

/// Deploys until the end; the nucleus' word, and when the way closed meanwhile: the other component is still being tried then.
fn rolled_back(scene: &mut Scene<'_>, request: Value) -> Result<(String, Option<Duration>), Trouble> {
    let root = scene.real()?.root();
    let began = Instant::now();
    let (word, closed) = std::thread::scope(|scope| {
        let deployment = scope.spawn(|| ipc::deploy(&root, request));
        let closed = scene.closed_since(began);
        if closed.is_some() {
            scene.bed.prober().guard();
        }
        let word = deployment
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (word, closed)
    });
    Ok((word?, closed))
}

fn never_isolated(word: &str) -> Seen {
    Seen::default().fault(
        true,
        format!("the device was never isolated; the deployment {word}"),
    )
}

/// The first deployment orders isolation itself, fails with another component's and is rolled back: nobody has taken the order
/// back by that. Then the operator does.
pub(super) fn order_rolled_back(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    let mut both = failing(scene)?;
    both["componentToConfiguration"] = json!({COMPONENT: {"MERGE": {"quarantine": true}}});
    let (word, closed) = rolled_back(scene, both)?;
    if closed.is_none() {
        return Ok(never_isolated(&word));
    }
    scene.pass(WATCHED)?;
    let stays = scene.bed.prober().is_closed();
    scene.bed.prober().unguard();
    let began = Instant::now();
    scene.command(&["release", "--override", "--reason", "acceptance"])?;
    let open = scene.open_since(began);
    Ok(Seen::times([open])
        .fault(word != "FAILED", format!("the deployment {word}"))
        .fault(!stays, "the rollback ended the order"))
}

/// Recipes and artifacts with one more component, which fails; the request that deploys both.
fn failing(scene: &mut Scene<'_>) -> Result<Value, Trouble> {
    let real = scene.real()?;
    let recipes = real.root().with_extension("recipes");
    write_failing(&recipes)?;
    let name = format!("{COMPONENT}-{}.yaml", workspace::version()?);
    let ours = real.artifacts().join("recipes").join(&name);
    workspace::write(&recipes.join(&name), &workspace::read(&ours)?)?;
    Ok(real.request(&json!({
        "recipeDirectoryPath": recipes,
        "rootComponentVersionsToAdd": {FAILING: "1.0.0", COMPONENT: workspace::version()?},
        "failureHandlingPolicy": "ROLLBACK",
    })))
}

/// The usual installation's user.
pub(super) fn component_user(setup: &mut Setup) {
    setup.user = format!("{COMPONENT_USER}:{COMPONENT_GROUP}");
}

/// As the component user, everything is done to the artifact that its owner may do; then the component is started again.
pub(super) fn artifact_replaced(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    let marker = PathBuf::from(format!("/tmp/edgewarden-acceptance-{}", std::process::id()));
    let evil = format!("#!/bin/sh\nid -u >>{}\nexec sleep 30\n", marker.display());
    let root = scene.real()?.root();
    let script = root.with_extension("evil");
    workspace::write(&script, &evil)?;
    std::fs::write(&marker, "").map_err(io("make the marker"))?;
    let artifacts = root
        .join("packages/artifacts")
        .join(COMPONENT)
        .join(workspace::version()?);
    // A file that runs cannot be written to.
    let agent = scene.agent()?;
    ipc::call(&root, "StopComponent", json!({"componentName": COMPONENT}))?;
    scene.wait("the end of the component", PATIENCE, |_| !processes::lives(agent))?;
    let mut tried = 0;
    for file in files(&artifacts)
        .into_iter()
        .chain(files(Path::new("/var/lib/edgewarden")))
    {
        tried += 1;
        as_component_user(&script, &file)?;
    }
    scene.bed.restart_component()?;
    // It may refuse to run what was changed: then nobody runs, and that is right.
    let again = scene.successor(agent).is_ok();
    scene.pass(Duration::from_secs(3))?;
    let ran_as = std::fs::read_to_string(&marker).map_err(io("read the marker"))?;
    std::fs::remove_file(&marker).map_err(io("remove the marker"))?;
    let as_root = ran_as.lines().any(|uid| uid == "0");
    Ok(Seen::default()
        .fault(as_root, "the component user's program ran as root")
        .fault(tried == 0, "no artifact was found")
        .note(if again {
            "the agent runs again".to_owned()
        } else {
            "nothing runs until it is deployed again".to_owned()
        }))
}

/// The regular files below a folder.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .flat_map(|path| match std::fs::symlink_metadata(&path) {
            Ok(data) if data.is_dir() => files(&path),
            Ok(data) if data.is_file() => vec![path],
            _ => Vec::new(),
        })
        .collect()
}

/// Makes it writable, overwrites it, and puts another one in its place.
fn as_component_user(script: &Path, file: &Path) -> Result<(), Trouble> {
    let attack = "chmod u+w \"$2\"; cat \"$1\" >\"$2\"; cp \"$1\" \"$2.new\" && chmod 755 \"$2.new\" && mv -f \"$2.new\" \"$2\"; \
                  chmod u+w \"$(dirname \"$2\")\"; cp \"$1\" \"$2.new\" && chmod 755 \"$2.new\" && mv -f \"$2.new\" \"$2\"; true";
    let mut command = Command::new("sh");
    command.args(["-c", attack, "attack"]).arg(script).arg(file);
    command
        .uid(COMPONENT_UID)
        .gid(COMPONENT_UID)
        .stderr(std::process::Stdio::null());
    command
        .status()
        .map(drop)
        .map_err(io("try as the component user"))
}

/// Everything of the nucleus goes through an HTTP proxy.
pub(super) fn through_proxy(setup: &mut Setup) {
    setup.proxy = true;
    setup.nucleus = json!({"networkProxy": {"proxy": {"url": format!("http://{INTERNET_V4}:{PROXY_PORT}")}}});
}

/// Orders come through the proxy; the endpoint's own address is closed.
pub(super) fn behind_proxy(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    let reachable = |scene: &Scene<'_>| {
        scene
            .bed
            .site()
            .tcp_connects(Ns::Gateway, INTERNET_V4, BROKER_PORT)
    };
    let before = reachable(scene)?;
    let closed = scene.isolate()?;
    scene.pass(Duration::from_secs(3))?;
    let within = reachable(scene)?;
    let open = scene.release()?;
    Ok(Seen::times([Some(closed), open])
        .fault(!before, "the endpoint was not reachable before")
        .fault(
            within,
            "the endpoint's own address is open, though only the proxy is needed",
        ))
}
