//! Filters of `tc` in place of the egress hook of interfaces, where the kernel has none for rules (before Linux 5.16).
//!
//! In: what the kernel has there, tried out once and then from time to time where the hook is missing; the mission. Out: the mark that rules
//! give, and filters that drop what has none, listed as they were made. An isolation has both or neither: the filters come behind the
//! rules, and go before them. Who takes them away is told like whoever touches our tables. Absent: restrictions, which leave the owner's marks
//! alone.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use super::{FilterKeeper, KernelTouch, Mission, one};
use crate::config::IsolationConfig;
use crate::moment::Now;
use crate::observe::decode::LinkKind;
use crate::observe::link::Link;
use crate::quarantine::lifelines::ways::InterfaceName;
use crate::quarantine::orders::order::Posture;
use crate::quarantine::plan::Plan;
use crate::quarantine::ports::PacketFilter;
use crate::quarantine::proof::obstacle::Obstacle;
use crate::quarantine::ruleset::{BarredDevice, Barrier, EgressDevice, EgressMeans, Hooks, Layer};

/// How long it is believed that the hook is missing, or that this cannot be tried out: somebody may load a module.
const BELIEVE: Duration = Duration::from_secs(3_600);
/// From which kernel on there is a hook.
const NEEDED: &str = "Linux 5.16 or newer is needed";

/// What is known of the egress of interfaces, and what is held there.
pub(super) struct Barring {
    means: Option<EgressMeans>,
    /// When it was tried out.
    tried: Option<Duration>,
    mark: Option<u32>,
    /// Filters of ours may be there: an earlier agent may have left some.
    may_be_held: bool,
    /// What the kernel was last seen to hold.
    held: Option<Barrier>,
    /// What passes it, each a sentence.
    uncovered: Vec<String>,
    /// The owner wants frames past the IP stack to be cut.
    is_wanted: bool,
}

impl Default for Barring {
    fn default() -> Self {
        Self {
            means: None,
            tried: None,
            mark: None,
            may_be_held: true,
            held: None,
            uncovered: Vec::new(),
            is_wanted: false,
        }
    }
}

impl Barring {
    /// Whether it is to be tried out: what was there stays, the hook or what can stand in for it.
    fn is_due(&self, now: Duration) -> bool {
        let has = |means: &EgressMeans| means.refusal.is_none() || means.barrier.is_ok();
        let is_known = self.means.as_ref().is_some_and(has);
        !is_known
            && self
                .tried
                .is_none_or(|tried| now.saturating_sub(tried) >= BELIEVE)
    }

    /// Whether filters can bound what has no mark; none where there can be no filters, or need not be.
    fn bounds(&self) -> Option<bool> {
        let means = self.means.as_ref().filter(|means| means.refusal.is_some())?;
        means.barrier.as_ref().ok().copied()
    }

    /// What is not cut because the hook is missing, for that reason; `isolates`: none where nothing is ordered.
    fn words(&self, why: &str, isolates: Option<bool>) -> String {
        let raw = "frames sent past the IP stack are not cut";
        let round = "where their sender goes round the queues of an interface (PACKET_QDISC_BYPASS)";
        match self.means.as_ref().map(|means| &means.barrier) {
            None => format!("{raw}: {why}"),
            Some(Err(no_filters)) => {
                format!("{raw}: {NEEDED} ({why}), and filters of tc cannot stand in ({no_filters})")
            }
            Some(Ok(_)) => match isolates {
                Some(true) => format!("{raw} {round}: {NEEDED} ({why})"),
                Some(false) => format!("{raw} in a restriction: {NEEDED} ({why})"),
                None => format!("{raw} in a restriction, nor in an isolation {round}: {NEEDED} ({why})"),
            },
        }
    }
}

/// A number that nobody can guess, never 0, which is no mark: of the standard library's keys, which are the kernel's random numbers.
fn secret() -> u32 {
    let [a, b, c, d, ..] = RandomState::new().build_hasher().finish().to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d]).max(1)
}

