//! What the kernel's packet filter says of our tables, and what it is told, each as one blocking call.
//!
//! In: a connection, and what is asked or ordered. Out: the answer, or the [`Obstacle`] that it is. Only tables of ours are
//! named, so others' rulesets cost nothing whatever their size.

use std::collections::BTreeSet;
use std::time::Duration;

use nf_tables::socket::{AskError, CommitError, Connection, Notifications, Refusal};
use nf_tables::{
    Batch, Counter, During, Item, ListingLimits, Notice, Object, ObjectState, Quota, Step, Table,
};
use nix::errno::Errno;

use crate::Arrange;
use crate::error_text;
use crate::quarantine::proof::obstacle::Obstacle;
use crate::quarantine::ruleset::verify::{ListedElements, ListedTable, Listings, is_own_set};
use crate::quarantine::ruleset::{
    self, CarriedCounters, EGRESS_CHAINS, Lack, Layer, RuleHandles, Ruleset, is_own_table, own_table,
    removal, trials,
};

/// The kernel answers within microseconds; another program's large transaction holds everybody up for a second or two.
const LIMIT: Duration = Duration::from_secs(5);
/// What is read of a table that may be anybody's: rules, sets, objects and constants of ours are some hundreds.
const LISTING_LIMITS: ListingLimits = ListingLimits {
    items: 16_384,
    bytes: 16 * 1024 * 1024,
};
/// Elements read of one set besides those that it should have: more is somebody's doing, and is replaced.
const MORE_ELEMENTS: usize = 1_024;
/// Objects read of one table; we make some dozens.
const MAX_OBJECTS: usize = 1_024;
/// How often our tables are read where the packet filter changes meanwhile. Each reading takes a millisecond or two, so who makes
/// all of them fail changes our tables without end.
const READINGS: usize = 6;
/// What the kernel may keep of its words about changes while our tables are read once, in bytes: of some ten thousand.
const ROOM: usize = 4 * 1024 * 1024;
/// How the name of a table begins that nobody has: its removal at the end of a transaction has the kernel take back all of it.
const NOBODYS: &str = "edgewarden-nobodys";

/// Opens a connection; it belongs to the network namespace of the calling thread.
///
/// # Errors
/// The kernel has no packet filter, or there are no descriptors.
pub(crate) fn open() -> Result<Connection, Obstacle> {
    Connection::open(LIMIT).map_err(|error| asked(&error))
}

/// The packet filter's generation.
///
/// # Errors
/// What stands in the way.
pub(crate) fn generation(kernel: &mut Connection) -> Result<u32, Obstacle> {
    let generation = kernel.generation().map_err(|error| asked(&error))?;
    Ok(generation.id)
}

/// In which families our table exists.
///
/// # Errors
/// What stands in the way.
pub(crate) fn tables(kernel: &mut Connection) -> Result<BTreeSet<Layer>, Obstacle> {
    let mut found = BTreeSet::new();
    for layer in Layer::ALL {
        if known_family(kernel.has_table(&own_table(layer)))?.unwrap_or_default() {
            found.insert(layer);
        }
    }
    Ok(found)
}

/// What our counters and quotas say.
///
/// # Errors
/// What stands in the way.
pub(super) fn counted(kernel: &mut Connection) -> Result<CarriedCounters, Obstacle> {
    let mut counted = CarriedCounters::default();
    for layer in Layer::ALL {
        let objects = known_family(kernel.objects(&own_table(layer), MAX_OBJECTS))?;
        for Object { name, state, .. } in objects.unwrap_or_default() {
            let key = (layer, name);
            match state {
                ObjectState::Counter(Counter { packets, bytes }) => {
                    counted.counters.insert(key, (packets, bytes));
                }
                ObjectState::Quota(Quota { used, .. }) => {
                    counted.quotas.insert(key, used);
                }
                ObjectState::Limit(_) | ObjectState::Unknown { .. } => {}
            }
        }
    }
    Ok(counted)
}

/// The interfaces of our egress chains, by name. Where one of them is missing no further one is asked for.
///
/// # Errors
/// What stands in the way.
pub(super) fn egress_devices(kernel: &mut Connection) -> Result<BTreeSet<String>, Obstacle> {
    let mut devices = BTreeSet::new();
    for name in EGRESS_CHAINS {
        let Some(chain) = known_family(kernel.chain(&own_table(Layer::Netdev), name))?.flatten() else {
            break;
        };
        let hook = chain.hook.iter();
        devices.extend(hook.flat_map(|hook| hook.devices.names()).cloned());
    }
    Ok(devices)
}

