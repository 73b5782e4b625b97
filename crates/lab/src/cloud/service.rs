//! The stand-in cloud as a program: a thin shell around [`Account`].
//!
//! In: MQTT messages of the broker. Out: answers on the broker and one JSON line per thing that happened.
//! It subscribes to request topics only, so it never hears itself; what the Lambda writes goes through the
//! same pure shadow service. Reconnects for ever; every state survives a reconnect, none a restart.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, Packet, Publish, QoS, SubAck, SubscribeReasonCode,
};
use serde_json::json;

use super::account::{Account, AccountSettings};
use super::alarm_lambda::Flavour;
use super::broker::{self, BrokerAddress};
use super::detect::{DEFAULT_ALL_BYTES_OUT, Operator, ProfileError, SecurityProfile};
use super::ingest::DEFAULT_MIN_INTERVAL_SECONDS;
use super::shadow::Answer;
use crate::traffic::lines::{LinesError, Tell};

/// Client id of the stand-in; a second one would push the first off the broker.
pub const CLIENT_ID: &str = "aws-iot";

/// Answers waiting for the connection. One request gives at most seven; this holds several hundred.
const MAX_OUTBOX: usize = 4_096;

/// Time between two attempts to reach the broker.
const RECONNECT: Duration = Duration::from_millis(250);

/// Requests of both services, nothing else.
const FILTERS: [&str; 8] = [
    "$aws/things/+/shadow/get",
    "$aws/things/+/shadow/update",
    "$aws/things/+/shadow/delete",
    "$aws/things/+/shadow/name/+/get",
    "$aws/things/+/shadow/name/+/update",
    "$aws/things/+/shadow/name/+/delete",
    "$aws/things/+/defender/metrics/json",
    "$aws/things/+/defender/metrics/cbor",
];

/// Runs the stand-in for AWS IoT against a broker.
#[derive(Debug, Clone, clap::Args)]
pub struct CloudArgs {
    /// MQTT broker, HOST:PORT (plain TCP).
    #[arg(long)]
    pub broker: BrokerAddress,
    /// Shortest time between two accepted reports of one thing, in seconds; shorter ones are throttled.
    #[arg(long, default_value_t = DEFAULT_MIN_INTERVAL_SECONDS)]
    pub min_interval_seconds: u64,
    /// No alarm Lambda: alarms are told but nothing follows.
    #[arg(long, conflicts_with = "lambda")]
    pub no_lambda: bool,
    /// Which alarm Lambda: correct, or workshop (quarantines on cleared alarms too).
    #[arg(long, default_value_t = Flavour::Correct)]
    pub lambda: Flavour,
    /// Refuse every report with InvalidPayload.
    #[arg(long)]
    pub reject_reports: bool,
    /// Threshold of aws:all-bytes-out, in bytes per report.
    #[arg(long, default_value_t = DEFAULT_ALL_BYTES_OUT)]
    pub all_bytes_out: u64,
    /// How a normal value compares with the threshold (greater-than replays the lab page's mistake).
    #[arg(long, default_value_t = Operator::LessThan)]
    pub operator: Operator,
    /// Security profile, a file as CreateSecurityProfile takes it; instead of the lab's.
    #[arg(long, conflicts_with_all = ["all_bytes_out", "operator"])]
    pub profile: Option<PathBuf>,
}

/// Why the stand-in ended or did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The security profile's file cannot be read.
    #[error("could not read {path}")]
    ReadProfile {
        /// The file.
        path: PathBuf,
        #[source]
        /// Why.
        source: std::io::Error,
    },
    /// The security profile's file holds none.
    #[error("could not use {path}")]
    Profile {
        /// The file.
        path: PathBuf,
        #[source]
        /// Why.
        source: ProfileError,
    },
    /// Nobody listens to what is told.
    #[error(transparent)]
    Lines(#[from] LinesError),
}

impl CloudArgs {
    /// The defaults for one broker.
    pub fn new(broker: BrokerAddress) -> Self {
        Self {
            broker,
            min_interval_seconds: DEFAULT_MIN_INTERVAL_SECONDS,
            no_lambda: false,
            lambda: Flavour::Correct,
            reject_reports: false,
            all_bytes_out: DEFAULT_ALL_BYTES_OUT,
            operator: Operator::LessThan,
            profile: None,
        }
    }

    fn settings(&self) -> Result<AccountSettings, ServeError> {
        Ok(AccountSettings {
            min_interval_seconds: self.min_interval_seconds,
            lambda: (!self.no_lambda).then_some(self.lambda),
            reject_reports: self.reject_reports,
            profile: match &self.profile {
                Some(path) => read_profile(path)?,
                None => SecurityProfile::outbound_bytes(self.operator, self.all_bytes_out),
            },
        })
    }
}

