//! Expressions that work on what is in a register.

use crate::value::{Register, Value};
use crate::wire::{attributes, numbers};

numbers! {
    /// How a register is compared (`enum nft_cmp_ops`); as bytes, so as numbers in network order.
    pub enum Operator as "an operator" {
        /// The same.
        Equal = 0,
        /// Not the same.
        NotEqual = 1,
        /// Before the value.
        Less = 2,
        /// Before the value or the same.
        LessOrEqual = 3,
        /// After the value.
        Greater = 4,
        /// After the value or the same.
        GreaterOrEqual = 5,
    }
}

attributes! {
    /// Ends the rule unless a register compares as wanted.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Comparison as "cmp" {
        /// What is compared.
        pub source: Register = 1,
        /// How.
        pub operator: Operator = 2,
        /// With what, and over how many bytes.
        pub value: Value = 3,
    }
}

impl Comparison {
    /// Of the first register.
    #[must_use]
    pub fn first(operator: Operator, value: impl Into<Value>) -> Self {
        Self {
            source: Register::FIRST,
            operator,
            value: value.into(),
        }
    }
}

numbers! {
    /// On which side of two bounds a register must be (`enum nft_range_ops`).
    pub enum RangeOperator as "an operator of range" {
        /// Within.
        Within = 0,
        /// Without.
        Without = 1,
    }
}

attributes! {
    /// Ends the rule unless a register is on the right side of two bounds.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Range as "range" {
        /// What is compared.
        pub source: Register = 1,
        /// The right side.
        pub operator: RangeOperator = 2,
        /// The first value within.
        pub from: Value = 3,
        /// The last value within.
        pub to: Value = 4,
    }
}

numbers! {
    /// What is done to the bits (`enum nft_bitwise_ops`). Shifts and operations of two registers are no part of this
    /// crate.
    pub enum BitwiseOperation as "an operation of bitwise" {
        /// `(source & mask) ^ xor`.
        MaskXor = 0,
    }
}

attributes! {
    /// `destination = (source & mask) ^ xor`. Normal form: the operation, which the kernel always lists, is not written.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Bitwise as "bitwise" {
        /// What is read.
        pub source: Register = 1,
        /// Where it goes.
        pub destination: Register = 2,
        /// Bytes of both.
        pub length: u32 = 3,
        /// Which bits are kept.
        pub mask: Value = 4,
        /// Which bits are turned then.
        pub xor: Value = 5,
        /// What is done; older kernels know one operation only and no attribute for it.
        pub operation: BitwiseOperation = 6 or BitwiseOperation::MaskXor,
    }
}

impl Bitwise {
    /// Keeps the bits of `mask` in the first register.
    #[must_use]
    pub fn mask(mask: impl Into<Value>) -> Self {
        let mask = mask.into();
        Self {
            source: Register::FIRST,
            destination: Register::FIRST,
            length: u32::try_from(mask.len()).unwrap_or_default(),
            mask,
            xor: Value::zero(mask.len()),
            operation: BitwiseOperation::MaskXor,
        }
    }
}

numbers! {
    /// Which way bytes are turned (`enum nft_byteorder_ops`).
    pub enum ByteOrderOperation as "an operation of byteorder" {
        /// From network order to that of this machine.
        ToHost = 0,
        /// From this machine's order to that of the network.
        ToNetwork = 1,
    }
}

attributes! {
    /// Turns the bytes of numbers in a register round, where this machine's order is not the network's.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ByteOrder as "byteorder" {
        /// What is read.
        pub source: Register = 1,
        /// Where it goes.
        pub destination: Register = 2,
        /// Which way.
        pub operation: ByteOrderOperation = 3,
        /// Bytes in all.
        pub length: u32 = 4,
        /// Bytes of one number: 2, 4 or 8.
        pub size: u32 = 5,
    }
}

impl ByteOrder {
    /// Turns one number of four bytes in the first register into network order, so that it can be compared as more or
    /// less.
    #[must_use]
    pub const fn to_network() -> Self {
        Self {
            source: Register::FIRST,
            destination: Register::FIRST,
            operation: ByteOrderOperation::ToNetwork,
            length: 4,
            size: 4,
        }
    }
}