/// Our tables of these families, as far as they exist, with all that they hold; their chains are to be those of `wanted`.
/// All of it is of one moment: of one generation, or of several in between which only others' tables were changed.
///
/// # Errors
/// What stands in the way.
pub(super) fn list(
    kernel: &mut Connection,
    layers: &BTreeSet<Layer>,
    wanted: &Ruleset,
    before: Option<&Ruleset>,
) -> Result<Listings, Obstacle> {
    let mut why = "";
    for reading in 0..READINGS {
        // From the second one on it is heard whose tables are changed. A subscription of before may have lost some of it without a
        // word: it says once that it has, and nothing of what else it loses until all that it has kept is read.
        let changes = (reading > 0).then(|| Notifications::open(ROOM)).transpose();
        let changes = changes.map_err(|error| asked(&error))?;
        let mut during = None;
        let listings = list_each(kernel, layers, wanted, before, &mut during)?;
        let Some(during) = during.filter(|during| !during.is_one()) else {
            return Ok(listings);
        };
        why = match changes.map(|changes| whose(changes, during)).transpose()? {
            Some(Changed::Others) => return Ok(listings),
            Some(Changed::Ours) => "somebody changes our tables while they are read",
            None | Some(Changed::Unknown) => {
                "more of the packet filter is changed while our tables are read than the kernel tells"
            }
        };
    }
    Err(Obstacle::Unreadable { why: why.to_owned() })
}

/// Whose tables were changed during a reading.
enum Changed {
    Others,
    Ours,
    /// The kernel has not told all of it.
    Unknown,
}

/// Whose tables were changed during a reading, by the kernel's own word. What it said of before is passed over.
fn whose(mut changes: Notifications, during: During) -> Result<Changed, Obstacle> {
    let (mut ours_touched, mut ours, mut newest, mut is_whole) = (false, false, during.began, true);
    let is_later = |one: u32, other: u32| one.wrapping_sub(other).cast_signed() > 0;
    while is_later(during.ended, newest) && is_whole {
        let heard = changes.next(LIMIT, |notice| match notice {
            Notice::Change { table, .. } => {
                ours_touched |= table.as_ref().is_some_and(is_own_table);
            }
            Notice::Generation(generation) => {
                let is_during = is_later(generation.id, during.began);
                ours |= ours_touched && is_during;
                ours_touched = false;
                if is_during {
                    // It counts by ones, and never to zero.
                    is_whole &= generation.id == newest.wrapping_add(1).max(1);
                    newest = generation.id;
                }
            }
        });
        match heard {
            Ok(true) => {}
            Ok(false) | Err(AskError::Lost) => return Ok(Changed::Unknown),
            Err(error) => return Err(asked(&error)),
        }
    }
    Ok(match (ours, is_whole) {
        (true, _) => Changed::Ours,
        (false, true) => Changed::Others,
        (false, false) => Changed::Unknown,
    })
}

/// The same, each table and each set for itself, and when.
fn list_each(
    kernel: &mut Connection,
    layers: &BTreeSet<Layer>,
    wanted: &Ruleset,
    before: Option<&Ruleset>,
    during: &mut Option<During>,
) -> Result<Listings, Obstacle> {
    let mut read_during = |next: During| *during = Some(during.map_or(next, |before| before.and(next)));
    let rulesets = [Some(wanted), before].into_iter().flatten();
    let elements: usize = rulesets.map(|ruleset| ruleset.elements.in_one_set()).sum();
    let most = elements.saturating_add(MORE_ELEMENTS);
    let mut listings = Listings::new();
    for layer in layers {
        let own = own_table(*layer);
        let chains = wanted
            .table(*layer)
            .map(|table| table.chains.as_slice())
            .unwrap_or_default();
        let chains: Vec<&str> = chains.iter().map(|chain| chain.name).collect();
        let Some(listing) = known_family(kernel.table(&own, &chains, LISTING_LIMITS))?.flatten() else {
            continue;
        };
        read_during(listing.during);
        let mut elements = ListedElements::default();
        // Others are a difference as such, whatever they hold.
        for set in listing.contents.sets.iter().filter(|set| is_own_set(&set.name)) {
            let take = |listed: &mut ListedElements, element| listed.take(&set.name, element);
            let listed = kernel.elements(&own, &set.name, most, ListedElements::default, take);
            let listed = listed.map_err(|error| match error {
                AskError::TooMany { limit } => Obstacle::Unreadable {
                    why: format!("the set {} of {own} has more than {limit} elements", set.name),
                },
                other => asked(&other),
            });
            if let Some((listed, during)) = listed? {
                read_during(during);
                elements.extend(listed);
            }
        }
        listings.insert(*layer, ListedTable::new(listing.contents, elements));
    }
    Ok(listings)
}

