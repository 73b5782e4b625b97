//! Every key of the configuration: its type, its default and the reason for it.
//!
//! The one table from which documents are checked ([`super::document`]) and `docs/configuration.md` is written.

use std::fmt::Write as _;

use crate::report::schedule::SERVICE_MINIMUM_INTERVAL;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// A whole number in a range.
    Integer {
        min: u64,
        max: u64,
    },
    /// Nought for "never", or a whole number in a range.
    NeverOr {
        min: u64,
        max: u64,
    },
    Flag,
    /// A text of 1 to this many characters, or empty for "not set".
    Text(usize),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// At most 64 texts.
    Texts,
    /// A document with its own reader.
    Document(&'static str),
}

#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Dotted, as `reporting.intervalSeconds`.
    pub path: &'static str,
    pub kind: KeyType,
    /// Default, as JSON.
    pub default: &'static str,
    /// What it does and why the default is what it is.
    pub why: &'static str,
}

const fn key(path: &'static str, kind: KeyType, default: &'static str, why: &'static str) -> Key {
    Key {
        path,
        kind,
        default,
        why,
    }
}

/// Every key there is; each has one default and one reason.
pub(crate) const KEYS: &[Key] = &[
    key(
        "mode",
        KeyType::Choice(&["enforce", "observe"]),
        "\"enforce\"",
        "`observe` computes and reports the plan of an order and cuts nothing.",
    ),
    key(
        "thingName",
        KeyType::Text(128),
        "\"\"",
        "Empty: the nucleus' own thing (`AWS_IOT_THING_NAME`).",
    ),
    key(
        "reporting.enabled",
        KeyType::Flag,
        "true",
        "Publish Device Defender reports.",
    ),
    key(
        "reporting.intervalSeconds",
        KeyType::Integer {
            min: SERVICE_MINIMUM_INTERVAL,
            max: 86_400,
        },
        "300",
        "The service takes one report a device every 300 seconds and throttles more.",
    ),
    key(
        "reporting.maxBytes",
        KeyType::Integer {
            min: 1024,
            max: 131_072,
        },
        "131072",
        "128 KB is the largest MQTT payload of AWS IoT. The IPC path's own limit (7,290 bytes on nucleus lite) \
         applies besides.",
    ),
    key(
        "reporting.format",
        KeyType::Choice(&["json", "cbor"]),
        "\"json\"",
        "CBOR takes a fifth less, so that more of a long list fits into lite's 7,290 bytes; JSON is readable on \
         the way and what AWS' own component sends.",
    ),
    key(
        "reporting.names",
        KeyType::Choice(&["long", "short"]),
        "\"long\"",
        "The two sets of field names of the specification. Short ones carry half as many list elements \
         again; with CBOR twice as many as long JSON.",
    ),
    key(
        "reporting.topic",
        KeyType::Text(256),
        "\"\"",
        "Empty: `$aws/things/<thing>/defender/metrics/<format>`. Accounts without Detect can name an ordinary or Basic \
         Ingest topic; no answer is expected there.",
    ),
    key(
        "reporting.offline",
        KeyType::Choice(&["fold", "drop"]),
        "\"fold\"",
        "What becomes of an interval whose report was not accepted: `fold` tells its traffic in the next report too, so \
         that nothing is missing; `drop` leaves it out, so that an outage does not look like a burst.",
    ),
    key(
        "reporting.customMetrics",
        KeyType::Document("list of custom metrics"),
        "[]",
        "What the standard blocks cannot carry, e.g. `{\"name\": \"eth_out\", \"what\": \"interface.bytesOut\", \
         \"interfaces\": [\"eth*\"]}` or `{\"what\": \"process.bytesOut\", \"top\": 10}`; every form is in \
         [report-format.md](report-format.md). None by default: each name has to be created in the account first \
         (`edgewarden report metrics --aws-cli`). nucleus lite gives no value of more than 1,024 bytes of JSON, and this \
         list is one value.",
    ),
    key(
        "reporting.metricsDirectory",
        KeyType::Text(256),
        "\"\"",
        "Where other programs drop metrics, one JSON file each ([report-format.md](report-format.md)). Empty: nowhere. \
         Files older than two intervals are left out.",
    ),
    key(
        "capture.include",
        KeyType::Texts,
        "[\"*\"]",
        "Interfaces to capture, `*` stands for any characters.",
    ),
    key(
        "capture.exclude",
        KeyType::Texts,
        "[]",
        "Interfaces to leave out. Loopback is always left out.",
    ),
    key(
        "capture.receiver",
        KeyType::Choice(&["ring", "pnet"]),
        "\"ring\"",
        "Who reads the frames: one `TPACKET_V3` ring of the kernel for all interfaces, or pnet's receiver for each. \
         pnet costs some fifty times the CPU a packet and does not tell what was lost; it is taken by itself where a \
         ring cannot be made. Read when the agent starts.",
    ),
    key(
        "capture.promiscuous",
        KeyType::Flag,
        "false",
        "Also receive what is for other hardware on the same wire (counted as `foreign`). Read when the agent starts.",
    ),
    key(
        "detect.behaviors",
        KeyType::Document("list of behaviours as in CreateSecurityProfile"),
        "[]",
        "What is normal, e.g. `{\"name\": \"BytesOut\", \"metric\": \"aws:all-bytes-out\", \"criteria\": \
         {\"comparisonOperator\": \"less-than\", \"value\": {\"count\": 35000}}}`. No default: normal differs for \
         every fleet.",
    ),
    key(
        "detect.quarantine",
        KeyType::Flag,
        "false",
        "Isolate on an alarm of the local detector. Off, so that a wrong threshold only raises an alarm.",
    ),
    key(
        "shadow.name",
        KeyType::Text(64),
        "\"\"",
        "Empty: the classic shadow, which existing alarm Lambdas write.",
    ),
    key(
        "shadow.refreshSeconds",
        KeyType::Integer { min: 30, max: 86_400 },
        "600",
        "Asks for the shadow this often besides every reconnect: deltas can be lost and subscriptions can die \
         silently.",
    ),
    key(
        "isolation.confirmSeconds",
        KeyType::Integer { min: 10, max: 3_600 },
        "90",
        "How long the control channel may stay silent behind new rules before an isolation's lifelines are widened (a \
         restriction has no wider ones), and again before they are released. Nucleus lite needs up to 45 s to notice a dead connection.",
    ),
    key(
        "isolation.onSilence",
        KeyType::Choice(&["release", "hold"]),
        "\"release\"",
        "What follows when the control channel worked and is silent behind rules. `release`: an isolation's lifelines are widened, and new \
         rules are taken away and tried again ever more seldom, so that nobody is locked out of the device. `hold`: nothing; \
         for owners who prefer to send somebody there to a leak, because whoever can silence the channel could open the device \
         for some minutes at a time.",
    ),
    key(
        "isolation.releaseWithoutNucleusSeconds",
        KeyType::NeverOr {
            min: 3_600,
            max: 2_592_000,
        },
        "0",
        "After how long without any nucleus the orders of shadow and deployment end as if they had been taken back; other \
         orders stay. It counts while no nucleus takes the agent, and only the guard runs it (the component is broken, \
         removed or rolled back, or a boot did not start it) or the nucleus that started it has ended. Never by default: \
         whoever can keep every nucleus away for that long gets the device out of its quarantine. For devices that have to \
         work rather than stay cut off when nobody reaches them any more \
         ([orders.md](orders.md#nobody-left-to-end-an-order)).",
    ),
    key(
        "isolation.dataEndpoint",
        KeyType::Text(253),
        "\"\"",
        "Host name of the IoT data endpoint. Empty: read from the nucleus' configuration.",
    ),
    key(
        "isolation.lifelines.dataEndpoint",
        KeyType::Flag,
        "true",
        "Keep the IoT data endpoint (8883, 8443, 443). Where the nucleus has a `networkProxy` and was seen to go through it, \
         only the proxy, and hosts that `noProxyAddresses` names.",
    ),
    key(
        "isolation.lifelines.deployments",
        KeyType::Flag,
        "true",
        "Keep what a deployment needs: the Greengrass data plane (8443, 443), the credentials endpoint and S3 (443), or the \
         proxy in their place. On, \
         because an order that came by deployment can only be ended by another one. S3 is shared: with it anybody's \
         bucket can be reached.",
    ),
    key(
        "isolation.lifelines.logs",
        KeyType::Flag,
        "false",
        "Keep CloudWatch Logs (443). Off: any account's logs can be written there.",
    ),
    key(
        "isolation.lifelines.tunnel",
        KeyType::Flag,
        "false",
        "Keep secure tunnelling (443), for a person who works on the isolated device. Off: it is a way in and out.",
    ),
    key(
        "isolation.lifelines.dns",
        KeyType::Flag,
        "true",
        "Keep DNS to the configured resolvers.",
    ),
    key(
        "isolation.lifelines.dhcp",
        KeyType::Flag,
        "true",
        "Keep the DHCPv4 and DHCPv6 client.",
    ),
    key(
        "isolation.lifelines.ntp",
        KeyType::Flag,
        "true",
        "Keep NTP to the configured time servers: TLS needs a clock.",
    ),
    key(
        "isolation.timeServers",
        KeyType::Texts,
        "[]",
        "Time servers besides those of timesyncd, chrony and ntpd.",
    ),
    key(
        "isolation.allow",
        KeyType::Document("list of allowances"),
        "[]",
        "Standing allowances, e.g. `{\"remote\": \"198.51.100.7/32\", \"protocol\": \"tcp\", \"ports\": [22], \
         \"direction\": \"in\"}`.",
    ),
    key(
        "isolation.processes",
        KeyType::Document("list of process rules"),
        "[]",
        "Processes that every isolation stops, e.g. `{\"match\": {\"exe\": \"/tmp/*\"}, \"action\": \"freeze\"}`. \
         No default: only the owner knows what may be stopped.",
    ),
    key(
        "isolation.protected",
        KeyType::Texts,
        "[\"/usr/sbin/sshd\", \"/usr/bin/sshd\", \"/usr/lib/openssh/sshd-*\", \"/usr/libexec/openssh/sshd-*\", \
         \"/usr/lib/ssh/sshd-*\", \"/usr/libexec/sshd-*\", \"/usr/lib/systemd/*\", \"/lib/systemd/*\"]",
        "Executables that are never stopped, besides pid 1, the nucleus, Edgewarden and kernel threads: where the file is \
         the one that the system itself has at that path, only root can change it, and the process is root's, has a \
         capability from it, or is of a session of such a protected one that started it. An ordinary user's process is \
         not spared, and that is told: he can start any program.",
    ),
    key(
        "isolation.bridged",
        KeyType::Flag,
        "true",
        "Also cut frames that a bridge of this device passes on between others. Switch off where the gateway is the \
         switch of a plant that has to go on.",
    ),
    key(
        "isolation.rawFrames",
        KeyType::Flag,
        "true",
        "Also cut frames that programs send past the IP stack (`AF_PACKET`), at every interface with IP. Link keys (802.1X), \
         LLDP, spanning tree, link aggregation and ARP pass. Switch off for protocols without IP on the same interfaces \
         (PROFINET, EtherCAT). Needs Linux 5.16.",
    ),
    key(
        "quarantine",
        KeyType::Document("list of one order or none, true, false, or an order"),
        "null",
        "The deployment's own order: a thing group with such a deployment quarantines its members, offline ones \
         as soon as they are back. A list is replaced as a whole; an object is merged with the one before \
         ([orders.md](orders.md#by-deployment)). A deployment without the key leaves it as it was.",
    ),
    key(
        "development.reportIntervalSeconds",
        KeyType::Integer { min: 1, max: 300 },
        "0",
        "Overrides `reporting.intervalSeconds` in a laboratory. Refused unless the agent was started with \
         `EDGEWARDEN_DEVELOPMENT=1`, which the shipped recipe does not set.",
    ),
    key(
        "development.releaseWithoutNucleusSeconds",
        KeyType::Integer { min: 1, max: 300 },
        "0",
        "Overrides `isolation.releaseWithoutNucleusSeconds` in a laboratory. Refused as the other one is.",
    ),
];

/// `docs/configuration.md`.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Configuration\n\n<!-- Written from crates/edgewarden-core/src/config/keys.rs by a test (tests/docs.rs); edit there. -->\n\n\
         The component's configuration, as a deployment merges it. Numbers and booleans may also be strings, as \
         nucleus lite delivers them from YAML. A document with a fault is refused whole and the last good one \
         stays; every fault is named with its path in `edgewarden status`.\n\n\
         | key | type | default | meaning and reason |\n|---|---|---|---|\n",
    );
    for key in KEYS {
        let kind = match key.kind {
            KeyType::Integer { min, max } => format!("{min} to {max}"),
            KeyType::NeverOr { min, max } => format!("0 (never), or {min} to {max}"),
            KeyType::Flag => "true or false".into(),
            KeyType::Text(max) => format!("text, at most {max}"),
            KeyType::Choice(words) => words.join(" or "),
            KeyType::Texts => "list of texts".into(),
            KeyType::Document(what) => what.into(),
        };
        let _ = writeln!(
            text,
            "| `{}` | {kind} | `{}` | {} |",
            key.path, key.default, key.why
        );
    }
    text
}
