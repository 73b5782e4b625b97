//! Takes a part of a list that fits into the room left.
//!
//! In: a list, a way to make an element, the room in bytes. Out: the elements that fit. Deliberately knows nothing of
//! reports; the room is shared by taking turns.

use super::document::BuildError;
use crate::Arrange;

/// A list that grows element by element.
pub(super) struct ListSample<'a, S, T> {
    source: &'a [S],
    /// Positions not taken yet; taken from the end.
    order: Vec<usize>,
    taken: Vec<(usize, T)>,
    /// Bytes of the list's name and brackets, which come with the first element, or with the empty list.
    frame: usize,
    /// The first element pays the frame and no separator.
    started: bool,
    full: bool,
}

impl<'a, S, T> ListSample<'a, S, T> {
    /// Every element is as likely to be taken as any other.
    pub(super) fn random(source: &'a [S], frame: usize, random: &mut fastrand::Rng) -> Self {
        let mut list = Self::ranked(source, frame);
        random.shuffle(&mut list.order);
        list
    }

    /// The first elements are taken first.
    pub(super) fn ranked(source: &'a [S], frame: usize) -> Self {
        Self {
            source,
            order: (0..source.len()).rev().collect(),
            taken: Vec::new(),
            frame,
            started: false,
            full: false,
        }
    }

    /// Takes one more element if it fits and pays for it out of `room`; false when there is nothing more to take.
    pub(super) fn grow(
        &mut self,
        room: &mut usize,
        separator: usize,
        make: impl Fn(&S) -> T,
        size: impl Fn(&T) -> Result<usize, BuildError>,
    ) -> Result<bool, BuildError> {
        if self.full {
            return Ok(false);
        }
        let next = self
            .order
            .last()
            .and_then(|place| Some((*place, make(self.source.get(*place)?))));
        let length = match &next {
            Some((_, element)) => size(element)?,
            None => 0,
        };
        let around = if self.started { separator } else { self.frame };
        let wanted = next.is_some() || !self.started;
        let (true, Some(left)) = (wanted, room.checked_sub(length + around)) else {
            self.full = true;
            return Ok(false);
        };
        *room = left;
        self.started = true;
        self.order.pop();
        self.taken.extend(next);
        Ok(true)
    }

    /// The elements taken as they stood in the source; `None` if not even an empty list, or of a list that is not
    /// empty no element, fitted.
    pub(super) fn in_order(mut self) -> Option<Vec<T>> {
        self.taken.arrange_by_key(|(place, _)| *place);
        let elements = self.taken.into_iter().map(|(_, element)| element);
        self.started.then(|| elements.collect())
    }
}

impl<S, T: Ord> ListSample<'_, S, T> {
    /// As [`ListSample::in_order`], but sorted.
    pub(super) fn sorted(self) -> Option<Vec<T>> {
        let mut elements = self.in_order()?;
        elements.arrange();
        Some(elements)
    }
}
