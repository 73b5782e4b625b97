//! Changes a named shadow in the local store, reads it back and lists the thing's shadows.
//!
//! Run it on a classic nucleus with the component `aws.greengrass.ShadowManager`, as a component whose recipe allows
//! `aws.greengrass#UpdateThingShadow`, `aws.greengrass#GetThingShadow` and `aws.greengrass#ListNamedShadowsForThing`
//! under `aws.greengrass.ShadowManager`, or with the environment of one:
//!
//! ```text
//! AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT=/greengrass/v2/ipc.socket SVCUID=<token> \
//!     cargo run -p greengrass-ipc --example shadow -- gateway-01 quarantine
//! ```
//!
//! On nucleus lite it says that there is no such operation.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example shows what it does"
)]

use std::error::Error;
use std::process::ExitCode;

use greengrass_ipc::{
    Client, ClientOptions, ErrorCode, GetThingShadow, ListNamedShadowsForThing, UpdateThingShadow,
};

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
    let thing = arguments.next().unwrap_or_else(|| "gateway-01".to_owned());
    let shadow = arguments.next().unwrap_or_else(|| "quarantine".to_owned());
    let client = Client::start(ClientOptions::from_env()?);

    let report = br#"{"state":{"reported":{"greeting":"hi"}}}"#;
    match client
        .request(&UpdateThingShadow::new(&thing, &shadow, report))
        .await
    {
        Ok(accepted) => println!("accepted: {}", String::from_utf8_lossy(&accepted.payload)),
        Err(error) if error.is_unsupported() => {
            println!("this nucleus has no shadows: {error}");
            return Ok(());
        }
        Err(error) if error.code() == Some(&ErrorCode::Conflict) => {
            println!("somebody else was faster: {error}");
        }
        Err(error) => return Err(error.into()),
    }

    let document = client.request(&GetThingShadow::new(&thing, &shadow)).await?;
    println!("now: {}", String::from_utf8_lossy(&document.payload));

    let mut token: Option<String> = None;
    loop {
        let mut list = ListNamedShadowsForThing::new(&thing);
        list.next_token = token.as_deref();
        let page = client.request(&list).await?;
        for name in &page.results {
            println!("{thing} has {name}");
        }
        token = page.next_token;
        if token.is_none() {
            return Ok(());
        }
    }
}
