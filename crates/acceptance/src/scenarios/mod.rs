//! What is shown, one scenario a row and round trip.
//!
//! In: a [`Scene`]. Out: [`Seen`]. The names of facts (C1 …) are those of the classic nucleus' list in the issue, N1 … those
//! of lite's, I15 the way out; `demo` is what `cargo xtask demo` tells.

mod channel;
mod deaths;
mod denied;
mod installs;
mod lite;
mod orders;
mod stops;
mod way_out;

use std::time::Duration;

use crate::bed::{Kind, Setup};
use crate::error::Trouble;
use crate::scene::{Scene, Seen};

/// Within which an order has to be obeyed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// Two round trips and a second.
    RoundTrips,
    Fixed(Duration),
}

impl Limit {
    pub(crate) fn at(self, round_trip: Duration) -> Duration {
        match self {
            Self::RoundTrips => Scene::two_round_trips(round_trip),
            Self::Fixed(limit) => limit,
        }
    }
}

/// One row of the table, or one a round trip.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) fact: &'static str,
    pub(crate) limit: Limit,
    /// Whether the round trip matters.
    pub(crate) every_round_trip: bool,
    pub(crate) beds: &'static [Kind],
    pub(crate) run: fn(&mut Scene<'_>) -> Result<Seen, Trouble>,
    /// How its own nucleus is set up otherwise; none where it shares one.
    pub(crate) own: Option<fn(&mut Setup)>,
}

const ALL_BEDS: &[Kind] = &[Kind::StandIn, Kind::Real, Kind::Lite];
const BOTH: &[Kind] = &[Kind::StandIn, Kind::Real];
const REAL: &[Kind] = &[Kind::Real];
const REAL_AND_LITE: &[Kind] = &[Kind::Real, Kind::Lite];
const LITE: &[Kind] = &[Kind::Lite];
/// After a dead nucleus.
const DEAD_NUCLEUS: Limit = Limit::Fixed(Duration::from_secs(5));
/// After a link or a broker is back, counted from the nucleus' own recovery.
const LINK_BACK: Limit = Limit::Fixed(Duration::from_secs(10));

