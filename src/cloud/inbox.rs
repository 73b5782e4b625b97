//! Several MQTT subscriptions as one queue.
//!
//! In: the link and topics. Out: [`InboxEvent`]s. Each topic is subscribed for as long as the inbox lives: nucleus
//! lite refuses subscriptions while it is offline, classic answers them only once it is online, and both may refuse
//! them for want of rights; none of that ends the agent.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use greengrass_ipc::{Client, IotCoreMessage, IpcError, Qos, Subscription, SubscriptionEvent};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::link::{LinkWatch, Nucleus};

/// Messages waiting for the agent. Beyond this the client's own bounded queues drop the oldest and say so.
const QUEUE: usize = 64;
/// First and longest pause between tries to subscribe.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Pause after a refusal for want of rights: only a deployment can change that.
const UNAUTHORIZED_PAUSE: Duration = Duration::from_secs(60);

/// What comes out of the queue.
#[derive(Debug)]
pub(crate) enum InboxEvent {
    /// Every required topic is subscribed, for the first time or again after a reconnect; or messages were lost.
    Ready,
    Message {
        topic: String,
        payload: Bytes,
    },
    /// A topic was refused; it is tried again. Told once for each reason: all topics are refused for the same one while
    /// nucleus lite is offline.
    Refused {
        topic: String,
        /// A sentence for the operator.
        why: String,
    },
}

enum SubscriptionNews {
    Subscribed(usize),
    Lost(u64),
    Message(IotCoreMessage),
    Refused(String, IpcError),
}

/// The queue; dropping it unsubscribes.
#[derive(Debug)]
pub(crate) struct Inbox {
    raw: mpsc::Receiver<SubscriptionNews>,
    required: usize,
    link: LinkWatch,
    /// The connection that `subscribed` speaks of.
    epoch: Option<u64>,
    /// Topics subscribed on this connection.
    subscribed: BTreeSet<usize>,
    /// Why a topic was last refused, until every topic is subscribed.
    refused: Option<String>,
    forwarders: JoinSet<()>,
}

impl Inbox {
    /// Subscribes to `topics` with QoS 1; only the first `required` of them must stand for [`InboxEvent::Ready`].
    pub(crate) fn open(nucleus: &Nucleus, topics: Vec<String>, required: usize) -> Self {
        let (sender, raw) = mpsc::channel(QUEUE);
        let mut forwarders = JoinSet::new();
        for (index, topic) in topics.into_iter().enumerate() {
            forwarders.spawn(forward(nucleus.client.clone(), topic, index, sender.clone()));
        }
        Self {
            raw,
            required,
            link: nucleus.link(),
            epoch: None,
            subscribed: BTreeSet::new(),
            refused: None,
            forwarders,
        }
    }

    /// The next event; cancel-safe. `None` when a topic is no longer listened to: its task does not end by itself, so it
    /// has failed, and the inbox must be opened anew.
    pub(crate) async fn next(&mut self) -> Option<InboxEvent> {
        loop {
            let raw = tokio::select! {
                raw = self.raw.recv() => raw?,
                Some(ended) = self.forwarders.join_next() => {
                    tracing::error!("the task that listens to a topic has ended: {ended:?}");
                    return None;
                }
            };
            match raw {
                SubscriptionNews::Message(message) => {
                    return Some(InboxEvent::Message {
                        topic: message.topic,
                        payload: message.payload,
                    });
                }
                SubscriptionNews::Refused(topic, error) => {
                    let why = crate::error_text(&error);
                    if self.refused.as_ref() == Some(&why) {
                        tracing::debug!("{topic} was refused as well: {why}");
                        continue;
                    }
                    self.refused = Some(why.clone());
                    return Some(InboxEvent::Refused { topic, why });
                }
                SubscriptionNews::Lost(count) => {
                    tracing::warn!(count, "messages were lost because they came too fast");
                    return Some(InboxEvent::Ready);
                }
                SubscriptionNews::Subscribed(index) => {
                    if self.is_complete_with(index) {
                        self.refused = None;
                        return Some(InboxEvent::Ready);
                    }
                }
            }
        }
    }
}

impl Inbox {
    /// Notes a subscribed topic; on a new connection all must come again before anything is complete.
    fn is_complete_with(&mut self, index: usize) -> bool {
        let epoch = self.link.epoch();
        if epoch != self.epoch {
            self.epoch = epoch;
            self.subscribed.clear();
        }
        self.subscribed.insert(index);
        index < self.required && (0..self.required).all(|index| self.subscribed.contains(&index))
    }
}

async fn forward(client: Client, topic: String, index: usize, sender: mpsc::Sender<SubscriptionNews>) {
    let mut pause = FIRST_PAUSE;
    loop {
        match client.subscribe_to_iot_core(&topic, Qos::AtLeastOnce).await {
            Ok(subscription) => {
                pause = FIRST_PAUSE;
                if sender.send(SubscriptionNews::Subscribed(index)).await.is_err()
                    || drain(subscription, index, &sender).await.is_none()
                {
                    return;
                }
            }
            Err(error) => {
                let wait = if error.is_unauthorized() {
                    UNAUTHORIZED_PAUSE
                } else {
                    pause
                };
                if sender
                    .send(SubscriptionNews::Refused(topic.clone(), error))
                    .await
                    .is_err()
                {
                    return;
                }
                tokio::time::sleep(wait.mul_f64(0.75 + 0.5 * fastrand::f64())).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Forwards until the subscription ends (`Some`) or nobody listens any more (`None`).
async fn drain(
    mut subscription: Subscription<IotCoreMessage>,
    index: usize,
    sender: &mpsc::Sender<SubscriptionNews>,
) -> Option<()> {
    while let Some(event) = subscription.next().await {
        let raw = match event {
            SubscriptionEvent::Message(message) => SubscriptionNews::Message(message),
            SubscriptionEvent::Missed { count } => SubscriptionNews::Lost(count),
            SubscriptionEvent::Resubscribed => SubscriptionNews::Subscribed(index),
            // What a later client may tell besides is no message.
            _ => continue,
        };
        sender.send(raw).await.ok()?;
    }
    Some(())
}
