//! What is known of the nucleus' connection to the cloud, and what a look at it tells.
//!
//! In: the connections that are there, how known ones are doing, what the nucleus says itself, `now`. Out: [`News`]; since
//! when there is no connection. Pure. Absent: how all this is learned.
//!
//! Only connections to the MQTT port count once one was seen there: a classic nucleus also has short ones of other kinds on
//! ports that MQTT may use.

use std::net::SocketAddr;

use jiff::Timestamp;

use super::ControlPorts;
use crate::host::net::uplinks::{Uplink, UplinkState};

/// MQTT over TLS, where the nucleus has no other.
const MQTT_PORT: u16 = 8883;
/// HTTPS, over which a nucleus may speak MQTT, and other things as well.
const HTTPS_PORT: u16 = 443;

/// What a look told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct News {
    /// The connection ended, and not because nothing came through it any more.
    pub(super) ended: bool,
    /// It is there anew, or carries again what it did not: messages may have been missed.
    pub(super) back: bool,
}

/// The connection as it was seen last.
#[derive(Debug, Default)]
pub(super) struct Outlook {
    known: Vec<Uplink>,
    /// Where the newest of those led that may carry the control channel.
    remote: Option<SocketAddr>,
    /// Whether it was looked for before: what is found then came since.
    looked: bool,
    /// One was seen on the MQTT port.
    is_plain: bool,
    /// The other end acknowledges nothing.
    dead: bool,
    /// None of those that were there is left, since then.
    lost: Option<Timestamp>,
    /// The nucleus itself says that there is none, since then.
    denied: Option<Timestamp>,
}

impl Outlook {
    /// Those to ask about.
    pub(super) fn known(&self) -> &[Uplink] {
        &self.known
    }

    /// Those that may carry the control channel.
    pub(super) fn carriers(&self, ports: &ControlPorts) -> Vec<Uplink> {
        let counted = self.counted(ports);
        self.known
            .iter()
            .copied()
            .filter(|uplink| counted(uplink))
            .collect()
    }

    /// Where the nucleus was connected to last for its control channel.
    pub(super) const fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// Since when there is no connection.
    pub(super) fn away(&self) -> Option<Timestamp> {
        self.denied.or(self.lost)
    }

    /// Whether nothing comes through the connection that is there.
    pub(super) const fn is_dead(&self) -> bool {
        self.dead
    }

    /// Known connections were asked how they are, in their order.
    pub(super) fn asked(&mut self, states: &[UplinkState], ports: &ControlPorts, now: Timestamp) -> News {
        let was_dead = self.dead;
        let standing = |known: &[Uplink]| {
            let pairs = known.iter().zip(states);
            let standing = pairs.filter(|(_, state)| **state != UplinkState::Ended);
            standing.map(|(uplink, _)| *uplink).collect()
        };
        let counted = self.counted(ports);
        let counted_states = || {
            let pairs = self.known.iter().zip(states);
            pairs
                .filter(|(uplink, _)| counted(uplink))
                .map(|(_, state)| *state)
        };
        let revived = was_dead && counted_states().any(|state| state == UplinkState::Alive);
        let mut left = counted_states()
            .filter(|state| *state != UplinkState::Ended)
            .peekable();
        // One that ended while it was dead was dead to its end.
        let has_left = left.peek().is_some();
        let dead = if has_left {
            left.all(|state| state == UplinkState::Dead)
        } else {
            was_dead
        };
        let standing = standing(&self.known);
        self.dead = dead;
        let ended = self.replace(standing, ports, now);
        News {
            ended: ended && !was_dead,
            back: revived,
        }
    }

    /// The connections were looked for, and these are there.
    pub(super) fn found(&mut self, found: Vec<Uplink>, ports: &ControlPorts, now: Timestamp) -> News {
        self.is_plain |= found
            .iter()
            .any(|uplink| uplink.remote.port() == mqtt_port(ports));
        let was_dead = self.dead;
        let counted = self.counted(ports);
        let is_new = found
            .iter()
            .any(|uplink| counted(uplink) && !self.known.contains(uplink));
        let carrier = found.iter().rfind(|uplink| counted(uplink));
        self.remote = carrier.map(|uplink| uplink.remote).or(self.remote);
        let ended = self.replace(found, ports, now);
        if is_new {
            self.dead = false;
        }
        News {
            ended: ended && !was_dead,
            back: std::mem::replace(&mut self.looked, true) && is_new,
        }
    }