/// The handles of the rules of those tables whose rules are not the same in both.
///
/// # Errors
/// What stands in the way.
pub(super) fn rule_handles(
    kernel: &mut Connection,
    wanted: &Ruleset,
    held: &Ruleset,
) -> Result<RuleHandles, Obstacle> {
    let mut handles = RuleHandles::new();
    let differs = |table: &&ruleset::Table| held.table(table.layer).is_some_and(|before| before != *table);
    for table in wanted.tables.iter().filter(differs) {
        let listed = kernel.rule_handles(&own_table(table.layer), LISTING_LIMITS.items);
        handles.insert(table.layer, listed.map_err(|error| asked(&error))?);
    }
    Ok(handles)
}

/// Has a transaction carried out, whole or not at all.
///
/// # Errors
/// What stands in the way.
pub(super) fn commit(kernel: &mut Connection, batch: &mut Batch) -> Result<(), Obstacle> {
    kernel.commit(batch).map_err(|error| refused(&error, batch))
}

/// Takes our tables out of the kernel.
///
/// # Errors
/// What stands in the way.
pub(crate) fn remove_tables() -> Result<(), Obstacle> {
    let mut kernel = open()?;
    let present = tables(&mut kernel)?;
    commit(&mut kernel, &mut removal(&present))
}

/// Whether a table of ours could be loaded; nothing is changed.
///
/// # Errors
/// What stands in the way.
pub(super) fn try_out(kernel: &mut Connection) -> Result<(), Obstacle> {
    let mut batch = Batch::new();
    batch.clear_table(&own_table(Layer::Inet));
    let refusals = tried(kernel, &mut batch)?;
    if refusals.is_empty() {
        return Ok(());
    }
    Err(refused(&CommitError::Refused { refusals }, &batch))
}

/// What this kernel lacks, as trials show it; nothing is changed.
///
/// # Errors
/// What stands in the way of trying.
pub(super) fn lacking(kernel: &mut Connection, loudly: bool) -> Result<Vec<Lack>, Obstacle> {
    let mut batch = Batch::new();
    batch.add_contents(&trials(nobodys(), loudly));
    let mut lacks = Vec::new();
    for refusal in tried(kernel, &mut batch)? {
        let item = refusal
            .step
            .and_then(|step| batch.step_at(step))
            .map(|step| &step.item);
        let lack = match item {
            Some(Item::Rule {
                comment: Some(comment),
                ..
            }) => Lack::of_trial(comment),
            Some(Item::Set(name)) => Lack::of_trial_set(name),
            _ => None,
        };
        match lack {
            // Its set or its module is not there, or it knows no such step.
            Some(lack) if says_no(refusal.errno) => lacks.push(lack),
            // Where there is no room nothing is known, and without a chain every rule is refused.
            _ => {
                let refusals = vec![refusal];
                return Err(refused(&CommitError::Refused { refusals }, &batch));
            }
        }
    }
    lacks.sort_unstable();
    lacks.dedup();
    Ok(lacks)
}

/// Whether a kernel that refuses with this number does not have what is asked of it.
fn says_no(errno: i32) -> bool {
    let all = [
        Errno::ENOENT,
        Errno::EOPNOTSUPP,
        Errno::EINVAL,
        Errno::EPROTO,
        Errno::EAFNOSUPPORT,
    ];
    all.iter().any(|no| *no as i32 == errno)
}

/// Has a transaction tried and taken back; what of it was refused.
///
/// # Errors
/// What stands in the way of trying.
fn tried(kernel: &mut Connection, batch: &mut Batch) -> Result<Vec<Refusal>, Obstacle> {
    batch.delete_table(&nobodys());
    let last = batch.steps().count() - 1;
    match kernel.commit(batch) {
        Ok(()) => Ok(Vec::new()),
        // That one is not there, and everything before it could have been done.
        Err(CommitError::Refused { mut refusals }) => {
            refusals.retain(|refusal| refusal.step != Some(last) || refusal.errno != Errno::ENOENT as i32);
            Ok(refusals)
        }
        Err(error) => Err(refused(&error, batch)),
    }
}

