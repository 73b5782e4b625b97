//! Whether the nucleus goes through its proxy alone, as far as that was seen.
//!
//! In: the proxy that its configuration names, where it is connected, the control channel's endpoints. Out: whether the proxy
//! stands for all that lies behind it, and when addresses from before are to be given up. A setting alone proves nothing: it
//! may be wrong, or not in force before the nucleus starts again, and a device that keeps only a proxy which its nucleus does
//! not use would be locked out. So the endpoint's own addresses are given up only when the nucleus was seen at the proxy,
//! and come back when it is seen somewhere else and not there. Pure.

use std::net::{IpAddr, SocketAddr};

use super::lifeline::Endpoint;

/// Host and port.
pub type Place = (String, u16);

/// What is known of the nucleus' way.
#[derive(Debug, Default)]
pub struct ProxyUse {
    setting: Option<Place>,
    alone: bool,
    /// Addresses from before another setting or connection are still kept.
    stale: bool,
}

impl ProxyUse {
    /// Takes what the nucleus' configuration says.
    pub fn note_setting(&mut self, setting: Option<&Place>) {
        if self.setting.as_ref() != setting {
            self.setting = setting.cloned();
            self.alone = false;
            self.stale = true;
        }
    }

    /// Takes where the nucleus is `connected`, whether that changed, and where its control channel is by the setting. Gives
    /// whether what else is known of its addresses is to be forgotten.
    pub fn see(&mut self, connected: &[SocketAddr], changed: bool, control: &[Endpoint]) -> bool {
        let there = |at: &SocketAddr| {
            let is_there = |end: &Endpoint| (end.address, end.port) == (canonical(at), at.port());
            control.iter().any(is_there)
        };
        let seen = connected.iter().any(there);
        let away = connected.iter().any(|at| !canonical(at).is_loopback());
        if self.setting.is_some() {
            self.stale |= changed;
            self.alone = seen || (self.alone && !away);
        }
        seen && std::mem::take(&mut self.stale)
    }

    /// Whether the nucleus goes through its proxy, and nowhere else.
    pub const fn is_alone(&self) -> bool {
        self.alone
    }
}

fn canonical(at: &SocketAddr) -> IpAddr {
    at.ip().to_canonical()
}

/// Whether one of the proxy's exceptions names `host`: by itself, or as a domain that it lies in.
pub(super) fn is_exempt(host: &str, exceptions: &[String]) -> bool {
    exceptions.iter().any(|exception| {
        let domain = exception.trim_start_matches('*').trim_start_matches('.');
        let below = host.len().saturating_sub(domain.len());
        let is_below = || {
            host.is_char_boundary(below)
                && host[below..].eq_ignore_ascii_case(domain)
                && host[..below].ends_with('.')
        };
        exception == "*" || !domain.is_empty() && (host.eq_ignore_ascii_case(domain) || is_below())
    })
}

#[cfg(test)]
mod tests {
    use super::super::lifeline::Purpose;
    use super::*;
    use crate::quarantine::orders::order::Protocol;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn control(text: &str) -> [Endpoint; 1] {
        let place = at(text);
        [Endpoint {
            purpose: Purpose::DataEndpoint,
            address: place.ip(),
            protocol: Protocol::Tcp,
            port: place.port(),
        }]
    }

    fn proxy() -> Place {
        ("proxy.example".into(), 3128)
    }

    #[test]
    fn a_setting_alone_proves_nothing() {
        let mut way = ProxyUse::default();
        way.note_setting(Some(&proxy()));
        assert!(!way.see(&[], false, &control("192.0.2.1:3128")) && !way.is_alone());
        assert!(!way.see(&[at("192.0.2.9:8883")], true, &control("192.0.2.1:3128")));
        assert!(!way.is_alone(), "it is connected directly");
    }

    #[test]
    fn who_is_seen_at_the_proxy_has_no_other_way_until_seen_elsewhere() {
        let mut way = ProxyUse::default();
        way.note_setting(Some(&proxy()));
        let lines = control("192.0.2.1:3128");
        let there = [at("[::ffff:192.0.2.1]:3128"), at("127.0.0.1:8883")];
        assert!(way.see(&there, true, &lines) && way.is_alone());
        assert!(!way.see(&there, false, &lines), "once");
        assert!(
            !way.see(&[], true, &lines) && way.is_alone(),
            "an outage proves nothing"
        );
        assert!(
            way.see(&there, true, &lines),
            "addresses of another connection may be left"
        );
        assert!(!way.see(&[at("192.0.2.9:8883")], true, &lines) && !way.is_alone());
    }

    #[test]
    fn another_setting_is_followed_once_it_is_seen() {
        let mut way = ProxyUse::default();
        way.note_setting(Some(&proxy()));
        assert!(way.see(&[at("192.0.2.1:3128")], true, &control("192.0.2.1:3128")));
        way.note_setting(None);
        assert!(!way.is_alone());
        assert!(!way.see(&[at("192.0.2.1:3128")], false, &control("192.0.2.9:8883")));
        assert!(way.see(&[at("192.0.2.9:8883")], true, &control("192.0.2.9:8883")));
        assert!(!way.see(&[at("192.0.2.9:8883")], true, &control("192.0.2.9:8883")));
        // Never with a proxy: rotating addresses are kept.
        let mut direct = ProxyUse::default();
        direct.note_setting(None);
        assert!(!direct.see(&[at("192.0.2.9:8883")], true, &control("192.0.2.9:8883")));
    }

    #[test]
    fn exceptions_are_hosts_and_domains() {
        let exempt = |host: &str, text: &str| is_exempt(host, &[text.to_owned()]);
        assert!(exempt("x.iot.example", "X.iot.example") && exempt("x.iot.example", "iot.example"));
        assert!(exempt("x.iot.example", ".example") && exempt("x.iot.example", "*.example"));
        assert!(exempt("x", "*") && exempt("192.0.2.1", "192.0.2.1"));
        assert!(!exempt("xiot.example", "iot.example") && !exempt("é.x", "x.x"));
        assert!(!exempt("x", "") && !exempt("x", ".") && !exempt("b", "a.b"));
    }
}
