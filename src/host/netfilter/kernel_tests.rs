//! Our tables read while somebody else writes, in a network namespace of the test's own.

#![expect(
    clippy::disallowed_methods,
    reason = "somebody else writes from a thread, and waits in between"
)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use edgewarden_lab::lab_test;
use nf_tables::{Element, TableProperties, Value};

use super::*;
use crate::host::clock;
use crate::quarantine::orders::order::{Authority, BlockedRemote, Order, Posture};
use crate::quarantine::plan::{IsolationSettings, Scope, fold};
use crate::quarantine::ruleset::verify::compare;
use crate::quarantine::ruleset::{CutAction, EgressDevice, Hooks, render};

/// Readings of a test.
const TIMES: usize = 100;

/// Two tables that block a host: of the IP stack, and of loopback's egress.
fn ruleset() -> Ruleset {
    let now = clock::now().wall;
    let mut order = Order {
        posture: Posture::Restrict,
        ..Order::isolate(Authority::Shadow, "test", None, now)
    };
    let blocked = BlockedRemote {
        remote: "203.0.113.9/32".parse().unwrap(),
        expires: None,
    };
    order.block.remotes = [blocked].into_iter().collect();
    let plan = fold(
        &[order],
        &IsolationSettings::default(),
        Vec::new(),
        Scope::Pinned,
        now,
    );
    let lo = EgressDevice {
        name: "lo".to_owned(),
        index: 1,
    };
    let hooks = Hooks {
        egress: vec![lo],
        ..Hooks::default()
    };
    render(&plan, &hooks, CutAction::Cut)
}

fn load(kernel: &mut Connection, ruleset: &Ruleset) {
    let (present, now) = (tables(kernel).unwrap(), clock::now().wall);
    commit(
        kernel,
        &mut ruleset.load_batch(&present, &CarriedCounters::default(), now),
    )
    .unwrap();
}

fn reading(kernel: &mut Connection, ruleset: &Ruleset) -> Result<Vec<String>, Obstacle> {
    let layers = tables(kernel)?;
    let listings = list(kernel, &layers, ruleset, None)?;
    Ok(compare(ruleset, &listings, None, clock::now().wall).differences)
}

/// Somebody else's transactions that are no chance.
const WRITTEN: usize = 20;

/// Ends the other thread, however the test ends.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Reads so often while `write` writes without end.
fn read_while(write: impl Fn(&mut Connection) + Sync, mut each: impl FnMut(&mut Connection)) {
    let (done, written) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut other = open().unwrap();
            while !done.load(Ordering::Relaxed) {
                write(&mut other);
                written.fetch_add(1, Ordering::Relaxed);
            }
        });
        while written.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        let _ends = Ends(&done);
        let mut kernel = open().unwrap();
        // The writer may be slower than the reader.
        let mut readings = 0;
        while readings < TIMES || (written.load(Ordering::Relaxed) <= WRITTEN && readings < 100 * TIMES) {
            each(&mut kernel);
            readings += 1;
        }
    });
    println!("{written:?} transactions of somebody else's");
    assert!(
        written.load(Ordering::Relaxed) > WRITTEN,
        "control: somebody wrote"
    );
}

lab_test!(what_moves_from_table_to_table_is_in_no_proof, || {
    let ruleset = ruleset();
    let mut kernel = open().unwrap();
    load(&mut kernel, &ruleset);
    assert_eq!(
        reading(&mut kernel, &ruleset).unwrap(),
        Vec::<String>::new(),
        "control"
    );
    let stray = || [Element::new(Value::new(&[203, 0, 113, 7]).unwrap())];
    let [inet, netdev] = [Layer::Inet, Layer::Netdev].map(own_table);
    let mut first = Batch::new();
    first.add_elements(&inet, "hosts4", stray());
    commit(&mut kernel, &mut first).unwrap();
    // In one of both at every moment.
    let shuttle = |other: &mut Connection| {
        for (from, to) in [(&inet, &netdev), (&netdev, &inet)] {
            let mut batch = Batch::new();
            batch.delete_elements(from, "hosts4", stray());
            batch.add_elements(to, "hosts4", stray());
            commit(other, &mut batch).unwrap();
            // About as long as one table is read.
            std::thread::sleep(Duration::from_micros(fastrand::u64(100..3_000)));
        }
    };
    let (mut seen, mut unread) = (0, 0);
    read_while(shuttle, |kernel| match reading(kernel, &ruleset) {
        Ok(differences) => {
            assert!(
                !differences.is_empty(),
                "taken for ours after {seen} that were seen"
            );
            seen += 1;
        }
        Err(Obstacle::Unreadable { .. }) => unread += 1,
        Err(other) => panic!("{other}"),
    });
    println!("{seen} readings saw it, {unread} were given up");
});

