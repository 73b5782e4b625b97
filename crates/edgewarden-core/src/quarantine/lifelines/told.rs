//! What is told of the lifelines' addresses: those that are missing, and those that came and went while something is cut.
//!
//! In: the addresses that pass, `now` (uptime). Out: sentences; texts for a record. Bounded: a record is made once a minute at
//! most, of so many addresses; what changes more often is told together. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::lifeline::{Endpoint, Lifelines, Purpose};
use super::origin::{LifelineAddress, Origin};
use crate::Gather;
use crate::quarantine::orders::order::Protocol;

/// From one record to the next: a name that rotates its addresses must not fill the history.
const PAUSE: Duration = Duration::from_secs(60);
/// Texts in one record, as many as one keeps.
const MAX_TEXTS: usize = 8;
/// Records at a time: twice the addresses of a device with every lifeline.
const MAX_RECORDS: usize = 8;

/// Lifelines that are on and have no address, each a sentence.
pub fn missing(on: &Lifelines, known: &[LifelineAddress]) -> Vec<String> {
    let has = |purpose| known.iter().any(|known| known.endpoint.purpose == purpose);
    let wanted = Purpose::ALL.into_iter().filter(|purpose| on.wants(*purpose));
    let without = wanted.filter(|purpose| !has(*purpose));
    without
        .map(|purpose| format!("{}: no address is known", purpose.words()))
        .collect()
}

/// Addresses that came, and those that went.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LifelineNews {
    pub opened: Vec<String>,
    pub closed: Vec<String>,
}

/// What was told, each with who said so.
#[derive(Debug, Default)]
pub struct ToldLifelines {
    known: BTreeMap<Endpoint, Origin>,
    last: Option<Duration>,
}

/// An address of a purpose.
type Place = (Purpose, IpAddr);

impl ToldLifelines {
    /// These addresses pass: what of that is news, a record each. What there is no room for is told by the next ones.
    pub fn news(&mut self, passing: &[LifelineAddress], now: Duration) -> Vec<LifelineNews> {
        if self.last.is_some_and(|last| now.saturating_sub(last) < PAUSE) {
            return Vec::new();
        }
        let ends: BTreeSet<Endpoint> = passing.iter().map(|one| one.endpoint).in_set();
        let gone = self.known.iter().filter(|(end, _)| !ends.contains(end));
        let gone = gone.map(|(endpoint, origin)| LifelineAddress {
            endpoint: *endpoint,
            origin: origin.clone(),
            used: false,
        });
        let mut closed = by_place(gone);
        let is_news = |one: &&LifelineAddress| !self.known.contains_key(&one.endpoint);
        let mut opened = by_place(passing.iter().filter(is_news).cloned());
        if opened.is_empty() && closed.is_empty() {
            return Vec::new();
        }
        // No more can go than was told to have come, so these cannot keep the others from being told.
        closed.truncate(MAX_TEXTS * MAX_RECORDS);
        let left = MAX_RECORDS - closed.len().div_ceil(MAX_TEXTS);
        opened.truncate(MAX_TEXTS * left);
        for one in opened.iter().flat_map(|(_, all)| all) {
            self.known.insert(one.endpoint, one.origin.clone());
        }
        for one in closed.iter().flat_map(|(_, all)| all) {
            self.known.remove(&one.endpoint);
        }
        self.last = Some(now);
        let texts = |part: &[(Place, Vec<LifelineAddress>)]| part.iter().map(text).collect();
        let opened = opened.chunks(MAX_TEXTS).map(|part| LifelineNews {
            opened: texts(part),
            closed: Vec::new(),
        });
        let closed = closed.chunks(MAX_TEXTS).map(|part| LifelineNews {
            opened: Vec::new(),
            closed: texts(part),
        });
        opened.chain(closed).collect()
    }

    /// Nothing is cut: the next isolation is told whole.
    pub fn rest(&mut self) {
        *self = Self::default();
    }
}

fn by_place(all: impl Iterator<Item = LifelineAddress>) -> Vec<(Place, Vec<LifelineAddress>)> {
    let mut grouped: BTreeMap<Place, Vec<LifelineAddress>> = BTreeMap::new();
    for one in all {
        let key = (one.endpoint.purpose, one.endpoint.address);
        grouped.entry(key).or_default().push(one);
    }
    grouped.into_iter().collect()
}