fn read_profile(path: &Path) -> Result<SecurityProfile, ServeError> {
    let document = std::fs::read(path).map_err(|source| ServeError::ReadProfile {
        path: path.to_owned(),
        source,
    })?;
    SecurityProfile::read(&document).map_err(|source| ServeError::Profile {
        path: path.to_owned(),
        source,
    })
}

/// Serves for ever. `tell` gets every event as one JSON object; the service ends only when it fails.
pub async fn serve(args: CloudArgs, tell: Tell) -> Result<(), ServeError> {
    let (client, event_loop) = broker::client(&args.broker, CLIENT_ID);
    let account = Account::new(args.settings()?);
    let outbox = VecDeque::new();
    let mut service = Service {
        client,
        account,
        outbox,
        dropped: 0,
        outage_told: false,
        tell,
    };
    Ok(service.run(event_loop).await?)
}

struct Service {
    client: AsyncClient,
    account: Account,
    outbox: VecDeque<Answer>,
    /// Answers that did not fit into the outbox since the last time it was told.
    dropped: u64,
    /// Whether the running outage has been told.
    outage_told: bool,
    tell: Tell,
}

impl Service {
    async fn run(&mut self, mut event_loop: EventLoop) -> Result<(), LinesError> {
        loop {
            match event_loop.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => self.subscribe()?,
                Ok(Event::Incoming(Packet::SubAck(ack))) => self.subscribed(&ack)?,
                Ok(Event::Incoming(Packet::Publish(publish))) => self.handle(&publish)?,
                Ok(_) => {}
                Err(error) => {
                    self.lost(&error)?;
                    tokio::time::sleep(RECONNECT).await;
                }
            }
            self.flush();
            self.tell_dropped()?;
        }
    }

    /// The request queue is empty right after a connect (a clean session clears it), so this fits.
    fn subscribe(&mut self) -> Result<(), LinesError> {
        let filters =
            FILTERS.map(|filter| rumqttc::SubscribeFilter::new(filter.to_owned(), QoS::AtLeastOnce));
        match self.client.try_subscribe_many(filters) {
            Ok(()) => Ok(()),
            Err(error) => (self.tell)(&json!({"event": "subscribe-failed", "error": error.to_string()})),
        }
    }

    fn subscribed(&mut self, ack: &SubAck) -> Result<(), LinesError> {
        if ack
            .return_codes
            .iter()
            .any(|code| matches!(code, SubscribeReasonCode::Failure))
        {
            return (self.tell)(&json!({"event": "subscribe-failed", "error": "the broker refused"}));
        }
        self.outage_told = false;
        (self.tell)(&json!({"event": "connected"}))
    }

    fn handle(&mut self, publish: &Publish) -> Result<(), LinesError> {
        let effects = self.account.handle(&publish.topic, &publish.payload, epoch_ms());
        for answer in effects.answers {
            // A topic the client refuses would stay at the head of the outbox for ever.
            if self.outbox.len() < MAX_OUTBOX && rumqttc::valid_topic(&answer.topic) {
                self.outbox.push_back(answer);
            } else {
                self.dropped += 1;
            }
        }
        effects.events.iter().try_for_each(|event| (self.tell)(event))
    }

    /// Answers die with the connection, as they do in AWS; a device asks again with `get`.
    fn lost(&mut self, error: &ConnectionError) -> Result<(), LinesError> {
        self.outbox.clear();
        if self.outage_told {
            return Ok(());
        }
        self.outage_told = true;
        (self.tell)(&json!({"event": "disconnected", "error": error.to_string()}))
    }

    /// Hands over as many answers as the request queue takes; the rest goes after the next poll. Never
    /// waits: the queue is emptied by the same task.
    fn flush(&mut self) {
        while let Some(answer) = self.outbox.front() {
            let sent =
                self.client
                    .try_publish(&answer.topic, QoS::AtLeastOnce, false, answer.payload.as_slice());
            if sent.is_err() {
                return;
            }
            self.outbox.pop_front();
        }
    }

    fn tell_dropped(&mut self) -> Result<(), LinesError> {
        if self.dropped == 0 || self.outbox.len() >= MAX_OUTBOX {
            return Ok(());
        }
        let answers = std::mem::take(&mut self.dropped);
        (self.tell)(&json!({"event": "answers-dropped", "answers": answers}))
    }
}

/// Epoch milliseconds; 0 when the clock stands before 1970.
fn epoch_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
