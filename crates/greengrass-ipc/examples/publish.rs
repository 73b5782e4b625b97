//! Publishes one message to AWS IoT Core and says what became of it.
//!
//! Run it as a Greengrass component, whose recipe allows `aws.greengrass#PublishToIoTCore` for the topic under
//! `aws.greengrass.ipc.mqttproxy`, or with the environment of one:
//!
//! ```text
//! AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT=/var/lib/greengrass/gg-ipc.socket SVCUID=<token> \
//!     cargo run -p greengrass-ipc --example publish -- gateway/hello "hi there"
//! ```
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example shows what it does"
)]

use std::error::Error;
use std::process::ExitCode;

use greengrass_ipc::{Client, ClientOptions, IpcError, PayloadFormat, PublishToIotCore, Qos};

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
    let mut arguments = std::env::args().skip(1);
    let topic = arguments.next().unwrap_or_else(|| "gateway/hello".to_owned());
    let text = arguments.next().unwrap_or_else(|| "hi".to_owned());

    let options = ClientOptions::from_env()?;
    let largest_frame = options.max_frame_bytes;
    let client = Client::start(options);

    let mut message = PublishToIotCore::new(&topic, Qos::AtLeastOnce, text.as_bytes());
    message.properties.payload_format = Some(PayloadFormat::Utf8);
    message.properties.message_expiry_interval_seconds = Some(60);
    println!("{topic} takes up to {} bytes", message.max_payload(largest_frame));

    match client.request(&message).await {
        Ok(_) => println!("the nucleus took it; whether the broker got it is not known"),
        Err(error) if error.is_unauthorized() => println!("the component's policy forbids it: {error}"),
        Err(error @ (IpcError::ConnectionLost { .. } | IpcError::Timeout { .. })) => {
            println!("it may have been taken or not: {error}");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
