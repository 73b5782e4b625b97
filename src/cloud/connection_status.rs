//! What the nucleus itself says of its connection to the cloud, where it says anything.
//!
//! In: the link. Out: connected or not, at first and at every change. Older nuclei do not know the question; they are asked once
//! for each connection to them, because an update replaces them.

use std::time::Duration;

use greengrass_ipc::{
    Client, IotCoreConnectionStatus, SubscribeToIotCoreConnectionStatus, Subscription, SubscriptionEvent,
};

use super::link::{LinkWatch, Nucleus};

/// From one try to the next where a try failed for another reason than that the nucleus does not know the question.
const RETRY: Duration = Duration::from_secs(30);

/// The nucleus' word.
#[derive(Debug)]
pub(crate) struct ConnectionStatus {
    client: Client,
    link: LinkWatch,
    told: Option<Subscription<IotCoreConnectionStatus>>,
    /// Which connection to the nucleus was asked and knows no answer.
    dumb: Option<u64>,
}

impl ConnectionStatus {
    pub(crate) fn of(nucleus: &Nucleus) -> Self {
        Self {
            client: nucleus.client.clone(),
            link: nucleus.link(),
            told: None,
            dumb: None,
        }
    }

    /// Whether it is connected, when that is told for the first time or anew; none: what it told does not hold any more.
    /// Not to be dropped before it ends: a question may be under way.
    pub(crate) async fn next(mut self) -> (Self, Option<bool>) {
        let word = loop {
            let Some(told) = &mut self.told else {
                self.ask().await;
                continue;
            };
            match told.next().await {
                Some(SubscriptionEvent::Message(status)) => {
                    break Some(status == IotCoreConnectionStatus::Connected);
                }
                // The present state follows.
                Some(SubscriptionEvent::Resubscribed) => break None,
                Some(_) => {}
                None => {
                    self.told = None;
                    tokio::time::sleep(RETRY).await;
                    break None;
                }
            }
        };
        (self, word)
    }

    async fn ask(&mut self) {
        while self.link.epoch().is_none() || self.link.epoch() == self.dumb {
            if !self.link.changed().await {
                std::future::pending::<()>().await;
            }
        }
        let epoch = self.link.epoch();
        let question = SubscribeToIotCoreConnectionStatus::new();
        match self.client.subscribe(&question).await {
            Ok(told) => self.told = Some(told),
            Err(error) if error.code().is_some() => self.dumb = epoch,
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}
