//! What the kernel's packet filter says about itself, without a program in between.
//!
//! In: nothing. Out: the generation (one more with every change that anybody makes), which of our tables exist, what
//! their counters and quotas have counted, the interfaces of our egress chain. Asking costs microseconds; what rules
//! say is listed by `nft`, and only when the generation tells of a change.

use std::collections::BTreeSet;

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use crate::host::net::netlink::{Netlink, NetlinkError, NetlinkRequest, attributes, push_attribute};
use crate::quarantine::ports::FilterChange;
use crate::quarantine::ruleset::{CarriedCounters, Layer, TABLE};

/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10 << 8;
/// Messages of `linux/netfilter/nf_tables.h`.
const GET_TABLE: u16 = SUBSYSTEM | 1;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
pub(super) const NEW_GENERATION: u16 = SUBSYSTEM | 15;
const GET_GENERATION: u16 = SUBSYSTEM | 16;
const GET_OBJECT: u16 = SUBSYSTEM | 19;
/// `struct nfgenmsg`.
const HEADER: usize = 4;
/// Attributes of the same file.
const GENERATION_ID: u16 = 1;
const GENERATION_PROCESS: u16 = 2;
const GENERATION_NAME: u16 = 3;
const TABLE_NAME: u16 = 1;
const OBJECT_TABLE: u16 = 1;
const OBJECT_NAME: u16 = 2;
const OBJECT_TYPE: u16 = 3;
const OBJECT_DATA: u16 = 4;
const COUNTER_BYTES: u16 = 1;
const COUNTER_PACKETS: u16 = 2;
const QUOTA_CONSUMED: u16 = 4;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const HOOK_DEVICE: u16 = 3;
const HOOK_DEVICES: u16 = 4;
/// Kinds of objects.
const COUNTER: u32 = 1;
const QUOTA: u32 = 2;
/// Objects read of our own tables; we make some dozens.
const MAX_OBJECTS: usize = 1_024;

/// A question channel; it belongs to the network namespace of the thread that opened it.
pub(crate) struct NftKernel {
    netlink: Netlink,
}

