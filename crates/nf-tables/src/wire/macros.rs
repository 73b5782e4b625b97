//! One description for both directions.
//!
//! `attributes!` makes a structure whose fields are attributes, `numbers!` an enumeration that is a number of 32 bits,
//! `flags!` a set of bits in such a number. What is written and what is read both follow from the one table, so they
//! cannot drift apart.

/// A structure and its attributes: `field: Type = number`.
///
/// - `= 5 or VALUE`: not written where it is `VALUE`, and `VALUE` where it is not there.
/// - `ignore 2 | 6`: attributes of the kernel's own that say nothing about what was wanted (handles, use counts).
/// - `keep field`: a field `Vec<Unknown>` for attributes that are not described; without it they are an error.
macro_rules! attributes {
    (
        $(#[$outer:meta])*
        $vis:vis struct $name:ident as $what:literal $(ignore $($ignored:literal)|+)? $(keep $rest:ident)? {
            $( $(#[$inner:meta])* $visible:vis $field:ident: $kind:ty = $number:literal $(or $default:expr)?, )*
        }
    ) => {
        $(#[$outer])*
        $vis struct $name {
            $( $(#[$inner])* $visible $field: $kind, )*
            $(
                /// Attributes that this crate does not know: something that was not made by it, or a newer kernel.
                pub $rest: Vec<$crate::wire::Unknown>,
            )?
        }

        impl $crate::wire::Attributes for $name {
            fn put_all(&self, out: &mut $crate::wire::Encoder) {
                // Some have none.
                let _ = &out;
                $( $crate::wire::attributes!(@put self.$field, $number, out $(, $default)?); )*
                $( self.$rest.iter().for_each(|unknown| out.attribute(unknown.number, &unknown.value)); )?
            }

            fn get_all(bytes: &[u8]) -> Result<Self, $crate::wire::DecodeError> {
                $( let mut $field: Option<$kind> = None; )*
                $( let mut $rest = Vec::new(); )?
                for attribute in $crate::wire::attributes_of(bytes) {
                    let attribute = attribute?;
                    match attribute.number {
                        $( $number => {
                            let value = $crate::wire::Attribute::get(attribute.value)?;
                            if $field.replace(value).is_some() {
                                return Err($crate::wire::DecodeError::Twice { what: $what, number: $number });
                            }
                        } )*
                        $( $($ignored)|+ => {} )?
                        _ => $crate::wire::attributes!(@unknown $what, attribute $(, $rest)?),
                    }
                }
                Ok(Self {
                    $( $field: match $field {
                        Some(value) => value,
                        None => $crate::wire::attributes!(@absent $kind, $what, $number $(, $default)?),
                    }, )*
                    $( $rest, )?
                })
            }
        }
    };
    (@put $value:expr, $number:literal, $out:ident) => {
        $crate::wire::Attribute::put(&$value, $number, $out);
    };
    (@put $value:expr, $number:literal, $out:ident, $default:expr) => {
        if $value != $default {
            $crate::wire::Attribute::put(&$value, $number, $out);
        }
    };
    (@absent $kind:ty, $what:literal, $number:literal) => {
        <$kind as $crate::wire::Attribute>::absent()
            .ok_or($crate::wire::DecodeError::Missing { what: $what, number: $number })?
    };
    (@absent $kind:ty, $what:literal, $number:literal, $default:expr) => { $default };
    (@unknown $what:literal, $attribute:ident) => {
        return Err($crate::wire::DecodeError::Unknown { what: $what, number: $attribute.number })
    };
    (@unknown $what:literal, $attribute:ident, $rest:ident) => {
        $rest.push($crate::wire::Unknown { number: $attribute.kind, value: $attribute.value.to_vec() })
    };
}

/// An enumeration that is a number of 32 bits; other numbers are an error.
macro_rules! numbers {
    (
        $(#[$outer:meta])*
        pub enum $name:ident as $what:literal {
            $( $(#[$inner:meta])* $variant:ident = $number:literal, )*
        }
    ) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $( $(#[$inner])* $variant, )*
        }

        impl $name {
            /// Everything that it can be.
            pub const ALL: &[Self] = &[$( Self::$variant, )*];

            /// The kernel's number for it.
            #[must_use]
            pub const fn number(self) -> u32 {
                match self {
                    $( Self::$variant => $number, )*
                }
            }

            /// What the kernel's number stands for.
            #[must_use]
            pub const fn from_number(number: u32) -> Option<Self> {
                match number {
                    $( $number => Some(Self::$variant), )*
                    _ => None,
                }
            }
        }

        impl $crate::wire::Attribute for $name {
            fn put(&self, number: u16, out: &mut $crate::wire::Encoder) {
                $crate::wire::Attribute::put(&self.number(), number, out);
            }

            fn get(value: &[u8]) -> Result<Self, $crate::wire::DecodeError> {
                let number = <u32 as $crate::wire::Attribute>::get(value)?;
                Self::from_number(number).ok_or($crate::wire::DecodeError::Number {
                    what: $what,
                    number: number.into(),
                })
            }
        }
    };
}

/// A set of bits in a number of 32 bits; bits without a name are kept. `without 1`: those bits are the kernel's own and are
/// not read.
macro_rules! flags {
    (
        $(#[$outer:meta])*
        pub struct $name:ident $(without $masked:literal)? {
            $( $(#[$inner:meta])* $flag:ident = $bit:literal, )*
        }
    ) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u32);

        impl $name {
            /// No flag.
            pub const NONE: Self = Self(0);
            $( $(#[$inner])* pub const $flag: Self = Self($bit); )*

            /// Both together.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// These without those.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            /// Whether all of `other` are in it.
            #[must_use]
            pub const fn has(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// The number that the kernel knows them by.
            #[must_use]
            pub const fn bits(self) -> u32 {
                self.0
            }

            /// From the number that the kernel knows them by.
            #[must_use]
            pub const fn from_bits(bits: u32) -> Self {
                Self(bits)
            }
        }

        impl $crate::wire::Attribute for $name {
            fn put(&self, number: u16, out: &mut $crate::wire::Encoder) {
                $crate::wire::Attribute::put(&self.0, number, out);
            }

            fn get(value: &[u8]) -> Result<Self, $crate::wire::DecodeError> {
                let bits = <u32 as $crate::wire::Attribute>::get(value)?;
                Ok(Self(bits $(& !$masked)?))
            }
        }
    };
}

pub(crate) use {attributes, flags, numbers};