    /// The nucleus says whether it is connected.
    pub(super) fn told(&mut self, connected: bool, now: Timestamp) -> News {
        let was_away = self.away().is_some();
        self.denied = (!connected).then(|| self.denied.unwrap_or(now));
        if connected {
            // Whatever is seen of its sockets.
            self.lost = None;
        }
        News {
            ended: !connected && !was_away && !self.dead,
            back: connected && was_away,
        }
    }

    /// The nucleus says nothing of its connection any more.
    pub(super) fn untold(&mut self) {
        self.denied = None;
    }

    /// Nobody is known whose connections could be seen.
    pub(super) fn blind(&mut self) {
        *self = Self {
            looked: self.looked,
            is_plain: self.is_plain,
            denied: self.denied,
            remote: self.remote,
            ..Self::default()
        };
    }

    /// Takes what stands; whether a connection that counts ended.
    fn replace(&mut self, standing: Vec<Uplink>, ports: &ControlPorts, now: Timestamp) -> bool {
        let counted = self.counted(ports);
        let gone = |uplink: &&Uplink| counted(uplink) && !standing.contains(uplink);
        let any_gone = self.known.iter().any(|uplink| gone(&uplink));
        let any_left = standing.iter().any(&counted);
        let had_any = self.known.iter().any(&counted);
        if any_left {
            self.lost = None;
        } else if had_any {
            self.lost.get_or_insert(now);
        }
        self.known = standing;
        // On a port where the nucleus does other things as well, one that ends while others last may be any.
        any_gone && (!any_left || (self.is_plain && !is_shared(ports)))
    }

    fn counted(&self, ports: &ControlPorts) -> impl Fn(&Uplink) -> bool + use<> {
        let only = self.is_plain.then(|| mqtt_port(ports));
        move |uplink| only.is_none_or(|port| uplink.remote.port() == port)
    }
}

fn mqtt_port(ports: &ControlPorts) -> u16 {
    ports.mqtt.unwrap_or(MQTT_PORT)
}

