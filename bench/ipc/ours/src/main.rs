//! `greengrass-ipc` under measurement: typed calls, options as they come.

use std::process::ExitCode;

use bench_driver::{Caller, LEAF, PAYLOAD_BYTES, TOPIC};
use greengrass_ipc::{Client, ClientOptions, GetConfiguration, PublishToIotCore, Qos};

struct Ours(Client);

impl Caller for Ours {
    async fn get(&self) -> Result<(), String> {
        let answer = self
            .0
            .request(&GetConfiguration::new(&[LEAF]))
            .await
            .map_err(|error| error.to_string())?;
        answer
            .value
            .get(LEAF)
            .map(drop)
            .ok_or_else(|| answer.value.to_string())
    }

    async fn publish(&self, payload: &[u8; PAYLOAD_BYTES]) -> Result<(), String> {
        self.0
            .request(&PublishToIotCore::new(TOPIC, Qos::AtMostOnce, payload))
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

fn main() -> ExitCode {
    let outcome = bench_driver::main(|| async {
        ClientOptions::from_lookup(|name| std::env::var(name).ok())
            .map(|options| Ours(Client::start(options)))
            .map_err(|error| error.to_string())
    });
    outcome.map_or_else(
        |error| {
            eprintln!("bench-ours: {error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}
