//! What stands by goes on from what was known last, and says for whom it did; on a packet filter that only counts.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::*;
use crate::config::Config;
use crate::observe::link::Link;
use crate::quarantine::lifelines::ways::Way;
use crate::quarantine::orders::order::{Authority, Limit, Order};
use crate::quarantine::plan::tracked::Crowd;
use crate::quarantine::plan::{Scope, fold};
use crate::quarantine::ports::StoodIn;
use crate::quarantine::proof::canary::CanaryFate;
use crate::quarantine::ruleset::verify::Comparison;
use crate::quarantine::ruleset::{Barred, Barrier, Lack, quota_name};

const QUOTA: u64 = 1_000_000;

/// What the kernel has, and what others do to it.
#[derive(Default)]
struct Told {
    generation: u32,
    /// Somebody changes tables of his own all the time.
    is_restless: bool,
    has_tables: bool,
    counted: CarriedCounters,
    standby: Option<CarriedCounters>,
    stood_in: Option<StoodIn>,
    /// Somebody removes our tables right before the next load stands by.
    is_removed_before_standing_by: bool,
    /// Somebody removes our tables right before they are listed, and they come back when that is done.
    is_removed_before_a_listing: bool,
}

impl Told {
    fn touched(&mut self, name: &str, touched: Option<&str>) -> FilterChange {
        self.generation += 1;
        FilterChange {
            generation: self.generation,
            pid: 1,
            name: name.to_owned(),
            touched: touched.map(str::to_owned),
            is_ours: false,
        }
    }

    /// Somebody removes our tables, and what stands by comes back.
    fn is_removed(&mut self) {
        let after = self.touched("other", Some("removed"));
        let counted = self.standby.take().unwrap();
        self.counted = counted.clone();
        self.generation += 1;
        self.stood_in = Some(StoodIn { after, counted });
    }

    fn uses(&mut self, bytes: u64) {
        self.counted.quotas.values_mut().for_each(|used| *used += bytes);
    }

    fn used(&self) -> u64 {
        self.counted.quotas.values().sum()
    }
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Told>>);

impl Fake {
    fn with<T>(&self, what: impl FnOnce(&mut Told) -> T) -> T {
        what(&mut self.0.lock().unwrap())
    }

    fn takes(&self, counted: &CarriedCounters) {
        self.with(|told| {
            told.generation += 1;
            told.has_tables = true;
            told.counted = counted.clone();
            told.standby = None;
        });
    }
}

impl PacketFilter for Fake {
    async fn generation(&mut self) -> Result<u32, Obstacle> {
        Ok(self.with(|told| {
            told.generation += u32::from(told.is_restless);
            told.generation
        }))
    }

    fn note_settled(&mut self, _: u32) {}

    async fn tables(&mut self) -> Result<BTreeSet<Layer>, Obstacle> {
        let has = self.with(|told| told.has_tables);
        Ok(has.then_some(Layer::Inet).into_iter().collect())
    }

    async fn lacks(&mut self, _loudly: bool) -> Result<Vec<Lack>, Obstacle> {
        Ok(Vec::new())
    }

    async fn try_out(&mut self) -> Result<(), Obstacle> {
        Ok(())
    }

    async fn compare(
        &mut self,
        _: &BTreeSet<Layer>,
        _: &Arc<Ruleset>,
        _: Option<&Arc<Ruleset>>,
        _: Now,
    ) -> Result<Comparison, Obstacle> {
        let removed = self.with(|told| {
            let removed = std::mem::take(&mut told.is_removed_before_a_listing);
            if removed {
                told.is_removed();
            }
            removed
        });
        let missing = removed.then(|| "it is not there".to_owned());
        Ok(Comparison {
            differences: missing.into_iter().collect(),
            is_as_before: !removed,
            is_before: false,
        })
    }

    async fn load(&mut self, _: &Arc<Ruleset>, counted: &CarriedCounters, _: Now) -> Result<(), Obstacle> {
        self.takes(counted);
        Ok(())
    }

    async fn change(
        &mut self,
        _: &Arc<Ruleset>,
        _: &Arc<Ruleset>,
        counted: &CarriedCounters,
        _: u32,
        _: Now,
    ) -> Result<(), Obstacle> {
        self.takes(counted);
        Ok(())
    }

    async fn stand_by(
        &mut self,
        _: &Arc<Ruleset>,
        counted: &CarriedCounters,
        _: Now,
    ) -> Result<(), Obstacle> {
        self.with(|told| {
            if std::mem::take(&mut told.is_removed_before_standing_by) {
                told.is_removed();
            }
            told.standby = Some(counted.clone());
        });
        Ok(())
    }

    fn withdraw_standby(&mut self) {
        self.with(|told| told.standby = None);
    }

    fn stood_in(&mut self) -> Option<StoodIn> {
        self.with(|told| told.stood_in.take())
    }

    async fn counted(&mut self) -> Result<CarriedCounters, Obstacle> {
        Ok(self.with(|told| told.counted.clone()))
    }

    async fn egress_devices(&mut self) -> Result<BTreeSet<String>, Obstacle> {
        Ok(BTreeSet::new())
    }

    async fn interfaces(&mut self) -> Result<(Vec<Link>, usize), String> {
        Ok((Vec::new(), 0))
    }

    async fn ways(&mut self, _: &BTreeSet<IpAddr>) -> Result<Reached, String> {
        Ok(Reached::default())
    }

    async fn meet_next_hops(&mut self, _: &[Way]) {}

    async fn crowd(&mut self) -> Option<Crowd> {
        None
    }

    /// No order may depend on it where nothing of ours is known to be there.
    async fn bar(&mut self, _: Option<&Barrier>) -> Result<Barred, Obstacle> {
        let why = "nobody answers".to_owned();
        Err(Obstacle::NotBarred { why })
    }

