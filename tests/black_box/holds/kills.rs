//! `kill -9` at random points of receiving, loading, proving, confirming and releasing.
//!
//! In: a number of kills. Invariants looked at in every round: right after the kill the kernel holds all of what was
//! before or all of what was ordered, and the next start brings what was ordered. What the kernel was seen to hold was
//! on disk before.

use std::time::{Duration, Instant};

use edgewarden_lab::site::Ns;
use edgewarden_lab::stage::Stage;
use serde_json::{Value, json};

use super::picture::{Picture, picture, picture_of};
use crate::common::{LIMIT, authorities, isolate, options, random, ready};

/// From giving an order to the kill, at most; all of it is done well before.
const MAX_DELAY_MS: u64 = 60;

/// Where a kill's delay begins.
#[derive(Clone, Copy, Debug)]
enum From {
    /// The order was given to a running agent.
    Order,
    /// The agent was started again, with an order waiting.
    Start,
    /// The kernel has the order's rules: what follows is proof and confirmation.
    Rules,
}

fn kill(stage: &mut Stage) {
    stage.agent.as_mut().unwrap().kill9().unwrap();
}

/// Every second one is short: a fast machine has the rules loaded within some milliseconds.
fn delay(random: &mut fastrand::Rng) {
    let most = if random.bool() {
        MAX_DELAY_MS / 10
    } else {
        MAX_DELAY_MS
    };
    std::thread::sleep(Duration::from_micros(random.u64(0..most * 1000)));
}

/// Until the kernel holds something else, looked at as often as can be.
fn wait_change(stage: &Stage, before: &Picture) {
    let begin = Instant::now();
    while picture(stage) == *before && begin.elapsed() < LIMIT {}
}

/// Gives the shadow's order and kills the agent somewhere on its way.
fn order_and_kill(stage: &mut Stage, order: &Value, before: &Picture, random: &mut fastrand::Rng) -> From {
    let from = random
        .choice([From::Order, From::Order, From::Start, From::Rules])
        .unwrap();
    if matches!(from, From::Start) {
        kill(stage);
    }
    stage.desire(&json!({ "quarantine": order })).unwrap();
    match from {
        From::Order => {}
        From::Start => stage.start_agent().unwrap(),
        From::Rules => wait_change(stage, before),
    }
    delay(random);
    kill(stage);
    from
}

/// Waits until a started agent has done with the order `id` of the shadow, or with its end.
fn wait_done(stage: &Stage, id: Option<&str>) {
    let done = |s: &Value| {
        let enforcement = &s["enforcement"];
        let orders = enforcement["orders"].as_array().cloned().unwrap_or_default();
        match id {
            Some(id) => enforcement["phase"] == "enforced" && orders.len() == 1 && orders[0]["id"] == id,
            None => enforcement["phase"] == "released" && orders.is_empty(),
        }
    };
    stage
        .wait_status(LIMIT, &format!("{id:?} carried out"), done)
        .unwrap();
}

/// One round: the order of the shadow, the kill, the start, and what must be true at each.
fn round(
    stage: &mut Stage,
    number: u64,
    order: &Value,
    id: Option<&str>,
    before: &Picture,
    random: &mut fastrand::Rng,
) -> Picture {
    let from = order_and_kill(stage, order, before, random);
    let dead = picture(stage);
    stage.start_agent().unwrap();
    wait_done(stage, id);
    let after = picture(stage);
    assert_eq!(after.is_some(), id.is_some(), "round {number}: {order}");
    assert!(
        dead == *before || dead == after,
        "round {number}, {from:?}, {order}: neither what was nor what is ordered, but {dead:?}\nbefore: {before:?}\nafter: {after:?}"
    );
    let hit = if dead == *before { "before" } else { "after" };
    println!("round {number}: {order}, delay from {from:?}, killed {hit} the load");
    after
}

/// What rounds must have hit for the test to mean something.
fn assert_both_sides(changed: u64, rounds: u64) {
    println!("{changed} of {rounds} kills came after the kernel had changed");
    assert!(
        changed > rounds / 20 && changed < rounds - rounds / 20,
        "control: kills hit before and after the load: {changed} of {rounds}"
    );
}

