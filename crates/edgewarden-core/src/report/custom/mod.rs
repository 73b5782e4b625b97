//! Custom metrics: what the standard blocks cannot carry.
//!
//! ```text
//! settings (configuration) ─► names ──► what CreateCustomMetric must be told
//!          │
//!          └─► collect ◄── traffic of the intervals not accepted yet, own health
//!                 │
//! dropped files ──┴─► CustomMetric ─► document
//! ```
//!
//! All of it is pure.

pub mod aws_cli;
pub mod collect;
pub mod dropped;
mod label;
pub mod settings;
pub mod traffic;

use std::net::IpAddr;

use serde::Serialize;

/// Custom metrics in one report, and names printed; AWS allows 100 an account.
pub const MAX_METRICS: usize = 100;
/// Elements of one list before it is fitted; a security profile holds 1,000 values.
pub(crate) const MAX_ITEMS: usize = 1_000;
/// Longest name of a custom metric, in characters (CreateCustomMetric).
pub(crate) const MAX_NAME: usize = 128;
/// Longest text in a list, in bytes; longer ones are cut.
pub const MAX_TEXT: usize = 256;

/// Type of a custom metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetricType {
    Number,
    NumberList,
    StringList,
    IpList,
}

impl MetricType {
    pub const ALL: [Self; 4] = [Self::Number, Self::NumberList, Self::StringList, Self::IpList];

    /// The key in a report; there is no short one.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::NumberList => "number_list",
            Self::StringList => "string_list",
            Self::IpList => "ip_list",
        }
    }

    /// `metricType` of CreateCustomMetric.
    #[must_use]
    pub const fn metric_type(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::NumberList => "number-list",
            Self::StringList => "string-list",
            Self::IpList => "ip-address-list",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum MetricItem {
    /// A number; never infinite, JSON has none.
    Number(serde_json::Number),
    Text(String),
    /// An address; as text in CBOR too, where serde would write its bytes.
    Address(#[serde(serialize_with = "as_text")] IpAddr),
}

fn as_text<S: serde::Serializer>(address: &IpAddr, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(address)
}

impl MetricItem {
    /// A text without control characters and of at most [`MAX_TEXT`] bytes.
    #[must_use]
    pub fn text(text: &str) -> Self {
        let plain: String = text.chars().filter(|letter| !letter.is_control()).collect();
        let end = plain.floor_char_boundary(MAX_TEXT);
        Self::Text(plain.get(..end).unwrap_or_default().to_owned())
    }
}

impl From<u64> for MetricItem {
    fn from(number: u64) -> Self {
        Self::Number(number.into())
    }
}

/// One metric of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomMetric {
    /// Its name, valid for CreateCustomMetric.
    pub name: String,
    pub kind: MetricType,
    /// Its values; exactly one for a number.
    pub items: Vec<MetricItem>,
    /// The first elements matter most: what does not fit is cut from the end. Otherwise a random part is sent.
    pub ranked: bool,
}

impl CustomMetric {
    /// A metric of one number.
    #[must_use]
    pub fn number(name: impl Into<String>, number: impl Into<MetricItem>) -> Self {
        Self {
            name: name.into(),
            kind: MetricType::Number,
            items: vec![number.into()],
            ranked: false,
        }
    }

    /// A list whose first elements matter most.
    #[must_use]
    pub fn ranked(name: impl Into<String>, kind: MetricType, items: Vec<MetricItem>) -> Self {
        Self {
            name: name.into(),
            kind,
            items,
            ranked: true,
        }
    }

    /// The same metric with other values.
    #[must_use]
    pub fn with(&self, items: Vec<MetricItem>) -> Self {
        Self {
            name: self.name.clone(),
            kind: self.kind,
            items,
            ranked: self.ranked,
        }
    }
}

/// Whether CreateCustomMetric takes this name.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b":_-".contains(&byte);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(letters) && !name.starts_with("aws:")
}
