//! AWS IoT stand-in: shadow service, Defender ingest, Detect, alarm Lambda.
//!
//! ```text
//! broker ──► service ──► account ─┬─► shadow                      pure: account and everything
//!    ▲          │                 └─► ingest ──► detect ──►       below it
//!    │          ▼                                   │
//!    └── answers, JSON lines          shadow ◄── alarm_lambda
//! ```
//!
//! [`mqtt`] is a console for tests and the demo: publish, get-shadow.

pub mod account;
pub mod alarm_lambda;
pub mod broker;
pub mod detect;
pub mod ingest;
pub mod metric;
pub mod mqtt;
pub mod service;
pub mod shadow;

pub use service::CloudArgs;

use crate::traffic::lines;

/// Runs the stand-in; prints one JSON object a line on standard output.
pub async fn run(args: CloudArgs) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    Ok(service::serve(args, lines::printer()).await?)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::alarm_lambda::Flavour;
    use super::detect::Operator;
    use super::{CloudArgs, mqtt::MqttArgs};

    #[derive(Debug, Parser)]
    enum Lab {
        Cloud(CloudArgs),
        Mqtt(MqttArgs),
    }

    fn parse(line: &str) -> Result<Lab, clap::Error> {
        Lab::try_parse_from(["lab"].into_iter().chain(line.split(' ')))
    }

    #[test]
    fn command_lines_of_the_demo_are_read() {
        Lab::command().debug_assert();
        let Ok(Lab::Cloud(args)) = parse("cloud --broker 203.0.113.1:8883") else {
            panic!("cloud")
        };
        assert_eq!((args.min_interval_seconds, args.all_bytes_out), (300, 35_000));
        assert_eq!(
            (args.lambda, args.operator, args.no_lambda),
            (Flavour::Correct, Operator::LessThan, false)
        );
        for line in [
            "cloud --broker [2001:db8::1]:1883 --min-interval-seconds 1 --lambda workshop --operator greater-than",
            "cloud --broker b:1 --no-lambda --reject-reports --all-bytes-out 7",
            "cloud --broker b:1 --profile /tmp/profile.json",
            "mqtt --broker b:1 publish --topic t --payload {}",
            "mqtt --broker b:1 publish --topic t --payload-file /tmp/p",
            "mqtt --broker b:1 get-shadow --thing gw --name n",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
        for line in [
            "cloud",
            "cloud --broker b",
            "cloud --broker b:1 --lambda none",
            "cloud --broker b:1 --operator above",
            "cloud --broker b:1 --operator less-than --profile /tmp/p",
            "cloud --broker b:1 --no-lambda --lambda workshop",
            "mqtt --broker b:1",
            "mqtt --broker b:1 publish --topic t",
            "mqtt --broker b:1 publish --topic t --payload a --payload-file b",
            "mqtt --broker b:1 get-shadow",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
