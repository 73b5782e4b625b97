//! Which tasks there are, and what each is made from.
//!
//! In: what is shared. Out: every task, started under the supervisor. The order matters to few: the detector listens
//! before the first interval can be closed, and shadow and reporter wait for the lifelines' first addresses by themselves.

use std::sync::{Arc, Mutex};

use tokio::sync::{OnceCell, watch};
use wildmatch::WildMatch;

use super::context::{Connected, Context, ThingName};
use super::control::aside::Aside;
use super::control::server::Server;
use super::host_reader::HostReader;
use super::nucleus_watch::{NucleusSigns, NucleusWatch};
use super::observer::intervals::Intervals;
use super::observer::{ObserveSettings, Observer};
use super::publishing::Publishing;
use super::reporter::{Reporter, memory, questions};
use super::settling::Settling;
use super::supervisor::Supervisor;
use super::without_nucleus::NucleusLook;
use super::{Start, addresses, configuration, detector, dns_feed, shadow, watches, without_nucleus};
use crate::cloud::link::Nucleus;
use crate::config::{CaptureConfig, Config};
use crate::host::capture::Receiver;
use crate::host::clock;
use crate::host::spare::Spare;
use crate::host::worker::Worker;
use crate::quarantine::lifelines::dns_questions::WatchedNames;
use crate::quarantine::lifelines::host_settings::HostSettings;
use crate::quarantine::lifelines::proxy::ProxyUse;
use crate::report::last::LastReport;

/// What the tasks that talk to the nucleus take over from those that do not.
pub(super) struct Local {
    intervals: Intervals,
    questions: questions::ReportCalls,
}

/// Starts what needs no nucleus; `last` is the newest report of the run before, `spare` is for the operator.
pub(super) fn local(
    start: &Start,
    config: &Config,
    last: Option<&LastReport>,
    context: &Context,
    spare: Spare,
    supervisor: &mut Supervisor,
) -> Local {
    let enforcer = context.enforcer.clone();
    supervisor.start("packet-filter-watch", move || {
        watches::packet_filter(enforcer.clone())
    });
    let enforcer = context.enforcer.clone();
    supervisor.start("interface-watch", move || watches::interfaces(enforcer.clone()));

    let observer = Arc::new(Observer::start(observation(&config.capture)));
    let (reports, questions) = questions::open();
    let server = Server {
        socket: start.control_socket.clone(),
        board: context.board.clone(),
        enforcer: context.enforcer.clone(),
        observer: Arc::clone(&observer),
        reports,
        lines: Aside::new("control-lines"),
        lists: Aside::new("control-lists"),
        spare: Arc::new(Mutex::new(spare)),
    };
    supervisor.start("control-socket", move || server.clone().run());

    let since_last = last.map(memory::since);
    let intervals = Intervals::new(observer, config.reporting.interval, since_last);
    // The detector listens before the first interval can be closed.
    let (watched, closed) = (context.clone(), intervals.clone());
    supervisor.start("detector", move || {
        detector::run(watched.clone(), closed.listen())
    });
    let (closing, configs) = (intervals.clone(), context.config.clone());
    supervisor.start("intervals", move || closing.clone().run(configs.clone()));
    Local { intervals, questions }
}

/// Starts what counts the time without a nucleus; none where no nucleus can be tried.
pub(super) fn with_or_without(
    start: &Start,
    context: &Context,
    nucleus: Option<&Nucleus>,
    supervisor: &mut Supervisor,
) {
    let (shared, nucleus, is_stand_in) = (context.clone(), nucleus.cloned(), start.guarded.is_some());
    supervisor.start("without-nucleus", move || {
        let look = NucleusLook::new(nucleus.clone(), is_stand_in);
        without_nucleus::release(shared.clone(), look)
    });
}

