//! Lists beside the journal: power cuts at every byte of every file, and what is left behind.

use std::borrow::Cow;

use super::*;
use crate::quarantine::orders::document::Wish;
use crate::quarantine::orders::order::{Authority, BlockedRemote, Order, Posture};
use crate::quarantine::proof::journal::{self, Journal};

/// More than stay in the journal's file.
const MANY: u32 = 1_100;

fn list(first: u32, count: u32) -> RemoteList {
    let net = |n: u32| ipnet::IpNet::from(std::net::IpAddr::from(std::net::Ipv4Addr::from(first + 2 * n)));
    (0..count).map(|n| BlockedRemote::from(net(n))).collect()
}

fn blocking(authority: Authority, remotes: RemoteList) -> Wish {
    let issued = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut order = Order::isolate(authority, "x", None, issued);
    order.posture = Posture::Restrict;
    order.block.remotes = remotes;
    Wish::Order(Box::new(order))
}

fn journal(remotes: &RemoteList) -> Journal<'static> {
    let mut journal = Journal::default();
    let wish = blocking(Authority::Operator, remotes.clone());
    journal.book.to_mut().set(Authority::Operator, wish);
    journal
}

/// As the worker does it.
fn write(kept: &KeptLists, path: &Path, journal: &Journal<'_>) {
    let Written { file, lists } = Written::of(journal);
    kept.keep(path, &lists).unwrap();
    replace(path, &file).unwrap();
    kept.sweep(path, &lists);
}

fn read_back(path: &Path) -> Result<Journal<'static>, journal::JournalDamage> {
    journal::decode(&read_whole(path).unwrap().unwrap())
}

#[test]
fn one_more_remote_of_another_order_leaves_the_long_list_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let long = list(0x0A00_0000, MANY);
    let mut journal = journal(&long);
    let kept = KeptLists::default();
    write(&kept, &path, &journal);
    assert_eq!(read_back(&path), Ok(journal.clone()));
    let found_first = found(folder.path());
    assert_eq!(found_first.len(), 1, "{found_first:?}");
    let before = fs::metadata(&found_first[0]).unwrap();
    let wish = blocking(Authority::Shadow, list(0xCB00_7100, 1));
    journal.book.to_mut().set(Authority::Shadow, wish);
    write(&kept, &path, &journal);
    assert_eq!(found(folder.path()), found_first);
    let after = fs::metadata(&found_first[0]).unwrap();
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(before.ino(), after.ino(), "it was written again");
    assert!(fs::metadata(&path).unwrap().len() < 2_000);
    assert_eq!(read_back(&path), Ok(journal.clone()));
    // One that somebody took away is there again with the next write.
    fs::remove_file(&found_first[0]).unwrap();
    assert!(read_back(&path).unwrap_err().says_live);
    write(&kept, &path, &journal);
    assert_eq!(read_back(&path), Ok(journal));
}

#[test]
fn what_no_journal_names_goes_and_a_short_journal_needs_no_list() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let kept = KeptLists::default();
    write(&kept, &path, &journal(&list(0x0A00_0000, MANY)));
    fs::write(folder.path().join("remotes-00.new"), "left by a crash").unwrap();
    let second = journal(&list(0x0B00_0000, MANY));
    write(&kept, &path, &second);
    assert_eq!(found(folder.path()).len(), 1);
    assert_eq!(read_back(&path), Ok(second.clone()));
    let short = journal(&list(0x0B00_0000, MANY - 100));
    write(&kept, &path, &short);
    assert!(found(folder.path()).is_empty());
    assert_eq!(fs::read(&path).unwrap(), journal::encode(&short), "as ever");
    // Ended by the operator it is still remembered: its list is the one that was there.
    let ended = Journal {
        overridden: Cow::Owned(Some(journal::OperatorOverride {
            reason: "r".into(),
            at: "2026-01-01T00:00:00Z".parse().unwrap(),
            orders: second.book.orders().to_vec(),
        })),
        ..Journal::default()
    };
    write(&kept, &path, &ended);
    assert_eq!(read_back(&path), Ok(ended));
}

#[test]
fn a_cut_at_any_byte_gives_the_old_state_or_the_new_one_or_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let (old, new) = (
        journal(&list(0x0A00_0000, MANY)),
        journal(&list(0x0B00_0000, MANY)),
    );
    write(&KeptLists::default(), &path, &old);
    let Written { file, lists } = Written::of(&new);
    let digest = lists[0].digest().to_owned();
    let content = lists[0].written();
    // The new list is being written, under its own name at worst: the old journal does not care.
    for length in (0..content.len()).step_by(97) {
        fs::write(place(&path, &digest), &content[..length]).unwrap();
        assert_eq!(read_back(&path), Ok(old.clone()), "list cut to {length}");
    }
    // The journal is there and its list is cut: never a shorter list.
    fs::write(&path, &file).unwrap();
    for length in 0..content.len() {
        fs::write(place(&path, &digest), &content[..length]).unwrap();
        let damage = read_back(&path).unwrap_err();
        assert!(
            damage.says_live && damage.what.contains(&digest),
            "{length}: {damage}"
        );
    }
    fs::write(place(&path, &digest), &content).unwrap();
    assert_eq!(read_back(&path), Ok(new.clone()), "control");
    for length in 0..file.len() - 1 {
        fs::write(&path, &file[..length]).unwrap();
        assert!(read_back(&path).unwrap_err().says_live, "journal cut to {length}");
    }
    for index in 0..file.len() - 1 {
        let mut flipped = file.clone();
        flipped[index] ^= 1;
        fs::write(&path, &flipped).unwrap();
        assert!(read_back(&path).unwrap_err().says_live, "journal's byte {index}");
    }
    fs::write(&path, &file).unwrap();
    for index in (0..content.len()).step_by(31) {
        let mut flipped = content.clone();
        flipped[index] ^= 1;
        fs::write(place(&path, &digest), &flipped).unwrap();
        assert!(read_back(&path).unwrap_err().says_live, "list's byte {index}");
    }
}

#[test]
fn a_journal_whose_list_is_lost_is_kept_in_one_piece() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    write(&KeptLists::default(), &path, &journal(&list(0x0A00_0000, MANY)));
    let whole = read_whole(&path).unwrap().unwrap();
    let aside = set_aside_whole(&path).unwrap();
    assert!(path.exists(), "it stays until it is replaced");
    assert_eq!(fs::read(&aside).unwrap(), whole);
    write(&KeptLists::default(), &path, &Journal::default());
    assert!(found(folder.path()).is_empty());
    assert_eq!(
        journal::decode(&fs::read(aside).unwrap()),
        Ok(journal(&list(0x0A00_0000, MANY)))
    );
}

#[test]
fn a_list_that_others_could_have_written_is_none() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let kept = KeptLists::default();
    write(&kept, &path, &journal(&list(0x0A00_0000, MANY)));
    let list_file = found(folder.path()).remove(0);
    fs::set_permissions(&list_file, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(read_back(&path).unwrap_err().says_live);
    fs::remove_file(&list_file).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &list_file).unwrap();
    assert!(read_back(&path).unwrap_err().says_live);
    // The next write puts a file of ours in its place.
    write(&kept, &path, &journal(&list(0x0A00_0000, MANY)));
    assert!(read_back(&path).is_ok());
}
