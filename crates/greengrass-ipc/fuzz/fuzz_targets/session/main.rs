//! The whole client under a nucleus that says anything at any time.
//!
//! In: a [`Script`] made from the fuzzer's bytes. The real client talks to a scripted server over a Unix socket, both
//! on one thread with a clock that moves only when both wait, so every run is the same and takes no time. Checked:
//! no panic; requests keep the rules of both nuclei (see [`server`]); and whatever was said, the client works again
//! with a server that behaves: it is never dead.
#![no_main]

mod script;
mod server;

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;

use greengrass_ipc::{
    Client, ClientOptions, GetConfiguration, GetThingShadow, IpcError, ListNamedShadowsForThing, Qos,
    RestartComponent, SubscribeToComponentUpdates, SubscribeToConfigurationUpdate, SubscribeToIotCore,
    SubscribeToIotCoreConnectionStatus, SubscribeToTopic, SubscribeToValidateConfigurationUpdates,
};
use libfuzzer_sys::fuzz_target;
use script::{Script, Step};
use server::Server;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

/// Longer than all time limits and pauses of the client together, on a clock that costs nothing.
const ALIVE_LIMIT: Duration = Duration::from_secs(600);
/// Steps of a script that are played; longer ones find nothing new.
const MAX_STEPS: usize = 32;
/// The client's limits; small, so that scripts reach them.
const LIMIT: Duration = Duration::from_secs(5);

thread_local! {
    /// One folder for all runs of the process.
    static FOLDER: RefCell<tempfile::TempDir> = RefCell::new(tempfile::tempdir().expect("a folder for the socket"));
}

/// Writing to a socket that is closed must be an error. Rust's own start of a program sees to that by ignoring SIGPIPE,
/// but libFuzzer has its own `main`.
static SURVIVE_SIGPIPE: Once = Once::new();

fuzz_target!(|script: Script| {
    let socket = FOLDER.with_borrow(|folder| folder.path().join("s"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        SURVIVE_SIGPIPE.call_once(|| {
            // The handler stays when its receiver is gone.
            drop(signal(SignalKind::pipe()).expect("a handler for SIGPIPE"));
        });
        play(script, socket).await;
    });
});

async fn play(script: Script, socket: PathBuf) {
    let _ = std::fs::remove_file(&socket);
    let mut server = Server::bind(&socket);
    let mut options = ClientOptions::new(&socket, "abcdefgh12345678");
    options.component_name = script.by_name.then(|| "com.example.C".to_owned());
    options.request_timeout = LIMIT;
    options.handshake_timeout = LIMIT;
    options.stall_timeout = LIMIT;
    options.max_queued_events = 4;
    options.max_queued_bytes = 256;
    options.max_inbound_frame_bytes = 10_012;
    let client = Client::start(options);
    let mut consumers = JoinSet::new();
    for step in script.steps.into_iter().take(MAX_STEPS) {
        match step {
            Step::Call(which) => {
                let client = client.clone();
                consumers.spawn(async move { drop(call(&client, which).await) });
            }
            Step::Subscribe(which) => {
                let client = client.clone();
                consumers.spawn(async move { consume(&client, which).await });
            }
            Step::GiveUp => {
                consumers.abort_all();
                while consumers
                    .join_next()
                    .await
                    .is_some_and(|end| !end.is_err_and(|e| e.is_panic()))
                {}
            }
            Step::Reconnect => client.reconnect("fuzz"),
            Step::Wait(seconds) => tokio::time::sleep(Duration::from_secs(seconds.into())).await,
            Step::Say(saying) => server.say(saying).await,
            Step::Listen => server.listen().await,
            Step::HangUp => server.hang_up(),
        }
    }
    drop(consumers);
    let proof = async {
        tokio::select! {
            never = server.behave() => match never {},
            answer = prove(&client) => answer,
        }
    };
    let alive = tokio::time::timeout(ALIVE_LIMIT, proof).await;
    assert!(matches!(alive, Ok(Ok(()))), "the client is dead: {alive:?}");
}

/// A call after a fresh start. Requests of the script may still hold answers to come, so only time limits excuse.
async fn prove(client: &Client) -> Result<(), IpcError> {
    loop {
        match client.request(&GetConfiguration::new(&["a"])).await {
            Ok(_) => return Ok(()),
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

async fn call(client: &Client, which: u8) -> Result<(), IpcError> {
    match which % 5 {
        0 => client.request(&GetConfiguration::new(&["a"])).await.map(drop),
        1 => client.request(&GetThingShadow::new("thing", "")).await.map(drop),
        2 => client
            .request(&ListNamedShadowsForThing::new("thing"))
            .await
            .map(drop),
        3 => client.request(&RestartComponent::new("c")).await.map(drop),
        _ => client.request_json("Anything", serde_json::json!({})).await.map(drop),
    }
}

async fn consume(client: &Client, which: u8) {
    macro_rules! drain {
        ($request:expr) => {
            if let Ok(mut events) = client.subscribe(&$request).await {
                while events.next().await.is_some() {}
            }
        };
    }
    match which % 6 {
        0 => drain!(SubscribeToIotCore::new("a/#", Qos::AtLeastOnce)),
        1 => drain!(SubscribeToTopic::new("a")),
        2 => drain!(SubscribeToConfigurationUpdate::new(&["a"])),
        3 => drain!(SubscribeToComponentUpdates::new()),
        4 => drain!(SubscribeToValidateConfigurationUpdates::new()),
        _ => drain!(SubscribeToIotCoreConnectionStatus::new()),
    }
}
