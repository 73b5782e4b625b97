//! How the two nuclei differ on the wire, as data: docs/reference/ipc-wire.md.

use std::time::Duration;

use clap::ValueEnum;
use greengrass_ipc::frame::TERMINATE_STREAM;

use super::refusal::Refusal;

/// Which nucleus is imitated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Personality {
    /// Nucleus lite 2.6 (C, systemd).
    Lite,
    /// The classic nucleus (Java).
    Classic,
}

/// Longest frame lite takes: 12 bytes of prelude and 10,000 more. One byte beyond and it resets the connection.
const LITE_MAX_INBOUND_FRAME: usize = 10_012;
/// Longest frame lite sends.
const LITE_MAX_OUTBOUND_FRAME: usize = 10_000;
/// The framing library's own limit, both ways, on the classic nucleus.
const CLASSIC_MAX_FRAME: usize = 24 * 1024 * 1024;
/// Lite announces this as MQTT Maximum Packet Size; the broker silently withholds what is larger.
const LITE_MAX_MQTT_PACKET: u32 = 5_000;
/// The broker of AWS IoT carries 128 KB payloads; topic and headers come on top.
const CLASSIC_MAX_MQTT_PACKET: u32 = 256 * 1024;

/// Operations of the service model; the classic nucleus answers those without a provider differently from unknown ones.
const MODELLED: [&str; 34] = [
    "AuthorizeClientDeviceAction",
    "CancelLocalDeployment",
    "CreateDebugPassword",
    "CreateLocalDeployment",
    "DeferComponentUpdate",
    "DeleteThingShadow",
    "GetClientDeviceAuthToken",
    "GetComponentDetails",
    "GetConfiguration",
    "GetLocalDeploymentStatus",
    "GetSecretValue",
    "GetThingShadow",
    "ListComponents",
    "ListLocalDeployments",
    "ListNamedShadowsForThing",
    "PauseComponent",
    "PublishToIoTCore",
    "PublishToTopic",
    "PutComponentMetric",
    "RestartComponent",
    "ResumeComponent",
    "SendConfigurationValidityReport",
    "StopComponent",
    "SubscribeToCertificateUpdates",
    "SubscribeToComponentUpdates",
    "SubscribeToConfigurationUpdate",
    "SubscribeToIoTCore",
    "SubscribeToTopic",
    "SubscribeToValidateConfigurationUpdates",
    "UpdateConfiguration",
    "UpdateState",
    "UpdateThingShadow",
    "ValidateAuthorizationToken",
    "VerifyClientDeviceIdentity",
];

impl Personality {
    /// True for lite.
    #[must_use]
    pub fn is_lite(self) -> bool {
        self == Self::Lite
    }

    /// As `--personality` takes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        if self.is_lite() { "lite" } else { "classic" }
    }

    /// File name of the socket under the root.
    #[must_use]
    pub fn socket_name(self) -> &'static str {
        if self.is_lite() {
            "gg-ipc.socket"
        } else {
            "ipc.socket"
        }
    }

    /// What components see as `GGC_VERSION`.
    #[must_use]
    pub fn version(self) -> &'static str {
        if self.is_lite() { "2.6.0-326e992" } else { "2.17.0" }
    }

    /// The component that holds the nucleus' own configuration.
    #[must_use]
    pub fn nucleus_component(self) -> &'static str {
        if self.is_lite() {
            "aws.greengrass.NucleusLite"
        } else {
            "aws.greengrass.Nucleus"
        }
    }

    /// Longest frame taken from a client, in bytes.
    #[must_use]
    pub fn max_inbound_frame(self) -> usize {
        if self.is_lite() {
            LITE_MAX_INBOUND_FRAME
        } else {
            CLASSIC_MAX_FRAME
        }
    }

    /// Longest frame sent to a client, in bytes.
    #[must_use]
    pub fn max_outbound_frame(self) -> usize {
        if self.is_lite() {
            LITE_MAX_OUTBOUND_FRAME
        } else {
            CLASSIC_MAX_FRAME
        }
    }

    /// Flags of a unary reply.
    #[must_use]
    pub fn unary_flags(self) -> i32 {
        if self.is_lite() { 0 } else { TERMINATE_STREAM }
    }

    /// Largest MQTT packet taken from the broker, in bytes.
    #[must_use]
    pub fn max_mqtt_packet(self) -> u32 {
        if self.is_lite() {
            LITE_MAX_MQTT_PACKET
        } else {
            CLASSIC_MAX_MQTT_PACKET
        }
    }

    /// Whether one subscription at the broker serves all whom its filter covers, and is forgotten only when the broker has
    /// confirmed its end: whoever subscribes before that is answered at once and hears nothing.
    #[must_use]
    pub fn shares_subscriptions(self) -> bool {
        !self.is_lite()
    }

    /// Whether a later connection to the broker goes on with the session of the one before.
    #[must_use]
    pub fn keeps_session(self) -> bool {
        !self.is_lite()
    }

    /// Clients at a time; one more is disconnected. The classic nucleus has no such limit; a bound is needed anyway.
    #[must_use]
    pub fn max_clients(self) -> usize {
        if self.is_lite() { 50 } else { 1_000 }
    }

    /// Subscriptions of all components together. For the classic nucleus see [`Personality::max_clients`].
    #[must_use]
    pub fn max_subscriptions(self) -> usize {
        if self.is_lite() { 100 } else { 10_000 }
    }

    /// How long a stopping component may take before SIGKILL; the classic nucleus' default serves for both, since a
    /// test has no use for systemd's 120 s.
    #[must_use]
    pub fn stop_limit(self) -> Duration {
        Duration::from_secs(15)
    }

    /// Whether the component writes into pipes that the nucleus reads, which break when it dies. Lite's components write
    /// to journald, which outlives it.
    #[must_use]
    pub fn reads_output(self) -> bool {
        !self.is_lite()
    }

    /// The answer to an operation this stand-in does not serve.
    #[must_use]
    pub fn unsupported(self, operation: &str) -> Refusal {
        if self.is_lite() {
            return Refusal::service("");
        }
        let short = operation.strip_prefix("aws.greengrass#").unwrap_or(operation);
        if MODELLED.contains(&short) {
            return Refusal::service(format!("Operation {operation} is not supported by Greengrass"));
        }
        Refusal::Unmodelled {
            operation: operation.to_owned(),
        }
    }
}
