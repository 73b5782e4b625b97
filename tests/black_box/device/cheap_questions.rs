//! Questions that cost whoever asks them little: crafted DNS messages, names that never resolve. The thread that decides
//! does not pay for them.

use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{INTERNET_V4, Ns, Running, lab_program, wait_until};
use edgewarden_lab::stage::Stage;
use serde_json::{Value, json};

use crate::common::agent::restart_behind;
use crate::common::gateway::NOBODY;
use crate::common::{LIMIT, connected_and_released, isolate, options, ready, release};

/// How long a status may take, and an order under load.
const STATUS: Duration = Duration::from_millis(250);
const NORMAL: Duration = Duration::from_secs(15);
/// A name that is looked up for the lifelines.
const NAME: &str = "time.example.org";

/// The agent behind a resolver configuration of its own.
fn behind_resolver(stage: &mut Stage, text: &str) {
    let file = stage.site.directory().join("resolv.conf");
    std::fs::write(&file, text).unwrap();
    restart_behind(
        stage,
        &format!("mount --bind {} /etc/resolv.conf", file.display()),
    );
    connected_and_released(stage);
}

fn deploy(stage: &mut Stage, time_servers: &[String]) {
    let configuration = json!({
        "development": {"reportIntervalSeconds": 2},
        "isolation": {"timeServers": time_servers},
    });
    stage.deploy(&configuration).unwrap();
}

