//! Whether the control channel works: one cell that the shadow session writes and everybody else reads; and beside it, for
//! people only, what is known of the nucleus' own connection.
//!
//! In: answered requests and failures of the shadow session. Out: [`ChannelState`] for whoever watches, and the same word
//! for the enforcer, in the order in which the shadow session says everything else to it.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use super::enforcement::Enforcement;
use super::enforcer::EnforcerCommand;
use crate::host::clock;

/// What is known of the control channel.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ChannelState {
    /// Whether the last shadow request was answered, and nothing was subscribed or connected anew since it was sent.
    pub(crate) works: bool,
    pub(crate) last_round_trip: Option<Timestamp>,
    /// Why it does not work.
    pub(crate) problem: Option<String>,
    /// What is wrong although it may work: a report that is refused, a topic that is not heard.
    pub(crate) trouble: Option<String>,
    /// Since when the nucleus has been seen to be without any connection to the cloud. A round trip is as good a proof.
    pub(crate) away: Option<Timestamp>,
    /// No local port was left for another connection when a question was not answered last.
    pub(crate) without_ports: bool,
    /// What AWS IoT does not allow this device, one sentence.
    pub(crate) denied: Option<String>,
}

impl ChannelState {
    /// What people are told: a question may be on its way for as long as it takes to notice that nothing comes back.
    pub(crate) const fn works_for_people(&self) -> bool {
        self.works && self.away.is_none()
    }

    /// What to tell first.
    pub(crate) fn complaint(&self) -> Option<String> {
        let away = || {
            let since = self.away?;
            let ports = if self.without_ports {
                ", and no local port is left for another: others hold all of them"
            } else {
                ""
            };
            Some(format!(
                "the nucleus has had no connection to the cloud since {since:.0}{ports}"
            ))
        };
        let denied = self.denied.clone();
        denied
            .or_else(away)
            .or_else(|| self.problem.clone())
            .or_else(|| self.trouble.clone())
    }
}

/// Where the shadow session tells it.
#[derive(Debug, Clone)]
pub(crate) struct Channel {
    cell: watch::Sender<ChannelState>,
    enforcer: Enforcement,
}

impl Channel {
    pub(crate) fn new(cell: watch::Sender<ChannelState>, enforcer: Enforcement) -> Self {
        Self { cell, enforcer }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<ChannelState> {
        self.cell.subscribe()
    }

    /// A request that was sent at this uptime was answered.
    pub(crate) async fn round_trip(&self, sent: Duration) {
        self.cell.send_modify(|state| {
            if !state.works {
                tracing::info!("the control channel works");
            }
            state.works = true;
            state.last_round_trip = Some(clock::now().wall);
            state.problem = None;
            state.away = None;
            state.without_ports = false;
        });
        self.enforcer.send(EnforcerCommand::RoundTrip { sent }).await;
    }

    /// Why what was proven does not hold at this moment, if so. The enforcer is not told: nothing has failed.
    pub(crate) fn doubted(&self, why: Option<&str>) {
        self.cell.send_if_modified(|state| {
            let news = why.is_some() && state.works;
            if let Some(why) = why.filter(|_| news) {
                state.works = false;
                state.problem = Some(why.to_owned());
            }
            news
        });
    }

    /// What is wrong besides, as it is at this moment. The enforcer is not told: it proves nothing of the channel.
    pub(crate) fn trouble(&self, why: Option<&str>) {
        self.cell.send_if_modified(|state| {
            let news = state.trouble.as_deref() != why;
            if news {
                if let Some(why) = why.filter(|why| state.problem.as_deref() != Some(*why)) {
                    tracing::warn!("{why}");
                }
                state.trouble = why.map(str::to_owned);
            }
            news
        });
    }

    /// Since when the nucleus has no connection to the cloud, as far as is seen. The enforcer is not told: only a question's
    /// fate tells what rules of ours do to the channel, and connections come and go without them.
    pub(crate) fn nucleus_away(&self, since: Option<Timestamp>) {
        self.cell.send_if_modified(|state| {
            // An answer came through it since: there is one that is not seen.
            let since = since.filter(|since| state.last_round_trip.is_none_or(|trip| trip <= *since));
            let news = state.away != since;
            if let Some(since) = since.filter(|_| news) {
                tracing::info!("the nucleus has had no connection to the cloud since {since:.0}");
            }
            state.away = since;
            news
        });
    }

    /// Whether the nucleus has no connection and finds no local port for another.
    pub(crate) fn without_ports(&self, is_so: bool) {
        self.cell.send_if_modified(|state| {
            let news = state.without_ports != is_so;
            if news && is_so {
                tracing::warn!("no local port is left for the nucleus to connect to the cloud by: others hold all of them");
            }
            state.without_ports = is_so;
            news
        });
    }

    /// What AWS IoT does not allow this device.
    pub(crate) fn denied(&self, what: Option<String>) {
        self.cell.send_if_modified(|state| {
            let news = state.denied != what;
            if news && what.is_none() {
                tracing::info!("AWS IoT takes every publish again");
            }
            state.denied = what;
            news
        });
    }

    /// A question was not answered, or nothing can be asked; whether a `nucleus` is there to be asked, and could be connected.
    pub(crate) async fn broken(&self, why: &str, nucleus: bool) {
        self.cell.send_if_modified(|state| {
            let news = state.works || state.problem.as_deref() != Some(why);
            if news {
                tracing::warn!("the control channel does not work: {why}");
                state.works = false;
                state.problem = Some(why.to_owned());
            }
            news
        });
        self.enforcer
            .send(EnforcerCommand::Channel {
                works: false,
                nucleus,
            })
            .await;
    }
}
