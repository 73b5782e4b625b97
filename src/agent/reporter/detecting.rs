//! Feeds the local detector with each closed interval and hands its wish to the enforcer.
//!
//! In: the interval and the sockets. Out: alarms on the board, wishes. Which values are normal is `detect`'s.

use super::{Memory, Reporter};
use crate::agent::enforcer::Command;
use crate::config::Config;
use crate::detect::{Alarm, AlarmKind, MetricValues};
use crate::host::clock;
use crate::observe::{Interval, SocketSnapshot};
use crate::quarantine::orders::document::Wish;
use crate::quarantine::orders::order::{Authority, Order};

impl Reporter {
    pub(super) async fn detect(
        &self,
        config: &Config,
        interval: &Interval,
        sockets: Option<&SocketSnapshot>,
        memory: &mut Memory,
    ) {
        let alarms = memory
            .detector
            .evaluate(&MetricValues::of(interval, sockets), interval.ended);
        for alarm in &alarms {
            tracing::warn!(behavior = %alarm.behavior, value = alarm.value, kind = ?alarm.kind, "local detector");
        }
        let names: Vec<String> = memory.detector.in_alarm().map(str::to_owned).collect();
        self.board
            .update(|status| status.detector.alarms.clone_from(&names));
        if let Some(alarm) = alarms.iter().find(|alarm| alarm.kind == AlarmKind::InAlarm)
            && config.detect.quarantine
        {
            let wish = Wish::Order(Box::new(order(alarm)));
            self.enforcer
                .send(Command::Wish {
                    authority: Authority::Detector,
                    wish: Ok(wish),
                })
                .await;
        }
        // An alarm that clears does not release: an isolated device is quiet, which proves nothing. Switching the key
        // off ends it, and so does the operator's override.
        if !config.detect.quarantine {
            let wish = Ok(Wish::Release);
            self.enforcer
                .send(Command::Wish {
                    authority: Authority::Detector,
                    wish,
                })
                .await;
        }
    }
}

fn order(alarm: &Alarm) -> Order {
    let reason = format!("{}: {:?} was {}", alarm.behavior, alarm.metric, alarm.value);
    Order::isolate(Authority::Detector, "detector", Some(reason), clock::now().wall)
}
