//! The community crate `greengrass-ipc-rust` under measurement: typed calls, options as they come.

use std::process::ExitCode;

use bench_driver::{Caller, LEAF, PAYLOAD_BYTES, TOPIC};
use bytes::Bytes;
use greengrass_ipc_rust::{GetConfigurationRequest, GreengrassCoreIPCClient, PublishToIoTCoreRequest, QoS};

struct Community(GreengrassCoreIPCClient);

impl Caller for Community {
    async fn get(&self) -> Result<(), String> {
        let request = GetConfigurationRequest {
            component_name: None,
            key_path: vec![LEAF.to_owned()],
        };
        let answer = self
            .0
            .get_configuration(request)
            .await
            .map_err(|error| error.to_string())?;
        answer
            .value
            .get(LEAF)
            .map(drop)
            .ok_or_else(|| answer.value.to_string())
    }

    async fn publish(&self, payload: &[u8; PAYLOAD_BYTES]) -> Result<(), String> {
        let request = PublishToIoTCoreRequest {
            topic_name: TOPIC.to_owned(),
            qos: QoS::AtMostOnce,
            payload: Bytes::copy_from_slice(payload),
            user_properties: None,
            message_expiry_interval_seconds: None,
            correlation_data: None,
            response_topic: None,
            content_type: None,
        };
        self.0
            .publish_to_iot_core(request)
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

fn main() -> ExitCode {
    let outcome = bench_driver::main(|| async {
        // Socket and token are read from the variables of a component.
        GreengrassCoreIPCClient::connect()
            .await
            .map(Community)
            .map_err(|error| error.to_string())
    });
    outcome.map_or_else(
        |error| {
            eprintln!("bench-community: {error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}
