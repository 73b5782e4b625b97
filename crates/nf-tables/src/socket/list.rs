//! What the kernel lists: the generation, one table, the elements of one set.
//!
//! Everything is asked for by table, so what others have is not even looked at. Chains the kernel lists by family only:
//! they are asked for one by one, by the names that they should have, and all are listed only where the table's own count
//! says that there are others. Where others change rulesets meanwhile, a table or a set is told with the generations of its
//! reading ([`During`]): whose tables were changed in between, the notifications say. What can be read wrong by others' changes
//! is read again, [`ATTEMPTS`] times at most, and what must be of one generation as often.

use std::hash::{BuildHasher as _, RandomState};

use super::connection::{AskError, Connection, Waits};
use crate::chain::CHAIN_NAME;
use crate::chain::Chain;
use crate::listing::{During, Listing, ListingError, ListingLimits, ListingReader};
use crate::notice::{Generation, generation_of};
use crate::object::Object;
use crate::rule::place_of;
use crate::set::{Element, LIST, LIST_ELEMENT, LIST_SET, elements_in};
use crate::table::{TABLE_NAME, Table};
use crate::wire::message::{Family, Message, MessageType, REQUEST, number_messages};
use crate::wire::{Attribute as _, Attributes as _, DecodeError, Encoder};

/// How often a list is read that somebody changes meanwhile. Each reading takes about a millisecond, on a busy machine ten, so
/// whoever makes all of them fail changes rulesets without end: a hundred transactions a second made eight fail now and then. A
/// set of a hundred thousand takes fifty, and grows in half a dozen steps.
const ATTEMPTS: usize = 24;

impl Connection {
    /// The generation of all rulesets of this network namespace.
    ///
    /// # Errors
    /// The kernel does not say it.
    pub fn generation(&mut self) -> Result<Generation, AskError> {
        let mut found = None;
        self.ask(
            (MessageType::GetGeneration, None, false),
            |_| {},
            &mut |message| {
                found = Some(generation_of(message)?);
                Ok(())
            },
        )?;
        let missing = DecodeError::Missing {
            what: "an answer",
            number: 0,
        };
        found.ok_or(AskError::Decode(missing))
    }

    /// Whether there is such a table.
    ///
    /// # Errors
    /// The kernel does not say it.
    pub fn has_table(&mut self, table: &Table) -> Result<bool, AskError> {
        present(self.ask_about(table, MessageType::GetTable, false, |_| {}, &mut |_| Ok(())))
    }