/// All of them, in the order in which they run.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "orders by shadow: true, false, object, null, delete",
        fact: "demo",
        limit: Limit::RoundTrips,
        every_round_trip: true,
        beds: ALL_BEDS,
        run: orders::by_shadow,
        own: None,
    },
    Scenario {
        name: "publish at the broker until read back and proven, 20 each",
        fact: "demo",
        limit: Limit::Fixed(Duration::from_secs(1)),
        every_round_trip: false,
        beds: ALL_BEDS,
        run: orders::to_the_proof,
        own: None,
    },
    Scenario {
        name: "orders by local deployment: true, false",
        fact: "demo",
        limit: Limit::RoundTrips,
        every_round_trip: false,
        beds: ALL_BEDS,
        run: orders::by_deployment,
        own: None,
    },
    Scenario {
        name: "orders at the device: quarantine, release",
        fact: "demo",
        limit: Limit::RoundTrips,
        every_round_trip: false,
        beds: ALL_BEDS,
        run: orders::by_operator,
        own: None,
    },
    Scenario {
        name: "a Defender report is sent and accepted",
        fact: "demo",
        limit: Limit::Fixed(Duration::from_secs(10)),
        every_round_trip: false,
        beds: ALL_BEDS,
        run: orders::report,
        own: None,
    },
    Scenario {
        name: "a key left out of a merge stays; `false` ends it",
        fact: "C7",
        limit: Limit::RoundTrips,
        every_round_trip: false,
        beds: ALL_BEDS,
        run: orders::merge_without_key,
        own: None,
    },
    Scenario {
        name: "an order in a list replaces the one before, its allowances too; an empty list ends it",
        fact: "C8",
        limit: Limit::Fixed(Duration::from_secs(5)),
        every_round_trip: false,
        beds: ALL_BEDS,
        run: orders::list_replaced,
        own: None,
    },
    Scenario {
        name: "no untrue warning at the start",
        fact: "C12",
        limit: Limit::RoundTrips,
        every_round_trip: false,
        beds: ALL_BEDS,
        run: orders::warnings_at_start,
        own: None,
    },
    Scenario {
        name: "agent killed, order 0, 1 and 3 s after its successor's start",
        fact: "C2",
        limit: Limit::RoundTrips,
        every_round_trip: true,
        beds: ALL_BEDS,
        run: deaths::agent_killed,
        own: None,
    },
    Scenario {
        name: "component restarted while isolated, order 0, 1 and 3 s after its successor's start",
        fact: "C2",
        limit: Limit::RoundTrips,
        every_round_trip: true,
        beds: REAL_AND_LITE,
        run: deaths::component_restarted,
        own: None,
    },
    Scenario {
        name: "shadow.refreshSeconds changed by a deployment, then an order",
        fact: "C3",
        limit: Limit::RoundTrips,
        every_round_trip: true,
        beds: ALL_BEDS,
        run: channel::refresh_changed,
        own: None,
    },
    Scenario {
        name: "shadow renamed by a deployment, order 0, 1 and 3 s after the agent took it over",
        fact: "C3",
        limit: Limit::RoundTrips,
        every_round_trip: true,
        beds: ALL_BEDS,
        run: channel::shadow_renamed,
        own: None,
    },
    Scenario {
        name: "link cut, order at the nucleus' own reconnect",
        fact: "C10",
        limit: Limit::RoundTrips,
        every_round_trip: true,
        beds: ALL_BEDS,
        run: channel::link_cut,
        own: None,
    },
    Scenario {
        name: "nucleus killed by signal 9 while isolated, order when the new one is up",
        fact: "C1",
        limit: DEAD_NUCLEUS,
        every_round_trip: true,
        beds: BOTH,
        run: deaths::nucleus_killed,
        own: None,
    },
    Scenario {
        name: "nucleus stopped and started again while isolated",
        fact: "demo",
        limit: DEAD_NUCLEUS,
        every_round_trip: false,
        beds: REAL,
        run: deaths::nucleus_restarted,
        own: None,
    },
    Scenario {
        name: "three deaths of the agent within an hour, then an order",
        fact: "C9",
        limit: DEAD_NUCLEUS,
        every_round_trip: false,
        beds: ALL_BEDS,
        run: deaths::three_deaths,
        own: None,
    },
    Scenario {
        name: "component stopped while names do not resolve: seconds until its process is gone",
        fact: "C4",
        limit: Limit::Fixed(Duration::from_secs(1)),
        every_round_trip: false,
        beds: REAL_AND_LITE,
        run: stops::names_do_not_resolve,
        own: None,
    },
    Scenario {
        name: "broker away for 20 s, order at its return",
        fact: "C10",
        limit: LINK_BACK,
        every_round_trip: false,
        beds: ALL_BEDS,
        run: channel::broker_away,
        own: None,
    },
    Scenario {
        name: "broker back without its memory, order at its return",
        fact: "C10",
        limit: LINK_BACK,
        every_round_trip: false,
        beds: ALL_BEDS,
        run: channel::broker_forgets,
        own: None,
    },
    Scenario {
        name: "black hole of 20 s, order within it",
        fact: "C10",
        limit: LINK_BACK,
        every_round_trip: false,
        beds: ALL_BEDS,
        run: channel::black_hole,
        own: None,
    },
    Scenario {
        name: "our client id taken by another client 12 times, order meanwhile",
        fact: "C10",
        limit: LINK_BACK,
        every_round_trip: false,
        beds: ALL_BEDS,
        run: channel::id_taken,
        own: None,
    },
    Scenario {
        name: "the same version deployed again while isolated, then an order",
        fact: "N1",
        limit: DEAD_NUCLEUS,
        every_round_trip: false,
        beds: LITE,
        run: lite::deployed_again,
        own: None,
    },
    Scenario {
        name: "shadow with 60 more keys: orders, agent restarted with `false`, an object",
        fact: "N2",
        limit: LINK_BACK,
        every_round_trip: false,
        beds: LITE,
        run: lite::large_shadow,
        own: None,
    },
    Scenario {
        name: "ggconfigd restarted, then orders by local deployment",
        fact: "N5",
        limit: DEAD_NUCLEUS,
        every_round_trip: false,
        beds: LITE,
        run: lite::ggconfigd,
        own: None,
    },
    Scenario {
        name: "iotcored killed or restarted, then an order at once, twice each",
        fact: "N6",
        limit: DEAD_NUCLEUS,
        every_round_trip: false,
        beds: LITE,
        run: lite::iotcored,
        own: None,
    },
    Scenario {
        name: "ggipcd killed or restarted, then an order at once, twice each",
        fact: "N6",
        limit: DEAD_NUCLEUS,
        every_round_trip: false,
        beds: LITE,
        run: lite::ggipcd,
        own: None,
    },
    Scenario {
        name: "all daemons restarted, then an order at once",
        fact: "N6",
        limit: DEAD_NUCLEUS,
        every_round_trip: false,
        beds: LITE,
        run: lite::all_daemons,
        own: None,
    },
    Scenario {
        name: "agent killed until its unit has failed, then orders",
        fact: "N9",
        limit: DEAD_NUCLEUS,
        every_round_trip: false,
        beds: LITE,
        run: lite::killed_until_failed,
        own: None,
    },
    Scenario {
        name: "unit and files of the component gone while isolated, then orders",
        fact: "N9",
        limit: DEAD_NUCLEUS,
        every_round_trip: false,
        beds: LITE,
        run: lite::component_gone,
        own: None,
    },
    Scenario {
        name: "publish to shadow/get denied: disconnects in 60 s",
        fact: "C14",
        limit: denied::LIMIT,
        every_round_trip: false,
        beds: ALL_BEDS,
        run: |scene| denied::topic(scene, "$aws/things/+/shadow/get"),
        own: None,
    },
    Scenario {
        name: "publish to shadow/update denied: disconnects in 60 s",
        fact: "C14",
        limit: denied::LIMIT,
        every_round_trip: false,
        beds: ALL_BEDS,
        run: |scene| denied::topic(scene, "$aws/things/+/shadow/update"),
        own: None,
    },
    Scenario {
        name: "publish of reports denied: disconnects in 60 s",
        fact: "C14",
        limit: denied::LIMIT,
        every_round_trip: false,
        beds: REAL_AND_LITE,
        run: |scene| denied::reports(scene, "$aws/things/+/defender/metrics/+"),
        own: Some(installs::empty),
    },
    Scenario {
        name: "first deployment: from its end until the channel works",
        fact: "demo",
        limit: Limit::Fixed(Duration::from_secs(5)),
        every_round_trip: false,
        beds: REAL_AND_LITE,
        run: installs::first_deployment,
        own: Some(installs::empty),
    },
    Scenario {
        name: "first deployment rolled back while the shadow says `true`; then `false`, else release at the device",
        fact: "C5",
        limit: LINK_BACK,
        every_round_trip: false,
        beds: REAL,
        run: installs::first_rolled_back,
        own: Some(installs::empty),
    },
    Scenario {
        name: "first deployment, which orders isolation, rolled back: stays isolated; then release at the device",
        fact: "C5",
        limit: LINK_BACK,
        every_round_trip: false,
        beds: REAL,
        run: installs::order_rolled_back,
        own: Some(installs::empty),
    },
    Scenario {
        name: "component user changes the artifact: is its program run as root?",
        fact: "C6",
        limit: LINK_BACK,
        every_round_trip: false,
        beds: REAL,
        run: installs::artifact_replaced,
        own: Some(installs::component_user),
    },
    Scenario {
        name: "behind a proxy: orders, and the endpoint's own address closed",
        fact: "C13",
        limit: Limit::RoundTrips,
        every_round_trip: false,
        beds: REAL,
        run: installs::behind_proxy,
        own: Some(installs::through_proxy),
    },
    Scenario {
        name: "agent killed; release at the device at once; again, by the shadow",
        fact: "I15",
        limit: Limit::Fixed(way_out::LIMIT),
        every_round_trip: false,
        beds: ALL_BEDS,
        run: way_out::agent_killed,
        own: None,
    },
    Scenario {
        name: "agent stopped by a signal; release at the device",
        fact: "I15",
        limit: Limit::Fixed(way_out::LIMIT),
        every_round_trip: false,
        beds: ALL_BEDS,
        run: way_out::agent_stopped,
        own: None,
    },
    Scenario {
        name: "agent hangs, its cgroup frozen; release at the device",
        fact: "I15",
        limit: Limit::Fixed(way_out::LIMIT),
        every_round_trip: false,
        beds: ALL_BEDS,
        run: way_out::agent_hangs,
        own: None,
    },
    Scenario {
        name: "nucleus gone for ever; release at the device",
        fact: "I15",
        limit: Limit::Fixed(way_out::LIMIT),
        every_round_trip: false,
        beds: ALL_BEDS,
        run: way_out::nucleus_gone,
        own: None,
    },
    Scenario {
        name: "broker gone; release at the device; again, by the shadow when it is back",
        fact: "I15",
        limit: Limit::Fixed(way_out::LIMIT),
        every_round_trip: false,
        beds: ALL_BEDS,
        run: way_out::broker_gone,
        own: None,
    },
    Scenario {
        name: "three deaths of the agent; release at the device at once; again, by the shadow",
        fact: "I15",
        limit: Limit::Fixed(way_out::LIMIT),
        every_round_trip: false,
        beds: ALL_BEDS,
        run: way_out::three_deaths,
        own: None,
    },
    Scenario {
        name: "artifact replaced, then agent killed; release at the device; again, by the shadow",
        fact: "I15",
        limit: Limit::Fixed(way_out::LIMIT),
        every_round_trip: false,
        beds: ALL_BEDS,
        run: way_out::artifact_replaced,
        own: None,
    },
    Scenario {
        name: "artifact gone, then agent killed; release at the device; again, by the shadow",
        fact: "I15",
        limit: Limit::Fixed(way_out::LIMIT),
        every_round_trip: false,
        beds: ALL_BEDS,
        run: way_out::artifact_gone,
        own: None,
    },
    Scenario {
        name: "an earlier version deployed; release at the device; again, by the shadow",
        fact: "I15",
        limit: Limit::Fixed(way_out::LIMIT),
        every_round_trip: false,
        beds: ALL_BEDS,
        run: way_out::downgrade,
        own: None,
    },
    Scenario {
        name: "deployment of a later version rolled back; release at the device; again, by the shadow",
        fact: "I15",
        limit: Limit::Fixed(way_out::LIMIT),
        every_round_trip: false,
        beds: BOTH,
        run: way_out::rollback,
        own: None,
    },
];
