//! The device under attack, and its orders.
//!
//! In: [`Terms`]. Out: a stage that is free, then isolated or restricted, and what is left of that.

use std::process::Command;

use edgewarden_lab::site::{INTERNET_V4, Ns, Running, Site, ask_name_servers};
use edgewarden_lab::stage::{PATIENCE, Stage, StageOptions};
use serde_json::{Value, json};

use crate::ears::Ear;
use crate::{AttackError, Played, Terms};

/// A name below which every bucket of the device's storage is a lifeline.
pub(crate) const STORAGE: &str = "s3.eu-central-1.amazonaws.com";

/// A running stage.
pub(crate) struct Field {
    pub(crate) stage: Stage,
    _names: Running,
}

impl Field {
    /// Connected and free. Its resolver is a server of the internet, which knows the names of lifelines.
    pub(crate) fn free(terms: &Terms, isolation: &Value) -> Result<Self, AttackError> {
        ask_name_servers(&[INTERNET_V4])?;
        let mut stage = Stage::start(StageOptions {
            lab: terms.lab.clone(),
            configuration: json!({"development": {"reportIntervalSeconds": 2}, "isolation": isolation}),
            ..StageOptions::new(&terms.agent, &terms.recipe)
        })?;
        stage
            .site
            .set_names(&json!({STORAGE: [INTERNET_V4.to_string()]}))?;
        let names = stage.site.name_server(Ns::Internet, INTERNET_V4)?;
        stage.start_agent()?;
        stage.wait_status(PATIENCE, "connected and free", |status| {
            status["enforcement"]["phase"] == "released" && status["cloud"]["channelWorks"] == true
        })?;
        Ok(Self { stage, _names: names })
    }

    /// Has the shadow order it, and waits for the proof.
    pub(crate) fn order(&self, order: &Value) -> Result<(), AttackError> {
        self.stage.desire(&json!({ "quarantine": order }))?;
        self.stage.wait_phase(PATIENCE, "enforced")?;
        Ok(())
    }

    /// Isolates.
    pub(crate) fn isolate(&self) -> Result<(), AttackError> {
        self.order(&json!(true))
    }

    /// Attacks the free device, which is the control case, and again behind an order; what of it an ear hears each time.
    pub(crate) fn attacked<T>(
        &self,
        ear: &Ear,
        order: &Value,
        attack: impl Fn() -> Result<T, AttackError>,
    ) -> Result<Played, AttackError> {
        attack()?;
        let free = ear.heard();
        self.order(order)?;
        attack()?;
        Ok(Played {
            free,
            arrived: ear.heard(),
            degraded: self.degraded(),
        })
    }

    /// What is not as ordered any more.
    pub(crate) fn degraded(&self) -> Option<String> {
        let status = self.stage.status();
        let seen = &status["enforcement"];
        let holds = seen["phase"] == "enforced" && seen["scope"] == "pinned";
        (!holds).then(|| format!("phase {}, scope {}", seen["phase"], seen["scope"]))
    }

    pub(crate) fn site(&self) -> &Site {
        &self.stage.site
    }

    /// Runs `ip`, or another program of the distribution, in a namespace of the lab; its output.
    pub(crate) fn run(&self, ns: Ns, program: &'static str, words: &str) -> Result<String, AttackError> {
        let run = || Command::new(program).args(words.split_whitespace()).output();
        let output = self.site().run_in(ns, run)?;
        let output = output.map_err(|source| AttackError::Io {
            what: "run a program of the distribution",
            source,
        })?;
        if !output.status.success() {
            return Err(AttackError::Tool {
                what: "run",
                program,
                output: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The hardware address of an interface.
    pub(crate) fn mac(&self, ns: Ns, interface: &str) -> Result<[u8; 6], AttackError> {
        let text = self.run(ns, "ip", &format!("-json link show dev {interface}"))?;
        let links: Value = serde_json::from_str(&text).unwrap_or_default();
        let mut bytes = links[0]["address"].as_str().unwrap_or_default().split(':');
        let mut next = || u8::from_str_radix(bytes.next().unwrap_or_default(), 16).unwrap_or_default();
        Ok([next(), next(), next(), next(), next(), next()])
    }
}
