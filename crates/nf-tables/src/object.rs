//! Stateful objects of a table: counters, quotas and limits that several rules share.

use crate::expression::{Counter, Limit, Quota, QuotaFlags};
use crate::wire::{Attribute, Attributes, DecodeError, Encoder, attributes, numbers};

/// `NFTA_OBJ_NAME`.
pub(crate) const OBJECT_NAME: u16 = 2;
/// `NFTA_OBJ_TYPE`.
pub(crate) const OBJECT_KIND: u16 = 3;

numbers! {
    /// Kinds of objects that this crate knows (`NFT_OBJECT_*`).
    pub enum ObjectKind as "a kind of object" {
        /// Counts.
        Counter = 1,
        /// So many bytes, once.
        Quota = 2,
        /// A rate.
        Limit = 4,
    }
}

/// A stateful object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its name, which is unique among objects of its kind.
    pub name: String,
    /// What it is, and what it has counted.
    pub state: ObjectState,
    /// Attributes that this crate does not know.
    pub unknown: Vec<crate::wire::Unknown>,
}

/// What an object is, and what it has counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectState {
    /// A counter, with what it has counted.
    Counter(Counter),
    /// A quota, with what is used of it.
    Quota(Quota),
    /// A limit; how full its bucket is the kernel does not tell.
    Limit(Limit),
    /// Another kind, or one of these not as this crate would write it.
    Unknown {
        /// The kernel's number for the kind.
        kind: u32,
        /// Its attributes.
        data: Vec<u8>,
    },
}

impl Object {
    /// An object that begins as `state` says.
    #[must_use]
    pub fn new(name: impl Into<String>, state: impl Into<ObjectState>) -> Self {
        Self {
            name: name.into(),
            state: state.into(),
            unknown: Vec::new(),
        }
    }

    /// Its kind; none for one that this crate does not know.
    #[must_use]
    pub fn kind(&self) -> Option<ObjectKind> {
        ObjectKind::from_number(self.state.kind_number())
    }

    /// It without what traffic has changed of it: what two objects that are meant alike have in common.
    #[must_use]
    pub fn uncounted(mut self) -> Self {
        match &mut self.state {
            ObjectState::Counter(counter) => *counter = Counter::default(),
            ObjectState::Quota(quota) => {
                quota.used = 0;
                quota.flags = quota.flags.without(QuotaFlags::DEPLETED);
            }
            ObjectState::Limit(_) | ObjectState::Unknown { .. } => {}
        }
        self
    }
}

macro_rules! states {
    ($($kind:ident)*) => {
        $(
            impl From<$kind> for ObjectState {
                fn from(state: $kind) -> Self {
                    Self::$kind(state)
                }
            }
        )*

        impl ObjectState {
            pub(crate) fn kind_number(&self) -> u32 {
                match self {
                    $( Self::$kind(_) => ObjectKind::$kind.number(), )*
                    Self::Unknown { kind, .. } => *kind,
                }
            }

            fn encode(&self, number: u16, out: &mut Encoder) {
                match self {
                    $( Self::$kind(state) => state.put(number, out), )*
                    Self::Unknown { data, .. } => out.attribute(number, data),
                }
            }

            fn decode(kind: u32, data: &[u8]) -> Self {
                let known = match ObjectKind::from_number(kind) {
                    $( Some(ObjectKind::$kind) => $kind::get_all(data).map(Self::$kind).ok(), )*
                    None => None,
                };
                known.unwrap_or_else(|| Self::Unknown { kind, data: data.to_vec() })
            }
        }
    };
}

states!(Counter Quota Limit);

attributes! {
    /// How an object lies in a message. Left out: its table, use count and handle.
    struct ObjectAttributes as "an object" ignore 1 | 5 | 6 | 7 keep unknown {
        name: String = 2,
        kind: u32 = 3,
        data: StateBytes = 4,
    }
}

/// The state's attributes, which only its kind makes readable; written by [`ObjectState::encode`].
struct StateBytes(Vec<u8>);

impl Attribute for StateBytes {
    fn put(&self, number: u16, out: &mut Encoder) {
        out.nest(number, |out| out.bytes_mut().extend_from_slice(&self.0));
    }

    fn get(value: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self(value.to_vec()))
    }
}

impl Attributes for Object {
    fn put_all(&self, out: &mut Encoder) {
        let mut state = Encoder::default();
        self.state.encode(0, &mut state);
        let data = crate::wire::find(state.bytes(), 0).unwrap_or_default().to_vec();
        let attributes = ObjectAttributes {
            name: self.name.clone(),
            kind: self.state.kind_number(),
            data: StateBytes(data),
            unknown: self.unknown.clone(),
        };
        attributes.put_all(out);
    }

    fn get_all(bytes: &[u8]) -> Result<Self, DecodeError> {
        let ObjectAttributes {
            name,
            kind,
            data,
            unknown,
        } = ObjectAttributes::get_all(bytes)?;
        Ok(Self {
            name,
            state: ObjectState::decode(kind, &data.0),
            unknown,
        })
    }
}