    /// A chain without its rules; none where there is no such table, or no such chain in it.
    ///
    /// # Errors
    /// The kernel does not say it, or it cannot be read.
    pub fn chain(&mut self, table: &Table, name: &str) -> Result<Option<Chain>, AskError> {
        let mut found = None;
        let wanted = |out: &mut Encoder| out.text(CHAIN_NAME, name);
        let mut take = |message: &Message<'_>| {
            found = Some(Chain::get_all(message.attributes())?);
            Ok(())
        };
        let asked = self.ask_about(table, MessageType::GetChain, false, wanted, &mut take);
        Ok(present(asked)?.then_some(found).flatten())
    }

    /// A table with all but the elements of its named sets; none where there is no such table. `chains` are the names of
    /// those that it should have: if it has no others, and those, no list of everybody's chains is needed.
    ///
    /// # Errors
    /// The kernel does not say it, it cannot be read, or it does not stay the same long enough to be read.
    pub fn table(
        &mut self,
        table: &Table,
        chains: &[&str],
        limits: ListingLimits,
    ) -> Result<Option<Listing>, AskError> {
        let (contents, during) = self.reading(|connection| {
            let mut reader = ListingReader::new(table.clone(), limits);
            let mut take = |message: &Message<'_>| Ok(reader.take(message)?);
            if !present(connection.ask_about(table, MessageType::GetTable, false, |_| {}, &mut take))? {
                return Ok(None);
            }
            connection.list(table, MessageType::GetSet, |_| {}, &mut take)?;
            connection.list(table, MessageType::GetObject, |_| {}, &mut take)?;
            for chain in chains {
                let name = |out: &mut Encoder| out.text(CHAIN_NAME, chain);
                present(connection.ask_about(table, MessageType::GetChain, false, name, &mut take))?;
            }
            reader.forget_repeated_objects();
            if !reader.has_all_chains() {
                reader.forget_chains();
                let mut take = |message: &Message<'_>| Ok(reader.take(message)?);
                connection.ask_about(table, MessageType::GetChain, true, |_| {}, &mut take)?;
                if !reader.has_all_chains() {
                    let table = table.clone();
                    return Err(ListingError::HoldsMore { table }.into());
                }
            }
            let mut take = |message: &Message<'_>| Ok(reader.take(message)?);
            connection.list(table, MessageType::GetRule, |_| {}, &mut take)?;
            for set in reader.anonymous_sets() {
                let mut take = |message: &Message<'_>| Ok(reader.take(message)?);
                let name = |out: &mut Encoder| out.text(LIST_SET, &set);
                connection.list(table, MessageType::GetElement, name, &mut take)?;
            }
            Ok(Some(reader.finish()?))
        })?;
        Ok(contents.map(|contents| Listing { contents, during }))
    }

    /// The elements of a named set, `limit` at most: each is given to `each` with what `start` began with, and that is
    /// returned with the generations of the reading. It begins anew where the list shows that the set was changed meanwhile.
    /// None where there is no such set.
    ///
    /// The kernel lists a set piece by piece and finds its place again by counting. Where its hash has grown between two
    /// pieces, elements come twice and others not at all; that is noticed and read again. Where it has taken away an
    /// element whose time was over, one that is there may be missing in the list: ask for it ([`Connection::element`]).
    ///
    /// # Errors
    /// As [`Connection::table`].
    pub fn elements<S>(
        &mut self,
        table: &Table,
        set: &str,
        limit: usize,
        start: impl Fn() -> S,
        mut each: impl FnMut(&mut S, Element),
    ) -> Result<Option<(S, During)>, AskError> {
        let (listed, during) = self.reading(|connection| {
            let (mut state, mut seen) = (start(), Seen::default());
            let mut take = |message: &Message<'_>| {
                for element in elements_in(message)?.1 {
                    let element = element?;
                    seen.note(&element);
                    if seen.0.len() > limit {
                        return Err(AskError::TooMany { limit });
                    }
                    each(&mut state, element);
                }
                Ok(())
            };
            let name = |out: &mut Encoder| out.text(LIST_SET, set);
            let listed = connection.list(table, MessageType::GetElement, name, &mut take);
            if seen.anything_twice() {
                return Err(AskError::Changing);
            }
            Ok(present(listed)?.then_some(state))
        })?;
        Ok(listed.map(|state| (state, during)))
    }

    /// The element of a named set with the key and flags of `element`; none where there is none, or no such set.
    ///
    /// # Errors
    /// The kernel does not say it, or it cannot be read.
    pub fn element(
        &mut self,
        table: &Table,
        set: &str,
        element: &Element,
    ) -> Result<Option<Element>, AskError> {
        let mut found = None;
        let wanted = |out: &mut Encoder| {
            out.text(LIST_SET, set);
            out.nest(LIST, |out| element.put(LIST_ELEMENT, out));
        };
        let mut take = |message: &Message<'_>| {
            found = elements_in(message)?.1.next().transpose()?;
            Ok(())
        };
        let asked = self.ask_about(table, MessageType::GetElement, false, wanted, &mut take);
        Ok(present(asked)?.then_some(found).flatten())
    }

    /// The stateful objects of a table, with what they have counted, `limit` at most.
    ///
    /// # Errors
    /// The kernel does not say it, or it cannot be read.
    pub fn objects(&mut self, table: &Table, limit: usize) -> Result<Vec<Object>, AskError> {
        self.unchanged(|connection| {
            let mut objects = Vec::new();
            let mut take = |message: &Message<'_>| {
                if objects.len() >= limit {
                    return Err(AskError::TooMany { limit });
                }
                objects.push(Object::get_all(message.attributes())?);
                Ok(())
            };
            connection.ask_about(table, MessageType::GetObject, true, |_| {}, &mut take)?;
            Ok(objects)
        })
    }

    /// The handles of a table's rules, `limit` at most: each with its chain, those of one chain in their order.
    ///
    /// # Errors
    /// The kernel does not say it, or it cannot be read.
    pub fn rule_handles(&mut self, table: &Table, limit: usize) -> Result<Vec<(String, u64)>, AskError> {
        self.unchanged(|connection| {
            let mut handles = Vec::new();
            let mut take = |message: &Message<'_>| {
                if handles.len() >= limit {
                    return Err(AskError::TooMany { limit });
                }
                handles.push(place_of(message.attributes())?);
                Ok(())
            };
            connection.ask_about(table, MessageType::GetRule, true, |_| {}, &mut take)?;
            Ok(handles)
        })
    }

    /// Asks about a table.
    fn ask_about(
        &mut self,
        table: &Table,
        kind: MessageType,
        list: bool,
        more: impl FnOnce(&mut Encoder),
        each: &mut dyn FnMut(&Message<'_>) -> Result<(), AskError>,
    ) -> Result<(), AskError> {
        let attributes = |out: &mut Encoder| {
            out.text(TABLE_NAME, &table.name);
            more(out);
        };
        self.ask((kind, Some(table.family), list), attributes, each)
    }

    /// Lists something of a table, whatever others change in theirs between two pieces. In lists of sets, rules and elements the
    /// kernel finds its place by counting in this table alone, so nothing is left out or comes twice; objects it counts everybody's.
    fn list(
        &mut self,
        table: &Table,
        kind: MessageType,
        more: impl FnOnce(&mut Encoder),
        each: &mut dyn FnMut(&Message<'_>) -> Result<(), AskError>,
    ) -> Result<(), AskError> {
        match self.ask_about(table, kind, true, more, each) {
            Err(AskError::Changing) => Ok(()),
            listed => listed,
        }
    }

    /// Reads until nobody has changed anything between beginning and end.
    fn unchanged<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, AskError>,
    ) -> Result<T, AskError> {
        for _ in 0..ATTEMPTS {
            let (found, during) = self.reading(&mut read)?;
            if during.is_one() {
                return Ok(found);
            }
        }
        Err(AskError::Changing)
    }

    /// Reads, and tells during which generations; again where what failed may be others' doing.
    fn reading<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, AskError>,
    ) -> Result<(T, During), AskError> {
        let mut last = AskError::Changing;
        for _ in 0..ATTEMPTS {
            let mut before = self.generation()?.id;
            if self.settled != Some(before) {
                before = self.settle(before)?;
                self.settled = Some(before);
            }
            let read = read(self);
            let during = During {
                began: before,
                ended: self.generation()?.id,
            };
            match read {
                Ok(found) => return Ok((found, during)),
                Err(AskError::Changing | AskError::Lost) => last = AskError::Changing,
                // What a transaction removes is out of the table's count while it is still prepared, or only tried.
                Err(error @ AskError::Listing(ListingError::HoldsMore { .. })) if during.is_one() => {
                    self.settled = None;
                    last = error;
                }
                // What was there a moment ago is gone, or is not as it was: only where nobody changed anything it is a
                // word about the table.
                Err(AskError::Refused(_) | AskError::Listing(_) | AskError::Decode(_))
                    if !during.is_one() =>
                {
                    last = AskError::Changing;
                }
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Notes that the transaction which made this generation is complete, as its notification says: no list waits for it.
    /// A program that ends may hold the kernel's transactions up for some tens of milliseconds afterwards, while the kernel
    /// frees what was removed.
    pub fn note_settled(&mut self, generation: u32) {
        self.settled = Some(generation);
    }

    /// Learns how others' transactions are waited for, so that no later wait counts as one: where an empty one does, this does.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn learn_to_wait(&mut self) -> Result<(), AskError> {
        let before = self.generation()?.id;
        self.settle(before).map(drop)
    }

    /// Waits for the end of a transaction that the kernel is just carrying out: it counts the generation before it has put
    /// everything in its place, so until then lists of the new generation have what is old in them. Gives the generation of
    /// which that is so: `before`, which was asked for right before, where the wait has counted nothing.
    fn settle(&mut self, before: u32) -> Result<u32, AskError> {
        if self.waits != Waits::Refused {
            // In this order: a transaction that counts after the question is noticed at the end.
            self.wait_for_others(false)?;
            if self.waits == Waits::Empty {
                return Ok(before);
            }
            if self.generation()?.id == before {
                self.waits = Waits::Empty;
                return Ok(before);
            }
            // That was ours, or somebody else's, of which nothing more is known.
            self.waits = Waits::Refused;
        }
        let before = self.generation()?.id;
        self.wait_for_others(true)?;
        Ok(before)
    }

    /// A transaction that changes nothing waits for its turn. An empty one costs least, but Linux 4.14 and 4.19 count it: whoever waits
    /// would see a change each time. One of which everything is refused counts nothing anywhere.
    fn wait_for_others(&mut self, is_refused: bool) -> Result<(), AskError> {
        let first = self.sequence.wrapping_add(1);
        let mut encoder = Encoder::default();
        encoder.begin_batch(None);
        if is_refused {
            // A rule of no table. Its refusal has a number that nobody asks for.
            encoder.message(MessageType::NewRule, REQUEST, Some(Family::Inet), |_| {});
        }
        encoder.end_batch();
        number_messages(encoder.bytes_mut(), first, None);
        self.sequence = first.wrapping_add(1 + u32::from(is_refused));
        self.socket.send(encoder.bytes(), 0).map_err(AskError::Send)?;
        Ok(())
    }
}

/// The elements of a list that came so far, each as a number of its key.
#[derive(Default)]
struct Seen(Vec<u64>, RandomState);

impl Seen {
    fn note(&mut self, element: &Element) {
        let Element {
            key, key_end, flags, ..
        } = element;
        self.0.push(self.1.hash_one((key, key_end, flags)));
    }

    /// Two different keys with the same number are taken for one; then it is read again in vain.
    fn anything_twice(&mut self) -> bool {
        self.0.sort_unstable();
        !self.0.is_sorted_by(|one, next| one < next)
    }
}

/// Whether what was asked for is there.
fn present(asked: Result<(), AskError>) -> Result<bool, AskError> {
    match asked {
        Ok(()) => Ok(true),
        Err(error) if error.is_absent() => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
