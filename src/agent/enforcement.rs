//! The enforcer as the rest of the agent knows it: what is held here stays valid while the enforcer itself is rebuilt.
//!
//! In: commands for the enforcer, its state. Out: the same, of whichever enforcer runs. The one that runs first was
//! restored before anything else was started; the next ones are restored from the journal, as after a restart of the
//! agent, and are told what only the process knew: the newest settings and whether the control channel works. Commands that
//! come while none runs wait in the mailbox.
//! Invariant: while no enforcer runs the state claims nothing, whatever the last one had proven.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot::error::RecvError;
use tokio::sync::watch;

use super::enforcer::{
    Enforcer, EnforcerCommand, EnforcerSettings, Handle, HostMachine, Mailbox, UnwrittenPreview, mailbox,
};
use crate::host::netfilter::standby::Standby;
use crate::quarantine::orders::order::Order;
use crate::quarantine::proof::journal::ShadowVersion;
use crate::quarantine::proof::state::State;

/// A free device is looked at every minute, and what a pass waits for has limits of some seconds each: ten of them, one
/// after the other, are within this.
const STUCK: Duration = Duration::from_secs(240);

/// Talks to the enforcer that runs.
#[derive(Debug, Clone)]
pub(crate) struct Enforcement {
    handle: Handle,
    told: Arc<Mutex<Told>>,
    standby: Standby,
}

/// What the process was told and no journal keeps.
#[derive(Debug)]
struct Told {
    settings: EnforcerSettings,
    channel_works: bool,
    denied: Option<String>,
}

/// Runs the enforcer, and rebuilds it.
#[derive(Clone)]
pub(crate) struct EnforcerTask {
    machine: HostMachine,
    /// Until it is run.
    first: Arc<Mutex<Option<Enforcer>>>,
    mailbox: Mailbox,
    told: Arc<Mutex<Told>>,
}

/// Enforces what the journal says; only then is anything else to be started.
pub(crate) async fn restore(
    state_directory: &Path,
    control_socket: &Path,
    settings: EnforcerSettings,
) -> (EnforcerTask, Enforcement) {
    let (handle, mailbox) = mailbox();
    let machine = HostMachine::new(state_directory).sheltered(control_socket);
    let enforcer = Enforcer::restore_on(machine.clone(), settings.clone(), mailbox.clone()).await;
    let told = Arc::new(Mutex::new(Told {
        settings,
        channel_works: false,
        denied: None,
    }));
    let task = EnforcerTask {
        machine,
        first: Arc::new(Mutex::new(Some(enforcer))),
        mailbox,
        told: Arc::clone(&told),
    };
    let enforcement = Enforcement {
        handle,
        told,
        standby: task.machine.standby(),
    };
    (task, enforcement)
}

impl Enforcement {
    /// Sends a command; its effect shows in [`Enforcement::state`].
    pub(crate) async fn send(&self, command: EnforcerCommand) {
        self.note(&command);
        self.handle.send(command).await;
    }

    /// Sends a command and waits for the state after it was carried out; `None` when the enforcer failed meanwhile.
    pub(crate) async fn ask(&self, command: EnforcerCommand) -> Option<State> {
        self.handle.ask(command).await
    }

    /// What is done, or would be if the operator gave `order`; `None` when the enforcer failed meanwhile.
    pub(crate) async fn plan(&self, order: Option<Box<Order>>) -> Option<Box<UnwrittenPreview>> {
        self.handle.plan(order).await
    }

    /// How far the shadow was heard, also before a restart; an error when the enforcer failed meanwhile.
    pub(crate) async fn shadow_heard(&self) -> Result<Option<ShadowVersion>, RecvError> {
        self.handle.shadow_heard().await
    }

    /// How long ago the newest state was published.
    pub(crate) fn silent_for(&self) -> Duration {
        self.handle.silent_for()
    }

    /// The newest state, and its changes.
    pub(crate) fn state(&self) -> watch::Receiver<State> {
        self.handle.state()
    }

    /// What is put back at once when somebody touches our tables.
    pub(crate) fn standby(&self) -> Standby {
        self.standby.clone()
    }

    fn note(&self, command: &EnforcerCommand) {
        let mut told = crate::lock(&self.told);
        match command {
            EnforcerCommand::Settings(settings) => told.settings = (**settings).clone(),
            EnforcerCommand::Channel { works, .. } => told.channel_works = *works,
            EnforcerCommand::RoundTrip { .. } => told.channel_works = true,
            EnforcerCommand::Denied(what) => told.denied.clone_from(what),
            _ => {}
        }
    }
}

impl EnforcerTask {
    /// Waits, after the end of the enforcer, until what it had to record last is on disk, but not for long.
    pub(crate) async fn last_words(&self) {
        self.machine.last_words().await;
    }

    /// Runs until the enforcer ends. Each call after the first begins with the journal.
    pub(crate) async fn run(self) {
        let _claims_nothing_after = Gone(&self.mailbox);
        let first = crate::lock(&self.first).take();
        let enforcer = match first {
            Some(enforcer) => enforcer,
            None => Box::pin(self.rebuild()).await,
        };
        tokio::select! {
            () = enforcer.run() => {}
            () = stuck(self.mailbox.states()) => {
                tracing::error!("the enforcer has said nothing for {} s: it begins anew", STUCK.as_secs());
            }
        }
    }

    async fn rebuild(&self) -> Enforcer {
        let (settings, works, denied) = {
            let told = crate::lock(&self.told);
            (told.settings.clone(), told.channel_works, told.denied.clone())
        };
        let machine = self.machine.clone();
        let mut enforcer = Enforcer::restore_on(machine, settings, self.mailbox.clone()).await;
        let told = [
            EnforcerCommand::Channel {
                works,
                nucleus: false,
            },
            EnforcerCommand::Denied(denied),
        ];
        enforcer.obey(told).await;
        enforcer
    }
}

/// Ends when the enforcer has published no state for longer than its work and its rest can take.
async fn stuck(mut states: watch::Receiver<State>) {
    while let Ok(Ok(())) = tokio::time::timeout(STUCK, states.changed()).await {}
}

/// Takes back what an enforcer claimed when it ends, however it ends.
struct Gone<'a>(&'a Mailbox);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.claim_nothing();
    }
}

#[cfg(test)]
#[path = "enforcement_tests.rs"]
mod tests;