    async fn send_canary(&mut self, _: SocketAddr) -> CanaryFate {
        CanaryFate::Refused
    }
}

/// An isolated device with a quota.
struct Limited {
    kernel: Fake,
    keeper: FilterKeeper<Fake>,
    mission: Mission,
    now: Now,
}

impl Limited {
    async fn new() -> Self {
        let wall = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut order = Order::isolate(Authority::Shadow, "q", None, wall);
        order.limit = Some(Limit {
            egress_bytes_per_second: None,
            quota_bytes: Some(QUOTA),
            quota_period_seconds: Some(3_600),
        });
        let settings = Config::defaults().isolation.settings;
        let plan = fold(&[order], &settings, Vec::new(), Scope::Pinned, wall);
        let since = plan.limits[0].quota.unwrap().since;
        let quota = (Layer::Inet, quota_name(&plan.limits[0].order, since));
        let kernel = Fake::default();
        let mut limited = Self {
            keeper: FilterKeeper::restore(kernel.clone(), &Journal::default()),
            kernel,
            mission: Mission {
                plan,
                effect: CutAction::Cut,
            },
            now: Now {
                wall,
                uptime: Duration::from_secs(9),
            },
        };
        limited.pass().await;
        limited.kernel.with(|told| {
            assert_eq!(told.counted.quotas.get(&quota), Some(&0), "control: loaded");
            assert!(told.standby.is_some(), "control: it stands by");
        });
        limited
    }

    async fn pass(&mut self) {
        let isolation = Config::defaults().isolation;
        let held = self.keeper.bring(&self.mission, &isolation, self.now).await;
        held.unwrap();
        self.now.uptime += Duration::from_secs(1);
    }

    fn known(&self) -> u64 {
        self.keeper.tally.quotas.iter().map(|quota| quota.used).sum()
    }

    /// Who had our rules put back, each time.
    fn hands(&mut self) -> Vec<Option<String>> {
        let news = self.keeper.take_news().into_iter();
        let hands = news.filter_map(|event| match event {
            Event::Reasserted { by, .. } => Some(by.map(|by| by.name)),
            _ => None,
        });
        hands.collect()
    }
}

#[tokio::test]
async fn what_was_read_of_a_quota_is_not_given_anew_while_others_change_their_tables() {
    for is_restless in [false, true] {
        let mut limited = Limited::new().await;
        limited.kernel.with(|told| told.is_restless = is_restless);
        for _ in 0..3 {
            limited.kernel.with(|told| told.uses(100_000));
            limited.pass().await;
        }
        assert_eq!(limited.known(), 300_000, "control: it was read");
        limited.kernel.with(Told::is_removed);
        limited.pass().await;
        let used = limited.kernel.with(|told| told.used());
        assert_eq!(
            (limited.known(), used),
            (300_000, 300_000),
            "restless: {is_restless}"
        );
    }
}

#[tokio::test]
async fn what_is_used_counts_once_where_tables_go_between_a_reading_and_what_stands_by_for_it() {
    let mut limited = Limited::new().await;
    limited.kernel.with(|told| told.uses(90_000));
    limited.pass().await;
    limited.hands();
    limited.kernel.with(|told| {
        told.uses(10_000);
        told.is_removed_before_standing_by = true;
    });
    limited.pass().await;
    limited.kernel.with(|told| {
        assert_eq!(told.used(), 90_000, "control: what stood by before came back");
        told.uses(5_000);
    });
    limited.pass().await;
    let used = limited.kernel.with(|told| told.used());
    assert!(
        (95_000..=105_000).contains(&used),
        "{used} bytes used of 105000 sent"
    );
    assert_eq!(limited.hands(), [Some("other".to_owned())], "once");
}

#[tokio::test]
async fn who_touched_our_tables_is_told_and_not_who_changed_others_afterwards() {
    let mut limited = Limited::new().await;
    limited.hands();
    let changes = limited.kernel.with(|told| {
        told.standby = None;
        [
            told.touched("intruder", Some("removed rule")),
            told.touched("bystander", None),
        ]
    });
    for change in changes {
        limited.keeper.note_change(Some(change));
    }
    limited.pass().await;
    assert_eq!(limited.hands(), [Some("intruder".to_owned())]);
}

#[tokio::test]
async fn a_load_of_ours_that_is_told_of_late_is_nobodys_hand() {
    let told_of = async |is_ours| {
        let mut limited = Limited::new().await;
        limited.hands();
        let change = limited.kernel.with(|told| {
            told.standby = None;
            told.touched("packet-filter", Some("added rule"))
        });
        limited
            .keeper
            .note_change(Some(FilterChange { is_ours, ..change }));
        limited.pass().await;
        limited.hands()
    };
    assert_eq!(
        told_of(false).await,
        [Some("packet-filter".to_owned())],
        "control"
    );
    assert_eq!(told_of(true).await, [], "by us");
}

#[tokio::test]
async fn a_hand_that_a_listing_finds_and_that_what_stood_by_made_good_counts_once() {
    let mut limited = Limited::new().await;
    limited.kernel.with(|told| told.uses(70_000));
    limited.pass().await;
    limited.hands();
    limited.kernel.with(|told| {
        // Something else was changed, so the tables are listed.
        told.touched("bystander", None);
        told.is_removed_before_a_listing = true;
    });
    limited.pass().await;
    assert_eq!(limited.hands().len(), 1, "one hand");
    limited.kernel.with(|told| told.uses(5_000));
    limited.pass().await;
    let used = limited.kernel.with(|told| told.used());
    assert_eq!((limited.known(), used), (75_000, 75_000), "and no byte twice");
    assert!(limited.hands().is_empty());
}
