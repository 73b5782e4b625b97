//! Datagrams of any bytes as the packet filter's lists and notifications: nothing panics, and what is understood of a
//! chain, a set or an object is written as something that is understood the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nf_tables::{Batch, Family, ListingLimits, ListingReader, Message, MessageType, Notice, Table, TableContents};

const LIMITS: ListingLimits = ListingLimits { items: 10_000, bytes: 1_000_000 };

/// Without rules, whose handles only the kernel gives, and without the table's own message where `only` says so.
fn read(datagram: &[u8], only: &[MessageType]) -> Option<TableContents> {
    let mut reader = ListingReader::new(Table::new(Family::Inet, "t"), LIMITS);
    for message in Message::all(datagram) {
        let message = message.ok()?;
        if only.is_empty() || message.message_type().is_some_and(|kind| only.contains(&kind)) {
            reader.take(&message).ok()?;
        }
    }
    let _ = reader.anonymous_sets();
    reader.finish().ok()
}

fuzz_target!(|data: &[u8]| {
    let _ = Notice::all(data).count();
    let _ = read(data, &[]);
    let kinds = [MessageType::NewTable, MessageType::NewChain, MessageType::NewSet, MessageType::NewObject];
    let Some(mut contents) = read(data, &kinds) else { return };
    let mut batch = Batch::new();
    batch.add_contents(&contents);
    if batch.fault().is_some() {
        return;
    }
    // Sets that no rule asks are listed last.
    let again = batch.with_bytes(1, |bytes, _| read(bytes, &kinds));
    let mut again = again.expect("what was written is read");
    let by_name = |one: &nf_tables::Set, other: &nf_tables::Set| one.name.cmp(&other.name);
    contents.sets.sort_by(by_name);
    again.sets.sort_by(by_name);
    assert_eq!(again, contents);
});