/// The interfaces whose egress is to be filtered, as filters of `tc` must know them.
fn barred_devices((links, wanted): (&[Link], &Hooks)) -> Vec<BarredDevice> {
    let device = |device: &EgressDevice| {
        let link = links.iter().find(|link| link.index == device.index)?;
        let name = InterfaceName::new(&link.name);
        // A member of a bond may speak as what it was made as, which nothing lists.
        let is_member = name.is_some_and(|name| wanted.members.contains(&name));
        let called = wanted.hardware.iter();
        let called = called.filter(|bearer| !is_member && Some(bearer.interface) == name);
        Some(BarredDevice {
            name: device.name.clone(),
            index: device.index,
            ethernet: link.kind == LinkKind::Ethernet,
            passes_on: name.is_some_and(|name| wanted.passing.contains(&name)),
            hardware: called.map(|bearer| bearer.hardware).collect(),
        })
    };
    wanted.egress.iter().filter_map(device).collect()
}

impl<F: PacketFilter> FilterKeeper<F> {
    /// Makes the kernel hold the mission, with filters in place of a hook that it lacks.
    ///
    /// # Errors
    /// As [`FilterKeeper::bring`].
    pub(super) async fn hold_barred(
        &mut self,
        mission: &Mission,
        isolation: &IsolationConfig,
        now: Now,
    ) -> Result<KernelTouch, Vec<Obstacle>> {
        self.barring.is_wanted = isolation.raw_frames;
        let isolates = mission.cuts() && mission.plan.posture == Posture::Isolate;
        if isolates && self.barring.tried.is_none() {
            // What an earlier agent holds there is not to be taken away for a moment.
            self.try_egress(now, true).await;
        }
        let mut touch = self.hold(mission, isolation, now).await?;
        if isolates && self.layers.lacks_egress() && self.barring.is_due(now.uptime) {
            self.try_egress(now, false).await;
            if self.barring.bounds().is_some() {
                touch = self.hold(mission, isolation, now).await?;
            }
        } else if mission.plan.is_normal() && self.barring.is_wanted && self.barring.is_due(now.uptime) {
            self.try_egress(now, false).await;
        }
        let held = self.held.as_ref();
        let is_marked = held.is_some_and(|held| held.ruleset.table(Layer::Arp).is_some());
        if let Some(mark) = self.barring.mark.filter(|_| is_marked) {
            self.hold_barrier(mark, &mission.plan).await.map_err(one)?;
        }
        Ok(touch)
    }

    async fn try_egress(&mut self, now: Now, only_old: bool) {
        let means = self.kernel.egress_means(only_old).await;
        if means.is_none() && only_old {
            return;
        }
        self.barring.tried = Some(now.uptime);
        // What could not be tried out again is as it was.
        let Some(means) = means else { return };
        if let Some(refusal) = &means.refusal {
            tracing::info!("the egress of interfaces takes no rules: {refusal}");
        }
        self.layers.note_hook(means.refusal.clone());
        self.barring.means = Some(means);
    }

    /// The mark that rules give; another one each time that somebody is isolated.
    pub(super) fn mark(&mut self, mission: &Mission) -> Option<u32> {
        let isolates = mission.cuts() && mission.plan.posture == Posture::Isolate;
        let wanted = isolates && self.layers.lacks_egress() && self.barring.bounds().is_some();
        if !wanted {
            return None;
        }
        Some(*self.barring.mark.get_or_insert_with(secret))
    }

    /// Takes the filters away, before what they let pass is marked no more. Where it is not known of any, a kernel that cannot be
    /// asked for them holds no order up, and is asked again.
    ///
    /// # Errors
    /// The kernel cannot be told to take away what it holds.
    pub(super) async fn unbar(&mut self) -> Result<(), Obstacle> {
        if self.barring.may_be_held {
            match self.kernel.bar(None).await {
                Err(obstacle) if self.barring.mark.is_none() => {
                    tracing::debug!(
                        "filters of tc that an earlier agent may have left are not looked for: {obstacle}"
                    );
                }
                other => {
                    other?;
                    self.barring.may_be_held = false;
                }
            }
        }
        self.barring.mark = None;
        self.barring.held = None;
        self.barring.uncovered.clear();
        Ok(())
    }