impl NftKernel {
    /// Opens it.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        Ok(Self {
            netlink: Netlink::open(NETLINK_NETFILTER)?,
        })
    }

    /// The packet filter's generation.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub(crate) fn generation(&mut self) -> Result<u32, NetlinkError> {
        let mut found = None;
        self.ask(GET_GENERATION, 0, false, &mut |answer| {
            found = change(answer).map(|change| change.generation);
        })?;
        found.ok_or_else(|| NetlinkError::Answer {
            expected: "a generation".into(),
        })
    }

    /// In which families our table exists.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub(crate) fn tables(&mut self) -> Result<BTreeSet<Layer>, NetlinkError> {
        let mut found = BTreeSet::new();
        self.ask(GET_TABLE, 0, true, &mut |answer| {
            if text(answer, TABLE_NAME) == Some(TABLE) {
                found.extend(layer_of(answer));
            }
        })?;
        Ok(found)
    }

    /// What our counters and quotas say.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub(crate) fn counted(&mut self) -> Result<CarriedCounters, NetlinkError> {
        let mut counted = CarriedCounters::default();
        for kind in [COUNTER, QUOTA] {
            let mut wanted = Vec::new();
            push_attribute(&mut wanted, OBJECT_TYPE, false, &kind.to_be_bytes());
            self.ask_with(GET_OBJECT, 0, true, &wanted, &mut |answer| {
                let full = counted.counters.len() + counted.quotas.len() >= MAX_OBJECTS;
                if text(answer, OBJECT_TABLE) == Some(TABLE) && !full {
                    let _ = note(answer, &mut counted);
                }
            })?;
        }
        Ok(counted)
    }

    /// The interfaces of our egress chain, by name.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub(crate) fn egress_devices(&mut self) -> Result<BTreeSet<String>, NetlinkError> {
        let mut devices = BTreeSet::new();
        self.ask(GET_CHAIN, number_of(Layer::Netdev), true, &mut |answer| {
            let ours = text(answer, CHAIN_TABLE) == Some(TABLE) && text(answer, CHAIN_NAME) == Some("egress");
            if let Some(hook) = attribute(answer, CHAIN_HOOK).filter(|_| ours) {
                devices.extend(hooked(hook));
            }
        })?;
        Ok(devices)
    }

    fn ask(
        &mut self,
        message_type: u16,
        family: u8,
        dump: bool,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<(), NetlinkError> {
        self.ask_with(message_type, family, dump, &[], each)
    }

    fn ask_with(
        &mut self,
        message_type: u16,
        family: u8,
        dump: bool,
        wanted: &[u8],
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<(), NetlinkError> {
        let payload = [&[family, 0, 0, 0], wanted].concat();
        let question = NetlinkRequest {
            message_type,
            dump,
            payload: &payload,
        };
        let asked = self.netlink.ask(question, &mut |answer| {
            each(answer);
            Ok(())
        });
        match asked {
            // A kernel without this family has none of it.
            Err(error) if dump && matches!(error.refusal(), Some(Errno::ENOENT | Errno::EOPNOTSUPP)) => {
                Ok(())
            }
            asked => asked,
        }
    }
}

/// The table that a notification is about: all of them name it alike.
pub(super) fn named_table(message: &[u8]) -> Option<&str> {
    text(message, TABLE_NAME)
}

/// Reads a message that tells of a generation.
pub(super) fn change(message: &[u8]) -> Option<FilterChange> {
    Some(FilterChange {
        generation: number(message, GENERATION_ID)?,
        pid: number(message, GENERATION_PROCESS).unwrap_or_default(),
        name: text(message, GENERATION_NAME).unwrap_or_default().to_owned(),
    })
}

fn note(answer: &[u8], counted: &mut CarriedCounters) -> Option<()> {
    let key = (layer_of(answer)?, text(answer, OBJECT_NAME)?.to_owned());
    let data = attribute(answer, OBJECT_DATA)?;
    let value = |wanted| {
        let bytes = attributes(data).find_map(|(number, value)| (number == wanted).then_some(value))?;
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    };
    match number(answer, OBJECT_TYPE)? {
        COUNTER => {
            counted
                .counters
                .insert(key, (value(COUNTER_PACKETS)?, value(COUNTER_BYTES)?));
        }
        QUOTA => {
            counted.quotas.insert(key, value(QUOTA_CONSUMED)?);
        }
        _ => {}
    }
    Some(())
}

fn hooked(hook: &[u8]) -> Vec<String> {
    let string = |value: &[u8]| std::str::from_utf8(value).ok().map(trim).map(str::to_owned);
    attributes(hook)
        .flat_map(|(number, value)| match number {
            HOOK_DEVICE => string(value).into_iter().collect(),
            HOOK_DEVICES => attributes(value).filter_map(|(_, name)| string(name)).collect(),
            _ => Vec::new(),
        })
        .collect()
}

fn attribute(message: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(message.get(HEADER..)?).find_map(|(number, value)| (number == wanted).then_some(value))
}

fn text(message: &[u8], wanted: u16) -> Option<&str> {
    std::str::from_utf8(attribute(message, wanted)?).ok().map(trim)
}

/// The kernel's strings end with a zero byte.
fn trim(text: &str) -> &str {
    text.split('\0').next().unwrap_or_default()
}

fn number(message: &[u8], wanted: u16) -> Option<u32> {
    let bytes = attribute(message, wanted)?.get(..4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// `NFPROTO_*`.
fn number_of(layer: Layer) -> u8 {
    match layer {
        Layer::Inet => 1,
        Layer::Netdev => 5,
        Layer::Bridge => 7,
    }
}

fn layer_of(message: &[u8]) -> Option<Layer> {
    let family = *message.first()?;
    Layer::ALL.into_iter().find(|layer| number_of(*layer) == family)
}
