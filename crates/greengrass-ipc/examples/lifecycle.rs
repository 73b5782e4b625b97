//! Reports itself as running, asks deployments to wait twice, checks new configuration, and restarts a component.
//!
//! Run it as a Greengrass component, whose recipe allows `aws.greengrass#RestartComponent` under `aws.greengrass.Cli`
//! if a component is named, or with the environment of one:
//!
//! ```text
//! AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT=/greengrass/v2/ipc.socket SVCUID=<token> \
//!     cargo run -p greengrass-ipc --example lifecycle -- com.example.Other
//! ```
//!
//! On nucleus lite deployments cannot be deferred nor configuration refused; it says so and ends.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example shows what it does"
)]

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use greengrass_ipc::{
    Client, ClientOptions, ComponentState, ComponentUpdate, DeferComponentUpdate, IpcError,
    ProposedConfiguration, RestartComponent, SendConfigurationValidityReport, SubscribeToComponentUpdates,
    SubscribeToValidateConfigurationUpdates, SubscriptionEvent, UpdateState,
};

/// How often a deployment is asked to wait.
const DEFERRALS: u32 = 2;

/// How long it waits each time.
const DEFERRAL: Duration = Duration::from_secs(1);

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
    let client = Client::start(ClientOptions::from_env()?);
    client.request(&UpdateState::new(ComponentState::Running)).await?;

    if let Some(other) = std::env::args().nth(1) {
        let outcome = client.request(&RestartComponent::new(&other)).await?;
        println!("restart of {other}: {:?} {:?}", outcome.status, outcome.message);
    }

    match watch(&client).await {
        Err(error) if error.is_unsupported() => println!("this nucleus asks nobody: {error}"),
        Err(error) => return Err(error.into()),
        Ok(()) => {}
    }
    Ok(())
}

/// Has a say in deployments for as long as the program runs.
async fn watch(client: &Client) -> Result<(), IpcError> {
    let mut updates = client.subscribe(&SubscribeToComponentUpdates::new()).await?;
    let mut proposals = client
        .subscribe(&SubscribeToValidateConfigurationUpdates::new())
        .await?;
    println!("has a say in deployments");
    let mut deferrals = 0;
    loop {
        tokio::select! {
            update = updates.next() => match update {
                None => return Ok(()),
                Some(SubscriptionEvent::Message(ComponentUpdate::Before { deployment_id, .. })) => {
                    answer(client, &deployment_id, &mut deferrals).await?;
                }
                Some(other) => println!("{other:?}"),
            },
            proposal = proposals.next() => match proposal {
                None => return Ok(()),
                Some(SubscriptionEvent::Message(proposal)) => judge(client, &proposal).await?,
                Some(other) => println!("{other:?}"),
            },
        }
    }
}

async fn answer(client: &Client, deployment: &str, deferrals: &mut u32) -> Result<(), IpcError> {
    let defer = if *deferrals < DEFERRALS {
        *deferrals += 1;
        let mut defer = DeferComponentUpdate::new(deployment, DEFERRAL);
        defer.message = Some("in the middle of something");
        defer
    } else {
        *deferrals = 0;
        DeferComponentUpdate::go_on(deployment)
    };
    println!("{deployment}: wait {:?}", defer.recheck_after);
    client.request(&defer).await.map(drop)
}

async fn judge(client: &Client, proposal: &ProposedConfiguration) -> Result<(), IpcError> {
    let deployment = &proposal.deployment_id;
    let report = if proposal.configuration.is_object() {
        SendConfigurationValidityReport::accept(deployment)
    } else {
        SendConfigurationValidityReport::reject(deployment, "expected an object")
    };
    println!("{deployment}: {:?}", report.configuration_validity_report.status);
    client.request(&report).await.map(drop)
}
