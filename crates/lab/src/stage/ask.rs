//! Questions to the running lab: what does the agent say, what does the shadow hold, what does the kernel list?

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Stage, THING, output_of};
use crate::site::{BROKER_PORT, Ns, SiteError, wait_until};

/// Commands that also look into the state directory.
const WITH_STATE: [&str; 6] = ["status", "orders", "plan", "release", "history", "uninstall"];

impl Stage {
    /// Runs the agent's command line in the gateway, told where this stage's agent listens and keeps its state: exit code,
    /// output, errors.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn edgewarden(&self, args: &[&str]) -> Result<(Option<i32>, String, String), SiteError> {
        let socket = self.control_socket();
        let mut all = vec!["--control-socket", socket.to_str().unwrap_or_default()];
        all.extend(args);
        let (state, command) = (self.state_directory(), args.first().copied().unwrap_or_default());
        if WITH_STATE.contains(&command) && !args.contains(&"--state-dir") {
            all.extend(["--state-dir", state.to_str().unwrap_or_default()]);
        }
        output_of(&self.site, Ns::Gateway, &self.artifact(), &all)
    }

    /// `edgewarden status --json`; null while the agent does not answer.
    pub fn status(&self) -> Value {
        self.edgewarden(&["status", "--json"])
            .ok()
            .and_then(|(_, output, _)| serde_json::from_str(&output).ok())
            .unwrap_or_default()
    }

    /// Waits until the status is as wanted and gives it.
    ///
    /// # Errors
    /// When it is not within `limit`; the text has the last status and the agent's log.
    pub fn wait_status(
        &self,
        limit: Duration,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, SiteError> {
        self.wait_document(limit, what, "status", || self.status(), wanted)
    }

    /// Waits for a phase of enforcement.
    ///
    /// # Errors
    /// As [`Stage::wait_status`].
    pub fn wait_phase(&self, limit: Duration, phase: &str) -> Result<Value, SiteError> {
        self.wait_status(limit, &format!("phase {phase}"), |status| {
            status["enforcement"]["phase"] == phase
        })
    }

    /// Publishes on the broker as a cloud application would.
    ///
    /// # Errors
    /// When the broker does not take it.
    pub fn publish(&self, topic: &str, payload: &str) -> Result<(), SiteError> {
        let file = self.site.directory().join("payload");
        super::write(&file, payload.as_bytes())?;
        let file = file.to_str().unwrap_or_default().to_owned();
        let broker = format!("127.0.0.1:{BROKER_PORT}");
        let args = [
            "mqtt",
            "--broker",
            &broker,
            "publish",
            "--topic",
            topic,
            "--payload-file",
            &file,
        ];
        match output_of(&self.site, Ns::Internet, &self.options.lab_program()?, &args)? {
            (Some(0), ..) => Ok(()),
            (_, _, errors) => Err(self.failed(&format!("publishing on {topic}"), &errors)),
        }
    }

    /// Writes `desired` of the classic shadow.
    ///
    /// # Errors
    /// When the broker does not take it.
    pub fn desire(&self, desired: &Value) -> Result<(), SiteError> {
        let document = json!({"state": {"desired": desired}});
        self.publish(
            &format!("$aws/things/{THING}/shadow/update"),
            &document.to_string(),
        )
    }

    /// The classic shadow's document, or the service's refusal.
    pub fn shadow(&self) -> Value {
        let broker = format!("127.0.0.1:{BROKER_PORT}");
        let args = ["mqtt", "--broker", &broker, "get-shadow", "--thing", THING];
        self.options
            .lab_program()
            .and_then(|program| output_of(&self.site, Ns::Internet, &program, &args))
            .ok()
            .and_then(|(_, output, _)| serde_json::from_str(&output).ok())
            .unwrap_or_default()
    }

    /// Waits until the shadow is as wanted and gives it.
    ///
    /// # Errors
    /// When it is not within `limit`.
    pub fn wait_shadow(
        &self,
        limit: Duration,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, SiteError> {
        self.wait_document(limit, what, "shadow", || self.shadow(), wanted)
    }

    fn wait_document(
        &self,
        limit: Duration,
        what: &str,
        name: &str,
        look: impl Fn() -> Value,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, SiteError> {
        let mut last = Value::Null;
        let done = wait_until(limit, what, || {
            last = look();
            wanted(&last)
        });
        done.map_err(|_| self.failed(what, &format!("last {name}: {last}")))?;
        Ok(last)
    }

    /// Runs `nft` in the gateway.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn nft(&self, args: &[&str]) -> Result<(Option<i32>, String, String), SiteError> {
        output_of(&self.site, Ns::Gateway, Path::new("/usr/sbin/nft"), args)
    }

    /// Whether the kernel of the gateway holds our table.
    ///
    /// # Errors
    /// When `nft` cannot be started.
    pub fn has_table(&self) -> Result<bool, SiteError> {
        Ok(self.nft(&["list", "table", "inet", "edgewarden"])?.0 == Some(0))
    }

    /// What the agent has written so far.
    pub fn agent_output(&self) -> String {
        std::fs::read_to_string(self.agent_log()).unwrap_or_default()
    }

    fn failed(&self, what: &str, detail: &str) -> SiteError {
        let log = self.agent_output();
        // How long turns took is told a hundred times, and says nothing of what was waited for.
        let told = |line: &&str| !line.contains(" turns: ");
        let lines: Vec<&str> = log.lines().filter(told).collect();
        let tail = lines[lines.len().saturating_sub(60)..].join("\n");
        SiteError::Stage {
            what: what.to_owned(),
            detail: format!("{detail}\nagent's log:\n{tail}"),
        }
    }
}