fn is_shared(ports: &ControlPorts) -> bool {
    ports.proxy || mqtt_port(ports) == HTTPS_PORT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uplink(port: u16, inode: u32) -> Uplink {
        Uplink {
            local: ([192, 0, 2, 1], 40_000).into(),
            remote: ([198, 51, 100, 1], port).into(),
            inode,
            bound_to: 0,
        }
    }

    fn ports() -> ControlPorts {
        ControlPorts {
            all: vec![443, 8443, 8883],
            mqtt: None,
            proxy: false,
            lifeline: true,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    const NOTHING: News = News {
        ended: false,
        back: false,
    };
    const ENDED: News = News {
        ended: true,
        back: false,
    };
    const BACK: News = News {
        ended: false,
        back: true,
    };

    fn connected() -> Outlook {
        let mut outlook = Outlook::default();
        assert_eq!(outlook.found(vec![uplink(8883, 1)], &ports(), at(1)), NOTHING);
        assert_eq!(outlook.asked(&[UplinkState::Alive], &ports(), at(2)), NOTHING);
        assert_eq!(outlook.away(), None);
        outlook
    }

    #[test]
    fn a_connection_that_ends_and_comes_anew_is_news_twice() {
        let mut outlook = connected();
        assert_eq!(outlook.asked(&[UplinkState::Ended], &ports(), at(3)), ENDED);
        assert_eq!(outlook.away(), Some(at(3)));
        assert_eq!(outlook.found(Vec::new(), &ports(), at(4)), NOTHING);
        assert_eq!(outlook.away(), Some(at(3)), "since the first look that missed it");
        assert_eq!(outlook.found(vec![uplink(8883, 2)], &ports(), at(9)), BACK);
        assert_eq!(outlook.away(), None);
    }

    #[test]
    fn one_that_was_replaced_between_two_looks_is_seen_by_its_socket() {
        let mut outlook = connected();
        let both = News {
            ended: true,
            back: true,
        };
        assert_eq!(outlook.found(vec![uplink(8883, 2)], &ports(), at(3)), both);
        assert_eq!(outlook.away(), None);
    }

    #[test]
    fn one_that_comes_after_a_look_that_found_none_is_news() {
        let mut outlook = Outlook::default();
        assert_eq!(outlook.found(Vec::new(), &ports(), at(1)), NOTHING);
        assert_eq!(outlook.away(), None, "there may be one that cannot be seen");
        assert_eq!(outlook.found(vec![uplink(8883, 1)], &ports(), at(2)), BACK);
    }

    #[test]
    fn a_dead_link_that_lives_again_is_news_and_its_end_is_nobodys_doing() {
        let mut outlook = connected();
        assert_eq!(outlook.asked(&[UplinkState::Dead], &ports(), at(3)), NOTHING);
        assert!(outlook.is_dead());
        assert_eq!(outlook.asked(&[UplinkState::Alive], &ports(), at(4)), BACK);
        assert!(!outlook.is_dead());
        outlook.asked(&[UplinkState::Dead], &ports(), at(5));
        assert_eq!(outlook.asked(&[UplinkState::Ended], &ports(), at(6)), NOTHING);
        assert_eq!(outlook.away(), Some(at(6)));
        assert_eq!(outlook.found(vec![uplink(8883, 2)], &ports(), at(7)), BACK);
        assert_eq!(
            outlook.asked(&[UplinkState::Ended], &ports(), at(8)),
            ENDED,
            "it was another"
        );
    }

    #[test]
    fn short_connections_of_other_kinds_are_no_news() {
        let mut outlook = connected();
        let both = vec![uplink(443, 7), uplink(8883, 1)];
        assert_eq!(outlook.found(both, &ports(), at(3)), NOTHING);
        assert_eq!(
            outlook.carriers(&ports()),
            [uplink(8883, 1)],
            "an upload acknowledges nothing"
        );
        let states = [UplinkState::Ended, UplinkState::Alive];
        assert_eq!(outlook.asked(&states, &ports(), at(4)), NOTHING);
        assert_eq!(outlook.known(), [uplink(8883, 1)]);
        // Through a proxy nobody can tell them apart: only the last one that ends is an end.
        let proxied = ControlPorts {
            mqtt: Some(3128),
            proxy: true,
            ..ports()
        };
        let mut outlook = Outlook::default();
        outlook.found(vec![uplink(3128, 1), uplink(3128, 2)], &proxied, at(1));
        let states = [UplinkState::Alive, UplinkState::Ended];
        assert_eq!(outlook.asked(&states, &proxied, at(2)), NOTHING);
        assert_eq!(outlook.asked(&[UplinkState::Ended], &proxied, at(3)), ENDED);
    }

    #[test]
    fn what_the_nucleus_says_itself_counts_too() {
        let mut outlook = connected();
        assert_eq!(
            outlook.told(true, at(3)),
            NOTHING,
            "control: the present state is no news"
        );
        assert_eq!(outlook.told(false, at(4)), ENDED);
        assert_eq!(outlook.asked(&[UplinkState::Alive], &ports(), at(5)), NOTHING);
        assert_eq!(outlook.away(), Some(at(4)), "TCP stands, MQTT does not");
        assert_eq!(outlook.told(true, at(6)), BACK);
        assert_eq!(outlook.away(), None);
        outlook.told(false, at(7));
        outlook.untold();
        assert_eq!(outlook.away(), None);
    }

    #[test]
    fn what_cannot_be_seen_is_not_said_to_be_away() {
        let mut outlook = connected();
        outlook.asked(&[UplinkState::Ended], &ports(), at(3));
        outlook.blind();
        assert_eq!(outlook.away(), None);
    }
}
