//! What can be asked of enforcement, and how: a mailbox that outlives the task that empties it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex as StdMutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::preview::UnwrittenPreview;
use crate::config::{IsolationConfig, Mode};
use crate::document::fault::Fault;
use crate::process::ProcessId;
use crate::quarantine::lifelines::address_book::Confinement;
use crate::quarantine::lifelines::lifeline::Endpoint;
use crate::quarantine::lifelines::nucleus_users::NucleusUsers;
use crate::quarantine::lifelines::origin::Sighting;
use crate::quarantine::lifelines::ways::LinksOf;
use crate::quarantine::orders::document::Wish;
use crate::quarantine::orders::order::{Authority, Order};
use crate::quarantine::ports::FilterChange;
use crate::quarantine::proof::journal::ShadowVersion;
use crate::quarantine::proof::obstacle::Obstacle;
use crate::quarantine::proof::state::State;

/// Commands waiting; senders wait when it is full, so nothing is lost.
const QUEUE: usize = 64;

/// What the configuration says to enforcement.
#[derive(Debug, Clone, PartialEq)]
pub struct EnforcerSettings {
    /// Enforce or observe.
    pub mode: Mode,
    /// Lifelines, windows, process rules.
    pub isolation: IsolationConfig,
    /// The nucleus' process, which is never stopped; absent while it is not connected, or where `/proc` does not show it.
    pub nucleus: Option<ProcessId>,
}

/// What can be asked of enforcement.
#[derive(Debug)]
pub enum EnforcerCommand {
    /// An authority wants something, or wrote something that cannot be read.
    Wish {
        /// Who.
        authority: Authority,
        /// What.
        wish: Result<Wish, Vec<Fault>>,
    },
    /// The shadow wants something.
    ShadowWish {
        /// What.
        wish: Wish,
        /// From which version it was taken; absent when there is no shadow.
        heard: Option<ShadowVersion>,
        /// Nothing newer can have been missed. What is not settled may be old, so it only closes: it lets nothing go.
        settled: bool,
    },
    /// How far was the shadow heard?
    ShadowHeard {
        /// Who asks.
        reply: oneshot::Sender<Option<ShadowVersion>>,
    },
    /// The operator takes back the own order.
    Release {
        /// Why, where it was said.
        reason: Option<String>,
    },
    /// The operator ends every order.
    Override {
        /// Why.
        reason: String,
    },
    /// Nobody is left to take back what came through a nucleus: it ends.
    ReleaseWithoutNucleus {
        /// How long nobody was there, and who wanted it so: a sentence.
        why: String,
    },
    /// What is done, or would be with this order of the operator; changes nothing.
    Plan {
        /// The order, if there is one.
        order: Option<Box<Order>>,
        /// Who asks.
        reply: oneshot::Sender<Box<UnwrittenPreview>>,
    },
    /// The configuration changed.
    Settings(Box<EnforcerSettings>),
    /// Lifeline addresses, each with who says so.
    Addresses(Vec<Sighting>),
    /// By which links those of them are reached that every link may have.
    LinksOf(LinksOf),
    /// Where the nucleus is connected to its cloud, as far as that is a lifeline.
    Connected(Vec<Endpoint>),
    /// As whom the nucleus was seen to talk to its cloud.
    NucleusUsers(NucleusUsers),
    /// The nucleus was seen to go another way: what is known of these purposes besides is no lifeline.
    Confine(Vec<Confinement>),
    /// Whether the control channel works.
    Channel {
        /// It does.
        works: bool,
        /// A nucleus is there to be asked, and is connected or could be.
        nucleus: bool,
    },
    /// The cloud's end of the nucleus' own connection has just acknowledged what the nucleus had sent.
    Acknowledged {
        /// Uptime at which that was seen.
        at: Duration,
    },
    /// What the cloud does not allow this device, if anything: told with everything else, and no reason to do anything.
    Denied(Option<String>),
    /// Somebody changed the packet filter, perhaps us; who, if the kernel told.
    KernelChanged(Option<FilterChange>),
    /// An interface came, went or changed.
    LinksChanged,
    /// Somebody wants to know how things stand right now.
    Look,
    /// The shadow service said just now what time it is.
    ServiceTime(Timestamp),
    /// A shadow request was answered.
    RoundTrip {
        /// Uptime at which it was sent.
        sent: Duration,
    },
}

