//! Datagrams of any bytes as the packet filter's lists and notifications: nothing panics, and what is read is written as
//! something that is read the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nf_tables::{Batch, Family, ListingLimits, ListingReader, Message, Notice, Table};

const LIMITS: ListingLimits = ListingLimits { items: 10_000, bytes: 1_000_000 };

fn read(datagram: &[u8]) -> Option<nf_tables::TableContents> {
    let mut reader = ListingReader::new(Table::new(Family::Inet, "t"), LIMITS);
    for message in Message::all(datagram) {
        reader.take(&message.ok()?).ok()?;
    }
    let _ = reader.anonymous_sets();
    Some(reader.finish(1).ok()?.contents)
}

fuzz_target!(|data: &[u8]| {
    let _ = Notice::all(data).count();
    let Some(contents) = read(data) else { return };
    // Whatever was understood can be written again, or is told to be too long.
    let mut batch = Batch::new();
    batch.add_contents(&contents);
    assert_eq!(batch.steps().next().map(|step| &step.table), Some(&contents.table));
    assert_eq!(contents.clone().uncounted().chains.len(), contents.chains.len());
});
