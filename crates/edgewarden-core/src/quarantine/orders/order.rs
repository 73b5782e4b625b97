//! What one authority wants, as data.
//!
//! Out: [`Order`] and its parts, serialised the same way in the shadow, the configuration, the journal and the CLI.
//! Absent on purpose: reading hostile input (see [`super::document`]) and what an order does (see
//! [`crate::quarantine::plan`]).

use std::fmt;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::document::MAX_BLOCKS;
use super::remotes::RemoteList;

/// Who may ask for a quarantine. Each holds at most one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Authority {
    /// The cloud's device shadow.
    Shadow,
    /// The component configuration of a Greengrass deployment.
    Deployment,
    /// The local detector.
    Detector,
    /// A person at the device.
    Operator,
    /// The agent itself, when its journal was damaged while an order may have been live.
    Recovery,
}

impl Authority {
    /// Whether it speaks through a nucleus, and again and again; the others speak at the device, and once.
    pub const fn needs_nucleus(self) -> bool {
        matches!(self, Self::Shadow | Self::Deployment)
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shadow => "shadow",
            Self::Deployment => "deployment",
            Self::Detector => "detector",
            Self::Operator => "operator",
            Self::Recovery => "recovery",
        })
    }
}

/// How strictly the device is cut off. The order of the variants is the order of strictness.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Posture {
    /// Nothing is cut.
    #[default]
    Normal,
    /// What the order blocks is cut, the rest flows.
    Restrict,
    /// Only lifelines and allowances flow.
    Isolate,
}

impl fmt::Display for Posture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "normal",
            Self::Restrict => "restrict",
            Self::Isolate => "isolate",
        })
    }
}

/// A transport protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Which side opens the flow that an allowance lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The remote opens it (an operator's SSH).
    In,
    /// The device opens it.
    Out,
}

/// What an operator adds to the lifelines.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Allowance {
    /// The other side.
    pub remote: IpNet,
    pub protocol: Protocol,
    /// Ports at the side that accepts the flow; at least one.
    pub ports: Vec<u16>,
    /// Who opens the flow.
    pub direction: Direction,
}

/// A port to cut in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BlockedPort {
    pub protocol: Protocol,
    pub port: u16,
}

/// A remote to cut in both directions, for ever or until a time. Written as the address alone when it is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "WrittenRemote", into = "WrittenRemote")]
pub struct BlockedRemote {
    pub remote: IpNet,
    /// When the kernel lets it through again by itself.
    pub expires: Option<Timestamp>,
}

impl From<IpNet> for BlockedRemote {
    fn from(remote: IpNet) -> Self {
        Self {
            remote,
            expires: None,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WrittenRemote {
    ForEver(IpNet),
    Until { remote: IpNet, expires: Timestamp },
}

impl From<WrittenRemote> for BlockedRemote {
    fn from(written: WrittenRemote) -> Self {
        match written {
            WrittenRemote::ForEver(remote) => remote.into(),
            WrittenRemote::Until { remote, expires } => Self {
                remote,
                expires: Some(expires),
            },
        }
    }
}

impl From<BlockedRemote> for WrittenRemote {
    fn from(blocked: BlockedRemote) -> Self {
        let BlockedRemote { remote, expires } = blocked;
        expires.map_or(Self::ForEver(remote), |expires| Self::Until { remote, expires })
    }
}

/// How much may leave the device, lifelines apart: at any moment, and in a period.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limit {
    /// Bytes a second at the IP layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_bytes_per_second: Option<u64>,
    /// Bytes a period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_bytes: Option<u64>,
    /// Length of a period in seconds; the first begins when the device learned of the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_period_seconds: Option<u64>,
}

/// What a restriction cuts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Remotes cut in both directions.
    #[serde(default, skip_serializing_if = "is_empty_list")]
    pub remotes: RemoteList,
    /// Destination ports cut in both directions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<BlockedPort>,
    /// Remotes that this copy leaves out because it is only for show.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: usize,
}

fn is_empty_list(remotes: &RemoteList) -> bool {
    remotes.is_empty()
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// What is done to a matching process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessAction {
    /// Stopped; runs again at release.
    Freeze,
    /// Stopped, then killed.
    Kill,
}

/// Which processes are meant. All given parts must match; `*` stands for any run of characters, `?` for any one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessMatch {
    /// Path of the executable, as the kernel resolves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// The kernel's short name (at most 15 characters).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl ProcessMatch {
    /// What is remembered of it with whom it named. Two of one order book that have the same one are a mistake of some billion
    /// to one, and keep somebody stopped until the release.
    #[must_use]
    pub fn sum(&self) -> u32 {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        crc32fast::hash(format!("{}\0{}", text(&self.exe), text(&self.name)).as_bytes())
    }
}