/// As it is a moment later: the kernel gives chains their rules first, whose last one drops everything, and then, one after the other
/// while it commits, a policy that drops (`nft_chain_commit_drop_policy`). The one behind all translations never has such.
fn settled(picture: &Picture) -> Picture {
    let settle = |line: &str| match line.contains(r#""name":"leaving""#) {
        true => line.to_owned(),
        false => line.replace(r#""policy":"accept""#, r#""policy":"drop""#),
    };
    let lines: Vec<String> = picture.as_ref()?.lines().map(settle).collect();
    Some(lines.join("\n"))
}

/// Isolation, release, and again, with a witness that looks at the kernel all the time.
pub(crate) fn shadow_isolates_and_releases(rounds: u64) {
    let mut random = random();
    let mut stage = ready(options());
    let watch = "while :; do nft -j list ruleset; sleep 0.02; done";
    let log = stage.site.directory().join("watch.log");
    let site = &stage.site;
    let watcher = site
        .spawn(Ns::Gateway, "/bin/sh", &["-c", watch], &[], log)
        .unwrap();
    let (mut before, mut proven, mut changed) = (picture(&stage), vec![None], 0);
    for number in 0..rounds {
        let (order, id) = match number % 2 {
            0 => (json!(true), Some("shadow")),
            _ => (json!(false), None),
        };
        let was = before.clone();
        before = round(&mut stage, number, &order, id, &was, &mut random);
        proven.push(before.clone());
        let reported = |shadow: &Value| shadow["state"]["reported"]["quarantine"] == order;
        stage.wait_shadow(LIMIT, "reported", reported).unwrap();
        changed += u64::from(before != was);
    }
    assert_eq!(changed, rounds, "control: every order changed the kernel");
    let mut seen = [0, 0];
    for event in watcher.events() {
        // A table without chains: see `picture_of`.
        let Ok(seen_picture) = picture_of(&event) else {
            continue;
        };
        assert!(
            proven.contains(&seen_picture) || proven.contains(&settled(&seen_picture)),
            "the witness saw half an order: {seen_picture:?}\nknown: {proven:?}"
        );
        seen[usize::from(seen_picture.is_some())] += 1;
    }
    println!(
        "the witness saw the device {} times open and {} times closed",
        seen[0], seen[1]
    );
    assert!(seen.iter().all(|count| *count > 50), "control: {seen:?}");
    assert!(!stage.state_directory().join("journal.damaged").exists());
}

/// Isolations and restrictions one after the other: there is no moment without any.
pub(crate) fn orders_replace_each_other(rounds: u64) {
    let mut random = random();
    let mut stage = ready(options());
    isolate(&stage);
    let mut before = picture(&stage);
    let mut hits = 0;
    for number in 0..rounds {
        let id = format!("order-{number}");
        // `null` takes back what the order before said: the shadow merges.
        let mut order = json!({"id": id, "posture": "isolate", "block": null, "allow": null});
        let port = 1024 + number;
        if random.bool() {
            order["posture"] = json!("restrict");
            order["block"] =
                json!({"ports": [{"protocol": "tcp", "port": port}], "remotes": ["203.0.113.0/24"]});
        } else {
            let allowance =
                json!({"remote": "203.0.113.1/32", "protocol": "tcp", "ports": [port], "direction": "out"});
            order["allow"] = json!([allowance]);
        }
        let from = order_and_kill(&mut stage, &order, &before, &mut random);
        let dead = picture(&stage);
        stage.start_agent().unwrap();
        wait_done(&stage, Some(&id));
        let after = picture(&stage);
        assert_ne!(after, before, "control: the order is another");
        assert!(
            dead == before || dead == after,
            "round {number}, {from:?}, {order}: {dead:?}\nbefore: {before:?}\nafter: {after:?}"
        );
        hits += u64::from(dead == after);
        before = after;
    }
    assert_both_sides(hits, rounds);
}

/// One command of the operator with a kill on its way; gives whether the command line was told that it was done.
fn command_and_kill(stage: &mut Stage, args: &[&str], before: &Picture, random: &mut fastrand::Rng) -> bool {
    let mut agent = stage.agent.take().unwrap();
    let told = std::thread::scope(|scope| {
        let command = scope.spawn(|| stage.edgewarden(args).unwrap());
        if random.u8(0..6) == 0 {
            wait_change(stage, before);
        }
        delay(random);
        agent.kill9().unwrap();
        command.join().unwrap().0 == Some(0)
    });
    stage.agent = Some(agent);
    told
}

/// The phases that last: the agent has done what it can.
fn wait_settled(stage: &Stage) -> Value {
    let settled = |s: &Value| {
        let phase = &s["enforcement"]["phase"];
        s["cloud"]["channelWorks"] == true && (phase == "enforced" || phase == "released")
    };
    stage.wait_status(LIMIT, "settled", settled).unwrap()
}

/// Nobody repeats what the operator says: what was told as done, or seen in the kernel, must be on disk.
pub(crate) fn operator_commands(rounds: u64) {
    let mut random = random();
    let mut stage = ready(options());
    let (mut done, mut number) = (0, 0);
    while number < rounds {
        let quarantine = ["quarantine", "--reason", "r"];
        let release = ["release"];
        let override_all = ["release", "--override", "--reason", "r"];
        let shadow_wants = number % 5 == 4;
        if shadow_wants {
            let order = json!({"id": format!("order-{number}"), "posture": "isolate"});
            stage.desire(&json!({ "quarantine": order })).unwrap();
            let shadow = |s: &Value| {
                authorities(s).contains(&"shadow".to_owned()) && s["enforcement"]["phase"] == "enforced"
            };
            stage.wait_status(LIMIT, "the shadow's order", shadow).unwrap();
        }
        let before = picture(&stage);
        let args: &[&str] = match (shadow_wants, before.is_some()) {
            (true, _) => &override_all,
            (false, true) => &release,
            (false, false) => &quarantine,
        };
        let told = command_and_kill(&mut stage, args, &before, &mut random);
        let dead = picture(&stage);
        stage.start_agent().unwrap();
        let status = wait_settled(&stage);
        let after = picture(&stage);
        let enforced = status["enforcement"]["phase"] == "enforced";
        assert_eq!(after.is_some(), enforced, "round {number}: {status}");
        assert_eq!(
            after.is_some(),
            !authorities(&status).is_empty(),
            "round {number}: {status}"
        );
        assert!(
            dead == before || dead == after,
            "round {number}, {args:?}: half of it: {dead:?}"
        );
        let changed = after != before;
        assert!(
            changed || !told,
            "round {number}: {args:?} was told as done and is forgotten"
        );
        assert!(
            changed || dead == before,
            "round {number}: {args:?} was in the kernel and is forgotten"
        );
        println!(
            "round {number}: {args:?}, told {told}, killed with it {}, done {changed}",
            dead != before
        );
        done += u64::from(changed);
        number += 1;
        // What was not done is an order that stays, and the next round ends it.
        if shadow_wants && !changed {
            let (code, ..) = stage.edgewarden(&override_all).unwrap();
            assert_eq!(code, Some(0));
        }
    }
    assert_both_sides(done, rounds);
}

/// Kills around the moment at which an order ends by itself.
pub(crate) fn order_expires(rounds: u64) {
    let mut random = random();
    let mut stage = ready(options());
    let second = Duration::from_secs(1);
    let (mut open, mut number, mut late) = (0, 0, 0);
    while number < rounds {
        let args = ["quarantine", "--reason", "r", "--expires-seconds", "1"];
        let given = Instant::now();
        let (code, output, errors) = stage.edgewarden(&args).unwrap();
        let answered = given.elapsed();
        let before = picture(&stage);
        // A machine, or its disk, that was busy for as long as the order lasted shows nothing.
        let is_late = errors.contains("the disk has not answered") || before.is_none();
        if is_late && given.elapsed() >= second {
            late += 1;
            assert!(late <= rounds, "control: closed before a second has passed");
            wait_done(&stage, None);
            continue;
        }
        assert_eq!(code, Some(0), "{output}{errors}");
        assert!(before.is_some(), "control: closed");
        // The order's end lies between one second after the command's begin and one second after its return.
        let middle = answered / 2 + second;
        let early = Duration::from_millis(MAX_DELAY_MS / 2);
        std::thread::sleep((middle - early).saturating_sub(given.elapsed()));
        if random.u8(0..6) == 0 {
            wait_change(&stage, &before);
        }
        delay(&mut random);
        kill(&mut stage);
        let dead = picture(&stage);
        assert!(
            dead.is_none() || dead == before,
            "round {number}: half of it: {dead:?}"
        );
        open += u64::from(dead.is_none());
        stage.start_agent().unwrap();
        wait_done(&stage, None);
        assert_eq!(picture(&stage), None, "round {number}");
        number += 1;
    }
    assert_both_sides(open, rounds);
}
