//! Takes a random part of a list that fits into the room left.
//!
//! In: a list, a way to write an element, the room in bytes. Out: the elements that fit, sorted. Deliberately knows
//! nothing of reports; the room is shared by taking turns.

use serde::Serialize;

use super::document::BuildError;

/// A list that grows element by element.
pub(super) struct Sampled<'a, S, T> {
    source: &'a [S],
    write: &'a dyn Fn(&S) -> T,
    /// Positions not taken yet, in random order; taken from the end.
    order: Vec<usize>,
    taken: Vec<T>,
    /// Bytes of `,"name":[]` that come with the first element, or with the empty list.
    frame: usize,
    /// The first element pays the frame and no comma.
    started: bool,
    full: bool,
}

impl<'a, S, T: Serialize + Ord> Sampled<'a, S, T> {
    pub(super) fn new(
        name: &str,
        source: &'a [S],
        write: &'a dyn Fn(&S) -> T,
        random: &mut fastrand::Rng,
    ) -> Self {
        let mut order: Vec<usize> = (0..source.len()).collect();
        random.shuffle(&mut order);
        let frame = name.len() + r#""":[],"#.len();
        Self {
            source,
            write,
            order,
            taken: Vec::new(),
            frame,
            started: false,
            full: false,
        }
    }

    /// Takes one more element if it fits and pays for it out of `room`; false when there is nothing more to take.
    pub(super) fn grow(&mut self, room: &mut usize) -> Result<bool, BuildError> {
        if self.full {
            return Ok(false);
        }
        let element = self
            .order
            .last()
            .and_then(|place| self.source.get(*place))
            .map(self.write);
        let length = match &element {
            Some(element) => serde_json::to_string(element)
                .map_err(|error| BuildError::Serialize {
                    message: error.to_string(),
                })?
                .len(),
            None => 0,
        };
        let cost = length + if self.started { 1 } else { self.frame };
        let wanted = element.is_some() || !self.started;
        let (true, Some(left)) = (wanted, room.checked_sub(cost)) else {
            self.full = true;
            return Ok(false);
        };
        *room = left;
        self.started = true;
        self.order.pop();
        self.taken.extend(element);
        Ok(true)
    }

    /// The elements taken; `None` if not even an empty list, or of a list that is not empty no element, fitted.
    pub(super) fn finish(mut self) -> Option<Vec<T>> {
        self.taken.sort_unstable();
        (self.started).then_some(self.taken)
    }
}
