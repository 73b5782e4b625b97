//! As which users of the host the nucleus talks to its cloud.
//!
//! In: the users of its own sockets on the control channel's ports. Out: those whom the shares of lifelines do not bound. In the
//! journal, so that they are known before the nucleus runs. Absent: root, who has no bound anyway.

use crate::Arrange;
use serde::{Deserialize, Serialize};

/// Users taken; the nucleus runs as one. What it cannot have is somebody else's doing.
const MAX_USERS: usize = 4;
/// The number of root.
const ROOT: u32 = 0;

/// Their numbers, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<u32>", into = "Vec<u32>")]
pub struct NucleusUsers(Vec<u32>);

impl NucleusUsers {
    /// The first few of these.
    #[must_use]
    pub fn of(users: impl IntoIterator<Item = u32>) -> Self {
        let mut users: Vec<u32> = users.into_iter().filter(|user| *user != ROOT).collect();
        users.arrange();
        users.dedup();
        users.truncate(MAX_USERS);
        Self(users)
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<u32>> for NucleusUsers {
    fn from(users: Vec<u32>) -> Self {
        Self::of(users)
    }
}

impl From<NucleusUsers> for Vec<u32> {
    fn from(users: NucleusUsers) -> Self {
        users.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_users_are_taken_and_root_is_none_of_them() {
        let read = |text: &str| serde_json::from_str::<NucleusUsers>(text).unwrap();
        assert_eq!(read("[990,0,990]"), NucleusUsers::of([990]));
        assert_eq!(read("[5,4,3,2,1]").iter().collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert!(read("[0]").is_empty());
        assert_eq!(serde_json::to_string(&NucleusUsers::of([7])).unwrap(), "[7]");
    }
}
