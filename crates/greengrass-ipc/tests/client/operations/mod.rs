//! Every operation as it goes over the wire: the exact request, and what answers and events become.
//!
//! In: tables of requests and of bodies as both nuclei send them. Out: verdicts through a scripted nucleus.

mod answers;
mod events;
mod refusals;

use greengrass_ipc::frame::{Message, MessageKind};
use greengrass_ipc::{Client, IpcError, Request, SubscribeRequest, Subscription, SubscriptionEvent};
use serde_json::Value;

use crate::support::{Nucleus, Peer, body, within};

/// A client with its nucleus, for one table.
pub(crate) struct Bench {
    _nucleus: Nucleus,
    pub(crate) client: Client,
    pub(crate) peer: Peer,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let (nucleus, client, peer) = Nucleus::with_client(|_| ()).await;
        Self {
            _nucleus: nucleus,
            client,
            peer,
        }
    }

    /// Sends a request, which must have exactly this JSON, and answers it.
    pub(crate) async fn request<R: Request>(
        &mut self,
        request: &R,
        expected: Value,
        answer: &str,
    ) -> Result<R::Reply, IpcError> {
        let serve = async {
            let sent = self.peer.request(R::NAME).await;
            check(&sent, &expected);
            self.peer.answer(&sent, answer).await;
        };
        within(R::NAME, async {
            tokio::join!(self.client.request(request), serve)
        })
        .await
        .0
    }

    /// Makes a subscription, whose request must have exactly this JSON; the id of its stream.
    pub(crate) async fn subscribe<S: SubscribeRequest>(
        &mut self,
        request: &S,
        expected: Value,
    ) -> (Subscription<S::Event>, i32) {
        let serve = async {
            let sent = self.peer.request(S::NAME).await;
            check(&sent, &expected);
            self.peer.answer(&sent, "{}").await;
            sent.stream_id
        };
        let (events, id) = within(S::NAME, async {
            tokio::join!(self.client.subscribe(request), serve)
        })
        .await;
        (events.unwrap(), id)
    }

    /// Sends an event; what the consumer is told.
    pub(crate) async fn event<T>(
        &mut self,
        (events, id): &mut (Subscription<T>, i32),
        shape: &str,
        payload: &str,
    ) -> SubscriptionEvent<T> {
        let event = Message::new(MessageKind::ApplicationMessage, *id)
            .with_service_model_type(format!("aws.greengrass#{shape}"))
            .with_json(payload.to_owned());
        self.peer.send(&event).await;
        within("an event", events.next())
            .await
            .expect("the subscription goes on")
    }
}

/// The request is the expected one, and nothing in it is null.
fn check(sent: &Message, expected: &Value) {
    let sent = body(sent);
    assert_eq!(sent, *expected);
    assert!(!has_null(&sent), "{sent}");
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.iter().any(has_null),
        Value::Object(map) => map.values().any(has_null),
        _ => false,
    }
}