/// A process action and whom it concerns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessRule {
    #[serde(rename = "match")]
    pub matches: ProcessMatch,
    pub action: ProcessAction,
}

impl fmt::Display for ProcessRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ProcessMatch { exe, name } = &self.matches;
        let parts = [("exe", exe), ("name", name)].into_iter();
        let parts = parts.filter_map(|(key, text)| Some(format!("{key} {}", text.as_ref()?)));
        let action = match self.action {
            ProcessAction::Freeze => "freeze",
            ProcessAction::Kill => "kill",
        };
        write!(f, "{action} {}", parts.collect::<Vec<_>>().join(" and "))
    }
}

/// What one authority wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The authority's name for it; repeated deliveries of one order carry the same id.
    pub id: String,
    pub authority: Authority,
    pub posture: Posture,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When this device first learned of it.
    pub issued: Timestamp,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Allowances it grants.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Allowance>,
    /// What it cuts besides the posture.
    #[serde(default)]
    pub block: Block,
    /// How much it lets out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// Processes it stops.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<ProcessRule>,
}

impl Order {
    /// Whether it, or a part of it, ends or begins anew at a time.
    pub fn depends_on_time(&self) -> bool {
        let remotes = &self.block.remotes;
        self.expires.is_some()
            || self.limit.is_some_and(|limit| limit.quota_bytes.is_some())
            || remotes.iter().any(|blocked| blocked.expires.is_some())
    }

    /// An order to isolate with the configured defaults, as the shadow's `true` means it.
    pub fn isolate(authority: Authority, id: &str, reason: Option<String>, issued: Timestamp) -> Self {
        Self {
            id: id.to_owned(),
            authority,
            posture: Posture::Isolate,
            reason,
            issued,
            expires: None,
            allow: Vec::new(),
            block: Block::default(),
            limit: None,
            processes: Vec::new(),
        }
    }