lab_test!(
    what_the_kernel_could_not_tell_is_not_taken_for_others_doing,
    || {
        let ruleset = ruleset();
        let mut kernel = open().unwrap();
        load(&mut kernel, &ruleset);
        let (inet, theirs) = (
            own_table(Layer::Inet),
            Table::new(own_table(Layer::Inet).family, "theirs"),
        );
        let edits = |kernel: &mut Connection, ours: bool| {
            for _ in 0..100 {
                let mut batch = Batch::new();
                batch.add_table(&theirs, &TableProperties::default());
                commit(kernel, &mut batch).unwrap();
                let mut batch = Batch::new();
                batch.delete_table(&theirs);
                commit(kernel, &mut batch).unwrap();
            }
            if ours {
                let mut batch = Batch::new();
                batch.add_elements(
                    &inet,
                    "hosts4",
                    [Element::new(Value::new(&[203, 0, 113, 7]).unwrap())],
                );
                commit(kernel, &mut batch).unwrap();
            }
        };
        let told = |room: usize, ours: bool, kernel: &mut Connection| {
            let changes = Notifications::open(room).unwrap();
            let began = generation(kernel).unwrap();
            edits(kernel, ours);
            let ended = generation(kernel).unwrap();
            assert!(ended > began + 50, "control");
            whose(changes, During { began, ended }).unwrap()
        };
        let others = told(ROOM, false, &mut kernel);
        assert!(matches!(others, Changed::Others), "control");
        assert!(matches!(told(ROOM, true, &mut kernel), Changed::Ours), "control");
        for ours in [false, true] {
            assert!(matches!(told(4_096, ours, &mut kernel), Changed::Unknown));
        }
    }
);

lab_test!(
    others_who_change_their_own_tables_keep_none_of_ours_from_being_proven,
    || {
        let ruleset = ruleset();
        let mut kernel = open().unwrap();
        load(&mut kernel, &ruleset);
        let theirs = Table::new(own_table(Layer::Inet).family, "theirs");
        for pause in [0..1, 1_000..15_000] {
            // Some thousand a second, and some hundred; a debug build takes several milliseconds to read all rules of a layer.
            let wait = || std::thread::sleep(Duration::from_micros(fastrand::u64(pause.clone())));
            let busy = |other: &mut Connection| {
                let mut batch = Batch::new();
                batch.add_table(&theirs, &TableProperties::default());
                commit(other, &mut batch).unwrap();
                wait();
                let mut batch = Batch::new();
                batch.delete_table(&theirs);
                commit(other, &mut batch).unwrap();
                wait();
            };
            let mut several = 0;
            read_while(busy, |kernel| {
                let before = generation(kernel).unwrap();
                assert_eq!(reading(kernel, &ruleset).unwrap(), Vec::<String>::new());
                several += usize::from(generation(kernel).unwrap() != before);
            });
            assert!(several > 0, "control: something was changed meanwhile");
        }
    }
);

#[test]
fn a_family_that_the_kernel_does_not_have_holds_nothing_of_ours() {
    let refused = |errno: Errno| {
        AskError::Refused(Refusal {
            step: None,
            errno: errno as i32,
            text: None,
            place: Vec::new(),
            expression: None,
        })
    };
    for unknown in [Errno::EOPNOTSUPP, Errno::EAFNOSUPPORT] {
        assert_eq!(known_family::<bool>(Err(refused(unknown))), Ok(None), "{unknown}");
    }
    assert_eq!(known_family(Ok(true)), Ok(Some(true)), "control");
    assert!(known_family::<bool>(Err(refused(Errno::ENOMEM))).is_err());
}

lab_test!(this_kernel_is_tried_out_and_nothing_is_left, || {
    let mut kernel = open().unwrap();
    let before = generation(&mut kernel).unwrap();
    for loudly in [false, true] {
        assert_eq!(lacking(&mut kernel, loudly), Ok(Vec::new()));
    }
    try_out(&mut kernel).unwrap();
    assert_eq!(generation(&mut kernel), Ok(before), "nothing was carried out");
    assert!(tables(&mut kernel).unwrap().is_empty());
});