/// One text an address of a purpose: its ports by who says so, whether the nucleus uses it.
fn text(((purpose, address), all): &(Place, Vec<LifelineAddress>)) -> String {
    let origins: BTreeSet<&Origin> = all.iter().map(|one| &one.origin).in_set();
    let of_origin = |origin: &Origin| {
        let ports = |protocol: Protocol| {
            let ends = all.iter().filter(|one| one.origin == *origin);
            let ends = ends.filter(|one| one.endpoint.protocol == protocol);
            let ports: BTreeSet<u16> = ends.map(|one| one.endpoint.port).in_set();
            let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
            (!ports.is_empty()).then(|| format!(" {protocol} {}", ports.join(" ")))
        };
        let both = [Protocol::Tcp, Protocol::Udp].into_iter();
        let ports: String = both.filter_map(ports).collect();
        format!("{ports}: {origin}")
    };
    let said: Vec<String> = origins.into_iter().map(of_origin).collect();
    let used = if all.iter().any(|one| one.used) {
        ", in use"
    } else {
        ""
    };
    format!("{} {address}{}{used}", purpose.words(), said.join(";"))
}

#[cfg(test)]
mod tests {
    use super::super::origin::OriginKind;
    use super::*;

    fn address(last: u8, port: u16) -> LifelineAddress {
        LifelineAddress {
            endpoint: Endpoint {
                purpose: Purpose::DataEndpoint,
                address: [192, 0, 2, last].into(),
                protocol: Protocol::Tcp,
                port,
            },
            origin: Origin::new(OriginKind::LookUp, "x.example"),
            used: port == 8883,
        }
    }

    #[test]
    fn what_is_on_and_has_no_address_is_missing() {
        let on = Lifelines {
            ntp: false,
            deployments: false,
            ..Lifelines::default()
        };
        assert_eq!(missing(&on, &[address(1, 443)]), ["DNS: no address is known"]);
    }

    #[test]
    fn what_came_and_went_is_told_once_and_seldom() {
        let mut told = ToldLifelines::default();
        let now = Duration::from_secs(100);
        let first = told.news(&[address(1, 443), address(1, 8883)], now);
        let text = "data endpoint 192.0.2.1 tcp 443 8883: look-up of x.example, in use";
        assert_eq!(first.len(), 1);
        assert_eq!(
            (first[0].opened.as_slice(), first[0].closed.len()),
            (&[text.to_owned()][..], 0)
        );
        assert_eq!(told.news(&[address(2, 443)], now + PAUSE / 2), []);
        let next = told.news(&[address(2, 443)], now + PAUSE);
        assert_eq!((next[0].opened.len(), next[1].closed.len()), (1, 1));
        assert_eq!(told.news(&[address(2, 443)], now + 3 * PAUSE), []);
        told.rest();
        let many: Vec<_> = (0..=255).map(|last| address(last, 443)).collect();
        let all = told.news(&many, now);
        assert_eq!((all.len(), all[0].opened.len()), (MAX_RECORDS, MAX_TEXTS));
    }

    #[test]
    fn what_has_no_room_is_told_next_and_each_port_says_who_names_it() {
        let mut told = ToldLifelines::default();
        let many: Vec<_> = (0..=255).map(|last| address(last, 443)).collect();
        let (mut seen, mut now) = (BTreeSet::new(), Duration::from_secs(100));
        for _ in 0..4 {
            let news = told.news(&many, now);
            assert!(news.len() <= MAX_RECORDS);
            seen.extend(news.into_iter().flat_map(|one| one.opened));
            now += PAUSE;
        }
        assert_eq!((seen.len(), told.news(&many, now).len()), (256, 0));
        // All but two go, and one gets a port that another says.
        let more = LifelineAddress {
            origin: Origin::new(OriginKind::Configuration, "isolation.x"),
            ..address(1, 8443)
        };
        let few = [address(0, 443), address(1, 443), more.clone()];
        let news = told.news(&few, now);
        assert!(
            news.iter().all(|one| one.opened.is_empty()),
            "what goes is told first"
        );
        let mut closed: usize = news.iter().map(|one| one.closed.len()).sum();
        let mut opened = Vec::new();
        for _ in 0..4 {
            now += PAUSE;
            let news = told.news(&few, now);
            closed += news.iter().map(|one| one.closed.len()).sum::<usize>();
            opened.extend(news.into_iter().flat_map(|one| one.opened));
        }
        assert_eq!(
            (closed, opened),
            (
                254,
                vec![text(&(
                    (Purpose::DataEndpoint, [192, 0, 2, 1].into()),
                    vec![more.clone()]
                ))]
            )
        );
        let both = text(&(
            (Purpose::DataEndpoint, [192, 0, 2, 1].into()),
            vec![address(1, 443), more.clone()],
        ));
        for part in [
            " tcp 443: look-up of x.example",
            &format!(" tcp 8443: {}", more.origin),
        ] {
            assert!(both.contains(part), "{both}");
        }
    }
}
