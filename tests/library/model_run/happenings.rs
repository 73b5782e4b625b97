//! What can happen in a sequence.

use proptest::prelude::*;

use super::super::reference::{Step, step};
use super::world::Failure;

/// How the control channel lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChannelLife {
    Alive,
    /// Any isolation cuts it: the lifelines do not lead to it.
    CutByRules,
    Dead,
}

/// One thing that happens to the machine or is said to it.
#[derive(Debug, Clone)]
pub(super) enum Happening {
    Step(Step),
    Fails(Failure, u8),
    Passes(u8),
    /// The operator isolates for so many seconds.
    Brief(u8),
    Channel(ChannelLife),
    /// The nucleus is there to be asked, or gone or stopped.
    Nucleus(bool),
    /// Seconds, in either direction.
    ClockSteps(i32),
    Reboot,
    /// The kernel takes these layers, or not.
    Layers {
        egress: bool,
        bridge: bool,
    },
    BridgeReplaced,
}

pub(super) fn happening() -> impl Strategy<Value = Happening> {
    let failure = (0..Failure::ALL.len()).prop_map(|index| Failure::ALL[index]);
    prop_oneof![
        24 => step().prop_map(Happening::Step),
        8 => (failure, 1..5u8).prop_map(|(failure, times)| Happening::Fails(failure, times)),
        6 => (1..20u8).prop_map(Happening::Passes),
        2 => (1..100u8).prop_map(Happening::Brief),
        3 => prop_oneof![Just(ChannelLife::Alive), Just(ChannelLife::CutByRules), Just(ChannelLife::Dead)]
            .prop_map(Happening::Channel),
        2 => any::<bool>().prop_map(Happening::Nucleus),
        1 => (-4_000..4_000i32).prop_map(Happening::ClockSteps),
        1 => Just(Happening::Reboot),
        1 => any::<(bool, bool)>().prop_map(|(egress, bridge)| Happening::Layers { egress, bridge }),
        1 => Just(Happening::BridgeReplaced),
    ]
}
