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

/// Every process below one, those that started others before them.
pub(super) fn descendants(of: i32) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parents: Vec<(i32, i32)> = pids.filter_map(|pid| Some((pid, parent_of(pid)?))).collect();
    let mut found = vec![of];
    let mut looked_at = 0;
    while let Some(&parent) = found.get(looked_at) {
        found.extend(
            parents
                .iter()
                .filter(|(_, of)| *of == parent)
                .map(|(pid, _)| *pid),
        );
        looked_at += 1;
    }
    found.split_off(1)
}

/// Whether a process is there and not only waits to be buried.
pub(super) fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_descendants_and_others_are_not() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        assert!(is_own_descendant(i32::try_from(child.id()).unwrap()));
        let own = i32::try_from(std::process::id()).unwrap();
        let below = i32::try_from(child.id()).unwrap();
        assert!(descendants(own).contains(&below) && lives(below));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!descendants(own).contains(&below) && !lives(below));
        assert!(!is_own_descendant(1));
        assert!(
            !is_own_descendant(i32::try_from(std::process::id()).unwrap()),
            "not its own descendant"
        );
    }
}
