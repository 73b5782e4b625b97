//! Sequences after which the enforcer once said or did something else than the reference: chance finds them too seldom.

use std::cell::RefCell;

use super::happenings::{ChannelLife, Happening};
use super::world::Failure;
use super::{Said, Step, Tally, sequence};

#[test]
fn sequences_that_once_failed() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let tally = RefCell::new(Tally::default());
    for happenings in sequences().into_iter().chain(with_silence()).chain(with_frozen()) {
        runtime.block_on(sequence(&happenings, &tally)).unwrap();
    }
}

fn isolate() -> Happening {
    Happening::Step(Step::Says(0, Said::Isolate))
}

/// That authority cuts one remote off.
fn block_one(who: usize) -> Happening {
    let (remotes, ports, allow) = (1, 0, 0);
    let said = Said::Rich {
        isolate: false,
        remotes,
        ports,
        allow,
    };
    Happening::Step(Step::Says(who, said))
}

fn sequences() -> Vec<Vec<Happening>> {
    vec![
        // The kernel has what nft said had failed.
        vec![Happening::Fails(Failure::HalfReported, 2), isolate()],
        // Fewer layers are tried, and nobody says that the kernel took them.
        vec![
            Happening::Fails(Failure::Refused, 1),
            Happening::Fails(Failure::HalfReported, 1),
            isolate(),
        ],
        // A release while the order's journal is late: what is on disk later is the release.
        vec![
            Happening::Fails(Failure::JournalLate, 4),
            isolate(),
            Happening::Step(Step::Says(0, Said::Release)),
            Happening::Passes(20),
            Happening::Step(Step::Restart),
        ],
        // A layer that is refused after another one was: both refusals are remembered.
        vec![
            Happening::Fails(Failure::Refused, 1),
            isolate(),
            Happening::Layers {
                egress: false,
                bridge: false,
            },
            Happening::Step(Step::Says(1, Said::Isolate)),
        ],
        // An order that was given up ends by itself: nobody wants back what was taken away.
        vec![
            Happening::Brief(20),
            Happening::Channel(ChannelLife::Dead),
            Happening::Passes(25),
        ],
        // A kernel that did not answer once is known again at the next answer.
        vec![
            Happening::Fails(Failure::Silent, 1),
            Happening::Step(Step::Repeats(0)),
        ],
        // A channel that is first seen to work between the order and the load, which is late.
        vec![
            Happening::Fails(Failure::Silent, 3),
            Happening::Channel(ChannelLife::Dead),
            Happening::Step(Step::Restart),
            isolate(),
            Happening::Channel(ChannelLife::CutByRules),
        ],
        // A channel that is first seen to work while another hand had taken the rules away.
        vec![
            Happening::Channel(ChannelLife::Dead),
            Happening::Step(Step::Restart),
            isolate(),
            Happening::Channel(ChannelLife::CutByRules),
            Happening::Step(Step::OtherHand(0)),
        ],
    ]
}

/// About a channel that rules silence, or that is heard again.
fn with_silence() -> Vec<Vec<Happening>> {
    vec![
        // Rules that silence the channel, and another order while they do.
        vec![
            Happening::Channel(ChannelLife::CutByRules),
            isolate(),
            Happening::Passes(4),
            Happening::Step(Step::Says(1, Said::Isolate)),
        ],
        // The channel works again in the very moment in which what was given up is to be tried again.
        vec![
            isolate(),
            Happening::Channel(ChannelLife::CutByRules),
            Happening::Passes(17),
            Happening::Channel(ChannelLife::Alive),
        ],
        // Lines that are pinned again in the moment in which everything is to have settled.
        vec![
            block_one(2),
            Happening::Step(Step::WithoutNucleus),
            Happening::Channel(ChannelLife::Dead),
            Happening::Passes(10),
            Happening::Channel(ChannelLife::Alive),
        ],
        vec![
            block_one(0),
            Happening::Channel(ChannelLife::CutByRules),
            Happening::Brief(7),
            Happening::Passes(5),
            Happening::Channel(ChannelLife::Alive),
            Happening::Step(Step::Repeats(0)),
        ],
    ]
}

/// With a process that an order freezes.
fn with_frozen() -> Vec<Vec<Happening>> {
    vec![
        // A process that was frozen, and a restart with a journal that does not say so.
        vec![
            Happening::Fails(Failure::JournalFails, 20),
            isolate(),
            Happening::Step(Step::Restart),
        ],
        // The same, and the processes cannot be listed or signalled at first.
        vec![
            Happening::Fails(Failure::JournalFails, 20),
            isolate(),
            Happening::Fails(Failure::NoProcesses, 2),
            Happening::Fails(Failure::SignalRefused, 2),
            Happening::Step(Step::Restart),
        ],
    ]
}