/// Starts what talks to the nucleus.
pub(super) fn connected(
    start: &Start,
    context: Context,
    nucleus: Nucleus,
    region: Option<String>,
    publish: watch::Sender<Config>,
    local: Local,
    supervisor: &mut Supervisor,
) {
    let (looked_up, first) = watch::channel(false);
    let connected = Connected {
        publishing: Publishing::new(nucleus.clone(), context.channel.clone()),
        context,
        nucleus,
        thing: ThingName {
            from_environment: start.thing.clone(),
            looked_up: first,
            name: Arc::new(OnceCell::new()),
        },
        is_stand_in: start.guarded.is_some(),
        served_by: Arc::default(),
    };
    let link = connected.clone();
    supervisor.start("nucleus-link", move || watches::nucleus_link(link.clone()));

    let signs = lifelines(&connected, region, looked_up, supervisor);
    let (shared, development, restarts) = (connected.clone(), start.development, signs.clone());
    let keeper = Worker::new("configuration", configuration::KEEP_LIMIT);
    supervisor.start("configuration", move || {
        let follower = configuration::ConfigFollower {
            connected: shared.clone(),
            publish: publish.clone(),
            signs: restarts.clone(),
            development,
            keeper: keeper.clone(),
            settling: Settling::default(),
        };
        follower.run()
    });
    let shared = connected.clone();
    supervisor.start("shadow", move || {
        let shadow = shadow::ShadowTask {
            connected: shared.clone(),
            signs: signs.clone(),
        };
        shadow.run()
    });
    let reporter = Reporter::new(connected, local.intervals, local.questions);
    supervisor.start("reporter", move || reporter.clone().run());
}

/// Starts what keeps the lifelines' addresses fresh and watches the nucleus; gives what is seen of it.
fn lifelines(
    connected: &Connected,
    region: Option<String>,
    looked_up: watch::Sender<bool>,
    supervisor: &mut Supervisor,
) -> watch::Receiver<NucleusSigns> {
    let (watched, names) = watch::channel(WatchedNames::default());
    let asked = Arc::new(dns_feed::AskedNames::default());
    let (ports, control) = watch::channel(None);
    let (signs, seen) = watch::channel(NucleusSigns::default());
    let host = HostReader::new();
    let nucleus = NucleusWatch {
        connected: connected.clone(),
        ports: control,
        signs: Arc::new(signs),
        host: host.clone(),
    };
    supervisor.start("nucleus-watch", move || nucleus.clone().run());
    let (shared, signs, hurried) = (connected.clone(), seen.clone(), Arc::clone(&asked));
    supervisor.start("addresses", move || {
        let resolver = addresses::Resolver {
            connected: shared.clone(),
            region: region.clone(),
            watched: watched.clone(),
            asked: Arc::clone(&hurried),
            ports: ports.clone(),
            signs: signs.clone(),
            looked_up: looked_up.clone(),
            host: host.clone(),
            configured: HostSettings::default(),
            connections: Vec::new(),
            unseen: None,
            detours: Vec::new(),
            proxy: ProxyUse::default(),
            other_way: false,
        };
        resolver.run()
    });
    let enforcer = connected.context.enforcer.clone();
    supervisor.start("dns-questions", move || {
        let feed = dns_feed::DnsFeed {
            watched: names.clone(),
            enforcer: enforcer.clone(),
            asked: Arc::clone(&asked),
        };
        feed.run()
    });
    seen
}

fn observation(capture: &CaptureConfig) -> ObserveSettings {
    ObserveSettings {
        wanted: Arc::new(wanted(capture)),
        receiver: if capture.by_pnet {
            Receiver::Pnet
        } else {
            Receiver::Ring
        },
        promiscuous: capture.promiscuous,
        ..ObserveSettings::all_interfaces(clock::now().wall)
    }
}

fn wanted(capture: &CaptureConfig) -> impl Fn(&str) -> bool + Send + Sync + 'static {
    let patterns = |list: &[String]| {
        list.iter()
            .map(|pattern| WildMatch::new(pattern))
            .collect::<Vec<_>>()
    };
    let (include, exclude) = (patterns(&capture.include), patterns(&capture.exclude));
    move |name| {
        include.iter().any(|pattern| pattern.matches(name))
            && !exclude.iter().any(|pattern| pattern.matches(name))
    }
}
