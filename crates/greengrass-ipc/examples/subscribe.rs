//! Prints what other components of this device publish, and what this example publishes itself, until it is stopped.
//!
//! Run it as a Greengrass component, whose recipe allows `aws.greengrass#SubscribeToTopic` and
//! `aws.greengrass#PublishToTopic` for the topic under `aws.greengrass.ipc.pubsub`, or with the environment of one:
//!
//! ```text
//! AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT=/var/lib/greengrass/gg-ipc.socket SVCUID=<token> \
//!     cargo run -p greengrass-ipc --example subscribe -- sensors/room
//! ```
//!
//! Restart the nucleus meanwhile: the subscription comes back and says so.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example shows what it does"
)]

use std::error::Error;
use std::process::ExitCode;

use greengrass_ipc::{
    Client, ClientOptions, PublishToTopic, SubscribeToTopic, SubscriptionEvent, TopicPayload,
};
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let topic = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "sensors/room".to_owned());
    let client = Client::start(ClientOptions::from_env()?);

    let mut messages = client.subscribe(&SubscribeToTopic::new(&topic)).await?;
    let greeting = json!({ "temperature": 21.5 });
    client.request(&PublishToTopic::json(&topic, &greeting)).await?;

    while let Some(event) = messages.next().await {
        match event {
            SubscriptionEvent::Message(message) => {
                let topic = message.topic.as_deref().unwrap_or("an unnamed topic");
                let text = match message.payload {
                    TopicPayload::Json(value) => value.to_string(),
                    TopicPayload::Binary(bytes) => format!("{} bytes", bytes.len()),
                    other => format!("{other:?}"),
                };
                println!("{topic}: {text}");
            }
            SubscriptionEvent::Missed { count } => println!("{count} messages were lost here"),
            SubscriptionEvent::Resubscribed => {
                println!("the nucleus was away; anything may have been missed");
            }
            other => println!("{other:?}"),
        }
    }
    Ok(())
}