fn nobodys() -> Table {
    let name = format!("{NOBODYS}-{:08x}", fastrand::u32(..));
    Table::new(own_table(Layer::Inet).family, name)
}

/// None where this kernel does not have a family, and so nothing of it. Before Linux 4.16 it says so, in another word, also of one
/// that nobody has used since it runs.
fn known_family<T>(answer: Result<T, AskError>) -> Result<Option<T>, Obstacle> {
    let unknown = [Errno::EOPNOTSUPP as i32, Errno::EAFNOSUPPORT as i32];
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.errno().is_some_and(|errno| unknown.contains(&errno)) => Ok(None),
        Err(error) => Err(asked(&error)),
    }
}

/// What an error of asking is.
fn asked(error: &AskError) -> Obstacle {
    let why = error_text(error);
    match error {
        _ if error.errno() == Some(Errno::EPERM as i32) => Obstacle::NotPermitted,
        // It answers: our own table cannot be read, which may be somebody's doing.
        AskError::Decode(_) | AskError::Listing(_) | AskError::TooMany { .. } | AskError::Changing => {
            Obstacle::Unreadable { why }
        }
        AskError::Open(_)
        | AskError::Send(_)
        | AskError::Receive(_)
        | AskError::Late
        | AskError::Lost
        | AskError::Refused(_) => Obstacle::FilterSilent { why },
    }
}

/// What an error of ordering is, with the part of our rules that it is about.
fn refused(error: &CommitError, batch: &Batch) -> Obstacle {
    match error {
        CommitError::Refused { refusals } => {
            if refusals
                .iter()
                .any(|refusal| refusal.errno == Errno::EPERM as i32)
            {
                return Obstacle::NotPermitted;
            }
            let told = refusals.first().map(|refusal| {
                let step = refusal.step.and_then(|step| batch.step_at(step));
                let what = step.map_or_else(|| "the whole transaction".to_owned(), part);
                format!("{what}: {refusal}")
            });
            Obstacle::Refused {
                complaint: told.unwrap_or_default(),
                lacks: lacks(refusals, batch),
            }
        }
        CommitError::Unwritable { step, fault } => {
            let step = step.and_then(|step| batch.step_at(step)).map(part);
            Obstacle::Refused {
                complaint: format!("{}: {fault}", step.unwrap_or_default()),
                lacks: Vec::new(),
            }
        }
        CommitError::NotSent { .. } => Obstacle::FilterSilent {
            why: error_text(error),
        },
        CommitError::Unclear(_) => Obstacle::Unreadable {
            why: error_text(error),
        },
    }
}

/// What the kernel was built without, as far as refusals show it; what else they are about does not count here.
fn lacks(refusals: &[Refusal], batch: &Batch) -> Vec<Lack> {
    let lack = |refusal: &Refusal| {
        let step = batch.step_at(refusal.step?)?;
        let unknown = refusal.errno == Errno::ENOENT as i32;
        let unsupported = refusal.errno == Errno::EOPNOTSUPP as i32;
        match (&step.item, &refusal.expression) {
            (Item::Rule { .. }, Some(name)) if unknown => Lack::of_expression(name),
            (Item::Rule { comment, .. }, _) if unsupported => Lack::of_rule(comment.as_deref()?),
            (Item::Object(name), _) if unknown || unsupported => Lack::of_object(name),
            _ => None,
        }
    };
    let mut lacks: Vec<Lack> = refusals.iter().filter_map(lack).collect();
    lacks.arrange();
    lacks.dedup();
    lacks
}

/// A part of a transaction, for people.
fn part(step: &Step) -> String {
    named(&step.item, &step.table)
}

/// Something of a table, for people.
pub(super) fn named(item: &Item, table: &Table) -> String {
    match item {
        Item::Table => format!("table {table}"),
        Item::Chain(name) => format!("chain {name} of {table}"),
        Item::Rule { chain, comment, .. } => {
            let comment = comment.as_deref().unwrap_or("?");
            format!("rule {comment} of chain {chain} of {table}")
        }
        Item::Set(name) => format!("set {name} of {table}"),
        Item::Elements(name) => format!("elements of set {name} of {table}"),
        Item::Object(name) => format!("{name} of {table}"),
    }
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;