/// The question for the name, and after it as many records of long names as fit into a message: to read it whole takes
/// more than a millisecond.
fn dear_question() -> Vec<u8> {
    const LARGEST: usize = 4_096;
    let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for part in NAME.split('.') {
        message.push(u8::try_from(part.len()).unwrap());
        message.extend(part.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    let [high, low] = (u16::try_from(message.len()).unwrap() | 0xc000).to_be_bytes();
    message.extend([1, b'a'].repeat(110));
    message.push(0);
    // A record whose data are two names and five numbers.
    let fixed = [0, 6, 0, 1, 0, 0, 0, 60, 0, 24];
    let data = [&fixed, [high, low, high, low].as_slice(), &[0; 20]].concat();
    message.extend(&data);
    let mut records = 1_u8;
    while message.len() + 2 + data.len() <= LARGEST {
        message.extend([high, low]);
        message.extend(&data);
        records += 1;
    }
    message[7] = records.min(64);
    message[9] = records.saturating_sub(64);
    message
}

/// An ordinary user who sends that to the resolver, a thousand times a second.
fn flood(stage: &Stage, millis: u64) -> Running {
    let digits: String = dear_question().iter().map(|byte| format!("{byte:02x}")).collect();
    let (lab, millis) = (lab_program().unwrap(), millis.to_string());
    // Where this lab is an unprivileged user's, there is no other user in it.
    let users = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    let (program, mut words) = if users.contains("4294967295") {
        let nobody = ["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"];
        ("setpriv", [nobody.as_slice(), &[lab.to_str().unwrap()]].concat())
    } else {
        (lab.to_str().unwrap(), Vec::new())
    };
    words.extend(["flood", "--remote", "127.0.0.1:53"]);
    words.extend(["--rate", "1000", "--millis", &millis, "--payload", &digits]);
    let log = stage.site.directory().join("flood.log");
    stage.site.spawn(Ns::Gateway, program, &words, &[], log).unwrap()
}

/// Processor time of the thread that decides.
fn decided_for(pid: u32) -> Duration {
    let path = Path::new("/proc").join(format!("{pid}/task/{pid}/stat"));
    let stat = std::fs::read_to_string(path).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// How long a status takes, the median of some.
fn status_takes(stage: &Stage) -> Duration {
    let mut all: Vec<Duration> = (0..11)
        .map(|_| {
            let began = Instant::now();
            assert!(stage.status().is_object());
            began.elapsed()
        })
        .collect();
    all.sort_unstable();
    all[all.len() / 2]
}

lab_test!(
    a_thousand_crafted_questions_a_second_cost_the_deciding_thread_nothing,
    || {
        let mut stage = ready(options());
        behind_resolver(&mut stage, "nameserver 127.0.0.1\n");
        deploy(&mut stage, &[NAME.to_owned()]);
        let looked_up = |s: &Value| s["lifelines"]["unresolved"].to_string().contains(NAME);
        stage
            .wait_status(LIMIT, "the name is a lifeline's", looked_up)
            .unwrap();
        isolate(&stage);
        let free = status_takes(&stage);
        assert!(free < STATUS, "control: {free:?}");

        // An order first: what was questioned before it must be of the isolation under attack.
        let mut flood = flood(&stage, 12_000);
        let pid = stage.agent.as_ref().unwrap().pid();
        let (began, before) = (Instant::now(), decided_for(pid));
        let loaded = status_takes(&stage);
        wait_until(LIMIT, "some seconds of it", || {
            began.elapsed() > Duration::from_secs(4)
        })
        .unwrap();
        let (time, spent) = (began.elapsed(), decided_for(pid).saturating_sub(before));
        println!(
            "a status takes {free:?}, under attack {loaded:?}; the deciding thread worked {spent:?} of {time:?}"
        );
        assert!(loaded < STATUS, "{loaded:?}");
        assert!(spent * 4 < time, "{spent:?} of {time:?} for others' questions");
        let ordered = Instant::now();
        release(&stage);
        isolate(&stage);
        let took = ordered.elapsed();
        assert!(took < NORMAL, "{took:?}");
        assert!(flood.is_running(), "control: it was under attack all the time");
        let flooded = flood
            .wait_event(LIMIT, |event| event["event"] == "flooded")
            .unwrap();
        assert!(flooded["packets"].as_u64().unwrap() > 6_000, "control: {flooded}");
    }
);

/// Threads of that name.
fn threads(pid: u32, name: &str) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|found| found.trim() == name).count()
}

lab_test!(
    names_that_never_resolve_hold_a_thread_each_and_do_not_delay_the_end,
    || {
        const NAMES: usize = 40;
        /// Each name is asked for every ten seconds while it does not resolve: two minutes of that.
        const ROUNDS: u8 = 12;
        let mut stage = ready(options());
        let silent = stage
            .site
            .run_in(Ns::Internet, || UdpSocket::bind((INTERNET_V4, 53)));
        let _silent = silent.unwrap().unwrap();
        let resolver = format!("nameserver {INTERNET_V4}\noptions timeout:30 attempts:3\n");
        behind_resolver(&mut stage, &resolver);
        let pid = stage.agent.as_ref().unwrap().pid();
        let names: Vec<String> = (0..NAMES).map(|n| format!("{n}.silent.example")).collect();
        let others = threads(pid, "look-up");
        let known = |s: &Value| s["lifelines"]["addresses"].as_u64();
        let before = known(&stage.status()).unwrap();
        for _ in 0..ROUNDS {
            // Names that were away are asked for at once. The addresses beside them tell which of both is in force.
            for wanted in [true, false] {
                let sure = if wanted { 2 } else { 1 };
                let mut all: Vec<String> = (1..=sure).map(|n| format!("192.0.2.{n}")).collect();
                all.extend(names.iter().filter(|_| wanted).cloned());
                deploy(&mut stage, &all);
                let in_force = |s: &Value| known(s) == Some(before + sure);
                stage.wait_status(LIMIT, "it is in force", in_force).unwrap();
            }
            assert!(threads(pid, "look-up") >= NAMES, "control: they hang");
        }
        let all = threads(pid, "look-up");
        println!("{all} threads look up {NAMES} names, {ROUNDS} times each; {others} before");
        assert!(
            (NAMES..=NAMES + others + 8).contains(&all),
            "{all} threads, {others} before"
        );
        let began = Instant::now();
        let agent = stage.agent.as_mut().unwrap();
        agent.terminate().unwrap();
        agent.wait_exit(Duration::from_secs(2)).unwrap();
        println!("stopped in {:?}", began.elapsed());
    }
);
