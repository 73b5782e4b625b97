//! Criteria: what a normal value is.
//!
//! In: a [`Criterion`] and a value. Out: whether the value is normal, or nothing when the criterion is for another
//! type. Deliberately absent: statistical thresholds, machine learning.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::super::metric::MetricValue;

/// How a value is compared with the threshold to be normal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Below the threshold.
    LessThan,
    /// At most the threshold.
    LessThanEquals,
    /// Above the threshold.
    GreaterThan,
    /// At least the threshold.
    GreaterThanEquals,
}

impl Operator {
    pub(super) const ALL: [Self; 4] = [
        Self::LessThan,
        Self::LessThanEquals,
        Self::GreaterThan,
        Self::GreaterThanEquals,
    ];

    /// Name in security profiles.
    pub fn name(self) -> &'static str {
        match self {
            Self::LessThan => "less-than",
            Self::LessThanEquals => "less-than-equals",
            Self::GreaterThan => "greater-than",
            Self::GreaterThanEquals => "greater-than-equals",
        }
    }

    fn matches<T: PartialOrd>(self, value: T, threshold: T) -> bool {
        match self {
            Self::LessThan => value < threshold,
            Self::LessThanEquals => value <= threshold,
            Self::GreaterThan => value > threshold,
            Self::GreaterThanEquals => value >= threshold,
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A name that is not a comparison of counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not one of less-than, less-than-equals, greater-than, greater-than-equals")]
pub struct UnknownOperator {
    /// What was given.
    pub name: String,
}

impl FromStr for Operator {
    type Err = UnknownOperator;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|operator| operator.name() == name)
            .ok_or_else(|| UnknownOperator {
                name: name.to_owned(),
            })
    }
}

/// The set that the elements of a list are looked for in.
#[derive(Debug, Clone, PartialEq)]
pub enum Members {
    /// Ports.
    Ports(Vec<u16>),
    /// Address blocks.
    Cidrs(Vec<IpNet>),
    /// Numbers of a number-list.
    Numbers(Vec<f64>),
    /// Texts of a string-list.
    Strings(Vec<String>),
}

/// What a normal value is.
#[derive(Debug, Clone, PartialEq)]
pub enum Criterion {
    /// A count that compares so.
    Count(Operator, u64),
    /// A number that compares so.
    Number(Operator, f64),
    /// A list all of whose elements are in the set. An empty list is normal.
    AllIn(Members),
    /// A list none of whose elements is in the set. An empty list is normal.
    NoneIn(Members),
}

impl Criterion {
    /// Whether the value is normal; `None` for a value of another type.
    pub fn judge(&self, value: &MetricValue) -> Option<bool> {
        match (self, value) {
            (Self::Count(operator, threshold), MetricValue::Count(count)) => {
                Some(operator.matches(count, threshold))
            }
            (Self::Number(operator, threshold), MetricValue::Number(number)) => {
                Some(operator.matches(number, threshold))
            }
            (Self::AllIn(members), list) => members.contain(list, true),
            (Self::NoneIn(members), list) => members.contain(list, false),
            _ => None,
        }
    }

    /// `comparisonOperator` of a behaviour.
    pub fn operator(&self) -> &'static str {
        match self {
            Self::Count(operator, _) | Self::Number(operator, _) => operator.name(),
            Self::AllIn(Members::Ports(_)) => "in-port-set",
            Self::NoneIn(Members::Ports(_)) => "not-in-port-set",
            Self::AllIn(Members::Cidrs(_)) => "in-cidr-set",
            Self::NoneIn(Members::Cidrs(_)) => "not-in-cidr-set",
            Self::AllIn(_) => "in-set",
            Self::NoneIn(_) => "not-in-set",
        }
    }

    /// `value` of a behaviour's criteria.
    pub fn value(&self) -> Value {
        match self {
            Self::Count(_, count) => json!({"count": count}),
            Self::Number(_, number) => json!({"number": number}),
            Self::AllIn(members) | Self::NoneIn(members) => match members {
                Members::Ports(ports) => json!({"ports": ports}),
                Members::Cidrs(cidrs) => json!({"cidrs": cidrs}),
                Members::Numbers(numbers) => json!({"numbers": numbers}),
                Members::Strings(strings) => json!({"strings": strings}),
            },
        }
    }
}

impl Members {
    /// Whether every element of the list is a member (`wanted`) or none is.
    fn contain(&self, list: &MetricValue, wanted: bool) -> Option<bool> {
        let within = |cidrs: &[IpNet], address: &IpAddr| cidrs.iter().any(|cidr| cidr.contains(address));
        match (self, list) {
            (Self::Ports(set), MetricValue::Ports(list)) => {
                Some(list.iter().all(|port| set.contains(port) == wanted))
            }
            (Self::Cidrs(set), MetricValue::Addresses(list)) => {
                Some(list.iter().all(|address| within(set, address) == wanted))
            }
            (Self::Numbers(set), MetricValue::Numbers(list)) => {
                Some(list.iter().all(|number| set.contains(number) == wanted))
            }
            (Self::Strings(set), MetricValue::Strings(list)) => {
                Some(list.iter().all(|text| set.contains(text) == wanted))
            }
            _ => None,
        }
    }
}
