//! Conditions of who sent a packet, and of how much of such has gone before.

use nf_tables::{ByteOrder, Comparison, Expression, Limit, LimitFlags, LimitKind, Meta, MetaKey, Operator};

use super::{Conditions, TCP, UDP};
use crate::quarantine::orders::order::Protocol;
use crate::quarantine::ruleset::shares::Share;

impl Conditions {
    /// The user whose socket it is has this number.
    pub(in super::super) fn sent_by(self, user: u32) -> Self {
        self.said(format_args!("meta skuid {user}"))
            .step(Meta::first(MetaKey::User))
            .step(Expression::equal(user.to_ne_bytes()))
    }

    /// A socket of another user has sent it.
    pub(in super::super) fn not_sent_by(self, user: u32) -> Self {
        self.said(format_args!("meta skuid != {user}"))
            .step(Meta::first(MetaKey::User))
            .step(Comparison::first(Operator::NotEqual, user.to_ne_bytes()))
    }

    /// The user whose socket it is has a number below this.
    pub(in super::super) fn sent_below(self, user: u32) -> Self {
        self.sent_as("<", Operator::Less, user)
    }

    /// The user whose socket it is has this number or one above.
    pub(in super::super) fn sent_from(self, user: u32) -> Self {
        self.sent_as(">=", Operator::GreaterOrEqual, user)
    }

    fn sent_as(self, sign: &str, operator: Operator, user: u32) -> Self {
        self.said(format_args!("meta skuid {sign} {user}"))
            .step(Meta::first(MetaKey::User))
            .step(ByteOrder::to_network())
            .step(Comparison::first(operator, user.to_be_bytes()))
    }

    /// Its transport protocol, also where that is part of what was asked before.
    pub(in super::super) fn carries(self, protocol: Protocol) -> Self {
        let number = match protocol {
            Protocol::Tcp => TCP,
            Protocol::Udp => UDP,
        };
        self.said(format_args!("meta l4proto {protocol}"))
            .meta_is(MetaKey::TransportProtocol, [number])
    }

    /// As long as there is room in this share.
    pub(in super::super) fn within(self, share: Share) -> Self {
        self.share("", share, LimitFlags::NONE)
    }

    /// Where there is no room in this share.
    pub(in super::super) fn beyond(self, share: Share) -> Self {
        self.share("over ", share, LimitFlags::OVER)
    }

    fn share(self, over: &str, share: Share, flags: LimitFlags) -> Self {
        let Share {
            kind,
            rate,
            seconds,
            burst,
        } = share;
        let unit = if seconds == 1 { "second" } else { "minute" };
        let (counted, units) = match kind {
            LimitKind::Bytes => (" bytes", "bytes"),
            LimitKind::Packets => ("", "packets"),
        };
        self.said(format_args!(
            "limit rate {over}{rate}{counted}/{unit} burst {burst} {units}"
        ))
        .step(Limit {
            rate,
            seconds,
            burst,
            kind,
            flags,
        })
    }
}