impl EnforcerCommand {
    /// Whether somebody wants something done, and not only to know how things stand.
    pub(super) const fn is_instruction(&self) -> bool {
        matches!(
            self,
            Self::Wish { .. }
                | Self::ShadowWish { .. }
                | Self::Release { .. }
                | Self::Override { .. }
                | Self::ReleaseWithoutNucleus { .. }
        )
    }
}

/// A command, and who waits for the state after it.
pub(super) type Envelope = (EnforcerCommand, Option<oneshot::Sender<State>>);

/// Talks to the enforcer's task.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::Sender<Envelope>,
    state: watch::Receiver<State>,
    /// When the newest state was published.
    spoke: Arc<StdMutex<Instant>>,
}

/// Commands on their way.
#[derive(Debug)]
pub(super) struct Commands {
    arriving: mpsc::Receiver<Envelope>,
    /// Arrived, and not carried out: a successor of a task that failed begins with these.
    pub(super) arrived: VecDeque<Envelope>,
}

impl Commands {
    /// Waits until a command is there or `wake` has come, and takes in everything that waits; cancel-safe. `false`: nobody
    /// can send any more.
    pub(super) async fn arrive(&mut self, wake: Instant) -> bool {
        if self.arrived.is_empty() {
            match tokio::time::timeout_at(wake, self.arriving.recv()).await {
                Ok(None) => return false,
                Ok(Some(envelope)) => self.arrived.push_back(envelope),
                Err(_) => {}
            }
        }
        while self.arrived.len() < QUEUE {
            let Ok(envelope) = self.arriving.try_recv() else {
                break;
            };
            self.arrived.push_back(envelope);
        }
        true
    }
}

/// The enforcer's end: whoever restores an enforcer with it serves the same [`Handle`]s.
#[derive(Debug, Clone)]
pub struct Mailbox {
    /// Locked by the task that empties it; free again when that ends, however it ends.
    pub(super) commands: Arc<Mutex<Commands>>,
    state: watch::Sender<State>,
    spoke: Arc<StdMutex<Instant>>,
}

/// A handle and its mailbox.
#[must_use]
pub fn mailbox() -> (Handle, Mailbox) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let (publish, state) = watch::channel(State::default());
    let spoke = Arc::new(StdMutex::new(Instant::now()));
    let mailbox = Mailbox {
        commands: Arc::new(Mutex::new(Commands {
            arriving: receiver,
            arrived: VecDeque::new(),
        })),
        state: publish,
        spoke: Arc::clone(&spoke),
    };
    let handle = Handle {
        commands: sender,
        state,
        spoke,
    };
    (handle, mailbox)
}

impl Mailbox {
    /// Says what may be said of enforcement now.
    pub(super) fn publish(&self, state: State) {
        *crate::lock(&self.spoke) = Instant::now();
        self.state.send_replace(state);
    }

    /// What is said of enforcement, and its changes.
    pub(crate) fn states(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// No enforcer runs: whatever the last one had proven is not known any more.
    pub(crate) fn claim_nothing(&self) {
        self.state
            .send_modify(|state| state.claim_nothing(Obstacle::EnforcerFailed));
    }
}

impl Handle {
    /// Sends a command; its effect shows in [`Handle::state`].
    pub async fn send(&self, command: EnforcerCommand) {
        // A closed queue means the agent is stopping; the kernel keeps what it has.
        let _ = self.commands.send((command, None)).await;
    }

    /// Sends a command and waits for the state after it was carried out; `None` when the agent is stopping.
    pub async fn ask(&self, command: EnforcerCommand) -> Option<State> {
        let (reply, answer) = oneshot::channel();
        self.commands.send((command, Some(reply))).await.ok()?;
        answer.await.ok()
    }

    /// What is done now, or would be if the operator gave `order`; `None` when the agent is stopping.
    pub async fn plan(&self, order: Option<Box<Order>>) -> Option<Box<UnwrittenPreview>> {
        let (reply, answer) = oneshot::channel();
        self.send(EnforcerCommand::Plan { order, reply }).await;
        let mut preview = answer.await.ok()?;
        preview.look().await;
        Some(preview)
    }

    /// How far the shadow was heard, also before a restart; an error when the enforcer failed meanwhile, or the agent is
    /// stopping.
    pub(crate) async fn shadow_heard(&self) -> Result<Option<ShadowVersion>, oneshot::error::RecvError> {
        let (reply, answer) = oneshot::channel();
        self.send(EnforcerCommand::ShadowHeard { reply }).await;
        answer.await
    }

    /// How long ago the newest state was published.
    pub fn silent_for(&self) -> Duration {
        crate::lock(&self.spoke).elapsed()
    }

    /// The newest state, and its changes.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }
}