    async fn hold_barrier(&mut self, mark: u32, plan: &Plan) -> Result<(), Obstacle> {
        let barrier = Barrier {
            mark,
            devices: barred_devices(self.layers.wanted()),
            bounds: self.barring.bounds().unwrap_or_default(),
            leases: plan.lifelines.dhcp,
            sessions: self.layers.has_sessions(),
        };
        self.barring.may_be_held = true;
        let barred = self.kernel.bar(Some(&barrier)).await?;
        if !barred.differs.is_empty() {
            self.barring.held = None;
            let names = barred.differs.join(", ");
            let why = format!("the kernel lists other filters at the egress of {names} than it was given");
            return Err(Obstacle::NotBarred { why });
        }
        let before = self.barring.held.as_ref();
        let as_before = |device: &BarredDevice| {
            before.is_some_and(|before| {
                before.devices.contains(device)
                    && (before.mark, before.bounds, before.leases, before.sessions)
                        == (barrier.mark, barrier.bounds, barrier.leases, barrier.sessions)
            })
        };
        let put_on = |device: &&BarredDevice| barred.put_on.iter().any(|(index, _)| *index == device.index);
        let touched = barrier
            .devices
            .iter()
            .filter(put_on)
            .filter(|device| as_before(device));
        let touched: Vec<&str> = touched.map(|device| device.name.as_str()).collect();
        if !touched.is_empty() {
            let posture = self.posture;
            // Who has done it the kernel does not tell: whoever changed a table last has not.
            self.note_unknown_hand(&format!("our tc filters at the egress of {}", touched.join(", ")));
            self.posture = posture;
        }
        self.barring.held = Some(barrier);
        let refused = barred.refused.into_iter();
        let refused =
            refused.map(|(name, why)| format!("frames sent past the IP stack are not cut on {name}: {why}"));
        self.barring.uncovered = refused.chain(barred.uncovered).collect();
        Ok(())
    }

    /// What this kernel cannot cut, each a sentence.
    pub(in crate::agent::enforcer) fn gaps(&self, plan: &Plan) -> Vec<String> {
        if plan.is_normal() {
            let refusal = self
                .barring
                .means
                .as_ref()
                .and_then(|means| means.refusal.as_deref());
            let wanted = refusal.filter(|_| self.barring.is_wanted);
            let raw = wanted.map(|why| self.barring.words(why, None));
            return raw.into_iter().chain(self.layers.foreseen()).collect();
        }
        let isolates = plan.posture == Posture::Isolate;
        let told = self
            .layers
            .uncovered(&|why| self.barring.words(why, Some(isolates)));
        let mut told: Vec<String> = told.into_iter().chain(plan.untied()).collect();
        if let Some(barrier) = self.barring.held.as_ref().filter(|_| isolates) {
            told.extend(self.barring.uncovered.iter().cloned());
            if !barrier.bounds {
                told.push("what links need, sent past the IP stack, passes without a bound: this kernel has no policing of tc".to_owned());
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_as_it_is() {
        let mut barring = Barring::default();
        assert_eq!(
            barring.words("no", Some(true)),
            "frames sent past the IP stack are not cut: no"
        );
        let mut means = EgressMeans {
            refusal: Some("no".to_owned()),
            barrier: Err("none".to_owned()),
        };
        barring.means = Some(means.clone());
        assert!(barring.bounds().is_none() && barring.words("no", None).ends_with("(none)"));
        means.barrier = Ok(false);
        barring.means = Some(means);
        assert_eq!(barring.bounds(), Some(false));
        assert!(barring.words("no", Some(true)).contains("PACKET_QDISC_BYPASS"));
        assert!(
            barring
                .words("no", Some(false))
                .contains("in a restriction: Linux 5.16")
        );
        barring.means = Some(EgressMeans::default());
        assert!(
            barring.bounds().is_none() && !barring.is_due(BELIEVE * 9),
            "there is a hook"
        );
    }

    #[test]
    fn two_secrets_differ() {
        assert!(secret() != secret() || secret() != secret());
    }
}
