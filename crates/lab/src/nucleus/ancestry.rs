//! Whether a process descends from this one: the stand-in for lite's question for a process' systemd unit.

/// Generations looked at; a chain this long is not a component's.
const MAX_GENERATIONS: usize = 64;

/// True for a process that this one started, however indirectly, while every process in between still runs.
pub(super) fn is_own_descendant(pid: i32) -> bool {
    let own = i32::try_from(std::process::id()).unwrap_or(-1);
    let mut current = pid;
    for _ in 0..MAX_GENERATIONS {
        match parent_of(current) {
            Some(parent) if parent == own => return true,
            Some(parent) if parent > 1 => current = parent,
            _ => return false,
        }
    }
    false
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything, so count from its end: state, then parent.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_descendants_and_others_are_not() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        assert!(is_own_descendant(i32::try_from(child.id()).unwrap()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_own_descendant(1));
        assert!(
            !is_own_descendant(i32::try_from(std::process::id()).unwrap()),
            "not its own descendant"
        );
    }
}
