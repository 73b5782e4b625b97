//! Attacks on processes that are to be stopped.

use std::time::{Duration, Instant};

use edgewarden_lab::site::{Running, lab_program, wait_until};
use edgewarden_lab::stage::{PATIENCE, copy_program};
use serde_json::json;

use crate::field::Field;
use crate::tools::{CONTINUES, Rights};
use crate::{AttackError, Played, Terms};

/// From one look at a process to the next.
const LOOK: Duration = Duration::from_millis(2);

/// Children of a program that runs.
fn child_of(parent: &Running) -> Option<u32> {
    let pid = parent.pid();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// How often it was found running or waiting, of all looks.
fn alive(pid: u32, time: Duration) -> (u64, u64) {
    let (begun, mut running, mut looks) = (Instant::now(), 0, 0);
    while begun.elapsed() < time {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        looks += 1;
        running += u64::from(matches!(state, Some('R' | 'S' | 'D')));
        std::thread::sleep(LOOK);
    }
    (running, looks)
}

/// Held, or told: a status that says "stopped" of what runs is the fault.
pub(super) fn continued(terms: &Terms) -> Result<Played, AttackError> {
    let field = Field::free(terms, &json!({}))?;
    let folder = field.site().directory();
    // Where the attacker may look, too.
    let program = folder.join("attack-rogue");
    copy_program(&terms.lab.clone().map_or_else(lab_program, Ok)?, &program)?;
    let path = program.to_str().unwrap_or_default();
    let words = [path, "sensor", "--remote", "198.51.100.1:9000", "--udp"];
    let rogue = CONTINUES.start(field.site(), Rights::User, &words)?;
    let mut pid = None;
    wait_until(PATIENCE, "the rogue runs", || {
        pid = child_of(&rogue);
        pid.is_some()
    })
    .map_err(|error| AttackError::Io {
        what: "start the rogue",
        source: std::io::Error::other(error.to_string()),
    })?;
    let pid = pid.unwrap_or_default();
    let (free, _) = alive(pid, Duration::from_millis(200));
    field.stage.desire(&json!({"quarantine": {
        "id": "f", "posture": "isolate", "processes": [{"match": {"exe": path}, "action": "freeze"}]
    }}))?;
    field
        .stage
        .wait_status(PATIENCE, "the order is carried out", |status| {
            status["enforcement"]["orders"][0]["id"] == "f" && status["enforcement"]["wanted"] == "isolate"
        })?;
    std::thread::sleep(Duration::from_secs(2));
    let (running, looks) = alive(pid, terms.time);
    let status = field.stage.status();
    let stopped = status["enforcement"]["stopped"].as_array();
    let mut entries = stopped.into_iter().flatten().filter(|entry| entry["pid"] == pid);
    // What is not shown as stopped must be shown as running; what is, with how often it was found to run.
    let honest = match entries.next() {
        Some(entry) => entry["contested"].as_u64() > Some(0),
        None => status["enforcement"]["leftRunning"] != json!([]),
    };
    let degraded = (running * 20 > looks && !honest).then(|| {
        format!(
            "it ran at {running} of {looks} looks, and the status says {}",
            status["enforcement"]["stopped"]
        )
    });
    Ok(Played {
        free,
        arrived: 0,
        degraded,
    })
}