    /// What it carries besides its posture, counted; nothing for a plain isolation. A nucleus that merges deployments may have
    /// left parts of an earlier order in it.
    pub fn carries(&self) -> String {
        let remotes = self.block.remotes.len() + self.block.omitted;
        let limits = usize::from(self.limit.is_some());
        let counts = [
            (self.allow.len(), "allowance"),
            (remotes, "blocked remote"),
            (self.block.ports.len(), "blocked port"),
            (limits, "limit"),
            (self.processes.len(), "process rule"),
        ];
        let told = counts.into_iter().filter(|(count, _)| *count > 0);
        let each = told.map(|(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" }));
        each.collect::<Vec<_>>().join(", ")
    }

    /// A copy for people and for the wire: of a list of blocked remotes that is longer than any authority but the
    /// operator can write only the beginning.
    #[must_use]
    pub fn for_show(&self) -> Self {
        let Block {
            remotes,
            ports,
            omitted: _,
        } = &self.block;
        // Not cut from a copy of all of it: there may be a hundred thousand.
        let block = Block {
            remotes: remotes.iter().take(MAX_BLOCKS).copied().collect(),
            ports: ports.clone(),
            omitted: remotes.len().saturating_sub(MAX_BLOCKS),
        };
        Self {
            id: self.id.clone(),
            authority: self.authority,
            posture: self.posture,
            reason: self.reason.clone(),
            issued: self.issued,
            expires: self.expires,
            allow: self.allow.clone(),
            block,
            limit: self.limit,
            processes: self.processes.clone(),
        }
    }

    /// Whether the order has ended by itself.
    pub fn expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Whether both say the same, whenever they were learned.
    pub fn same_wish(&self, other: &Self) -> bool {
        let Self {
            id,
            authority,
            posture,
            reason,
            issued: _,
            expires,
            allow,
            block,
            limit,
            processes,
        } = self;
        (id, authority, posture, reason) == (&other.id, &other.authority, &other.posture, &other.reason)
            && (expires, allow, limit) == (&other.expires, &other.allow, &other.limit)
            && (block, processes) == (&other.block, &other.processes)
    }

    /// A checksum of the same: equal for the same wish, also after a restart.
    pub fn wish_sum(&self) -> u32 {
        let issued = Timestamp::UNIX_EPOCH;
        let wish = Self {
            issued,
            ..self.clone()
        };
        // Plain data always serialises; an empty text would only make two wishes look alike.
        crc32fast::hash(&serde_json::to_vec(&wish).unwrap_or_default())
    }

    /// Whether this order in the place of `held` closes more and lets nothing go that `held` cuts or stops. Only a plain
    /// isolation without an end is known to be like that: it cuts whatever blocks and limits cut, and stops no process.
    pub fn only_closes(&self, held: Option<&Self>) -> bool {
        self.is_plain_isolation()
            && held.is_none_or(|held| held.processes.is_empty() && !held.is_plain_isolation())
    }

    fn is_plain_isolation(&self) -> bool {
        self.posture == Posture::Isolate && self.allow.is_empty() && self.expires.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postures_are_ordered_by_strictness() {
        assert!(Posture::Normal < Posture::Restrict && Posture::Restrict < Posture::Isolate);
    }

    #[test]
    fn an_order_expires_at_its_time_and_not_before() {
        let t = |s: &str| s.parse::<Timestamp>().unwrap();
        let mut order = Order::isolate(Authority::Shadow, "shadow", None, t("2026-01-01T00:00:00Z"));
        assert!(!order.expired(t("2036-01-01T00:00:00Z")));
        order.expires = Some(t("2026-02-01T00:00:00Z"));
        assert!(!order.expired(t("2026-01-31T23:59:59Z")));
        assert!(order.expired(t("2026-02-01T00:00:00Z")));
    }

    #[test]
    fn what_an_order_carries_is_counted() {
        let issued: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut order = Order::isolate(Authority::Deployment, "b", None, issued);
        assert_eq!(order.carries(), "");
        order.allow.push(Allowance {
            remote: "192.0.2.1/32".parse().unwrap(),
            protocol: Protocol::Tcp,
            ports: vec![22],
            direction: Direction::In,
        });
        let block: IpNet = "203.0.113.0/24".parse().unwrap();
        order.block.remotes = vec![block.into()].into();
        order.block.omitted = 4;
        order.limit = Some(Limit::default());
        assert_eq!(order.carries(), "1 allowance, 5 blocked remotes, 1 limit");
    }

    #[test]
    fn only_a_plain_isolation_is_known_to_let_nothing_go() {
        let issued: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let plain = Order::isolate(Authority::Shadow, "shadow", None, issued);
        assert!(plain.only_closes(None));
        assert!(!plain.only_closes(Some(&plain)), "nothing is closed by it");
        let mut restrict = plain.clone();
        restrict.posture = Posture::Restrict;
        assert!(plain.only_closes(Some(&restrict)) && !restrict.only_closes(Some(&plain)));
        let mut ends = plain.clone();
        ends.expires = Some(issued);
        let mut grants = plain.clone();
        grants.allow.push(Allowance {
            remote: "192.0.2.1/32".parse().unwrap(),
            protocol: Protocol::Tcp,
            ports: vec![22],
            direction: Direction::In,
        });
        assert!(!ends.only_closes(None) && !grants.only_closes(None));
        let mut stops = plain.clone();
        stops.processes.push(ProcessRule {
            matches: ProcessMatch {
                exe: Some("/opt/rogue".into()),
                name: None,
            },
            action: ProcessAction::Freeze,
        });
        assert!(!plain.only_closes(Some(&stops)), "they would run again");
    }
}
