//! Loads a ruleset with the nft program, reads it as types, and measures both ways of loading it again.
//!
//! In: a file of nft's text, and how many hosts are added to a set of each table beside it. Out: a table of times. Both
//! ways replace all tables in one transaction. To be run in a network namespace of its own:
//!
//! ```sh
//! cargo build --release -p nf-tables --example replay
//! sudo unshare --net target/release/examples/replay RULES.nft [HOSTS]
//! ```

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program for people, that runs another program and measures it"
)]

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nf_tables::socket::Connection;
use nf_tables::{Batch, Element, Family, KeyType, ListingLimits, Set, SetFlags, Table, TableContents};

/// More than any table here has.
const LIMITS: ListingLimits = ListingLimits {
    items: 100_000,
    bytes: 100_000_000,
};
const LIMIT: Duration = Duration::from_secs(30);
/// Seconds that each added host stays.
const LIFE: u64 = 3_600;
const ADDED: &str = "added_hosts";

/// Those that tables of a quarantine have.
const CHAINS: &[&str] = &["output", "input", "forward", "egress"];

struct Loaded {
    contents: TableContents,
    elements: Vec<(String, Vec<Element>)>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("which file of rules?")?;
    let hosts: u32 = arguments.next().map_or(Ok(0), |hosts| hosts.parse())?;
    let rounds: u32 = if hosts > 1_000 { 10 } else { 300 };
    let mut text = std::fs::read_to_string(file)?;
    nft(&text)?;

    let mut connection = Connection::open(LIMIT)?;
    let mut tables = read(&mut connection)?;
    for table in &mut tables {
        let set = Set::new(ADDED, KeyType::IPV4, 4, SetFlags::TIMEOUT);
        table.contents.sets.push(set);
        write_hosts(&mut text, &table.contents.table, hosts)?;
    }
    let mut deletions = String::new();
    for table in &tables {
        writeln!(deletions, "delete table {}", table.contents.table)?;
    }
    let text = deletions + &text;

    println!("{} tables, {hosts} hosts more in each", tables.len());
    let mut once = batch(&tables, hosts);
    println!("{:<28}{:>12} bytes", "one transaction", once.size());
    measure("types to kernel", rounds, |_| {
        Ok(connection.commit(&mut batch(&tables, hosts))?)
    })?;
    measure("bytes to kernel", rounds, |_| Ok(connection.commit(&mut once)?))?;
    drop(once);
    measure("kernel to types", rounds, |_| read(&mut connection).map(drop))?;
    if let Some(first) = tables.first().filter(|_| hosts > 0) {
        measure("added hosts of one to types", rounds, |_| {
            let table = &first.contents.table;
            let count = |count: &mut usize, _| *count += 1;
            let listed = connection.elements(table, ADDED, LIMITS.items + rounds as usize, || 0, count)?;
            let found = listed.map(|(count, _)| count);
            (found == Some(hosts as usize))
                .then_some(())
                .ok_or("not all are listed".into())
        })?;
    }
    measure("one more host in each", rounds, |round| {
        let mut one = Batch::new();
        for table in &tables {
            let host = Element::new((round | 0x2000_0000).to_be_bytes());
            one.add_elements(&table.contents.table, ADDED, [host]);
        }
        Ok(connection.commit(&mut one)?)
    })?;
    measure("nft -f", rounds, |_| nft(&text))?;
    let memory = std::fs::read_to_string("/proc/self/status")?;
    let peak = memory.lines().find(|line| line.starts_with("VmHWM"));
    println!("{}", peak.unwrap_or_default());
    Ok(())
}

/// All tables of the three families that are named like one of theirs, with the elements of their sets.
fn read(connection: &mut Connection) -> Result<Vec<Loaded>, Box<dyn Error>> {
    let mut tables = Vec::new();
    for family in [Family::Inet, Family::Bridge, Family::Netdev] {
        let table = Table::new(family, "edgewarden");
        let Some(listing) = connection.table(&table, CHAINS, LIMITS)? else {
            continue;
        };
        let mut elements = Vec::new();
        for set in listing.contents.sets.iter().filter(|set| set.name != ADDED) {
            let listed = connection.elements(&table, &set.name, LIMITS.items, Vec::new, Vec::push)?;
            let (mut listed, _) = listed.unwrap_or_default();
            for element in &mut listed {
                element.expiration = None;
            }
            listed.sort_by_key(|element| (element.key, !element.ends_interval()));
            elements.push((set.name.clone(), listed));
        }
        let contents = listing.contents;
        tables.push(Loaded { contents, elements });
    }
    Ok(tables)
}

/// One transaction that replaces all tables.
fn batch(tables: &[Loaded], hosts: u32) -> Batch {
    let mut batch = Batch::new();
    for Loaded { contents, .. } in tables {
        batch.clear_table(&contents.table);
    }
    for Loaded { contents, elements } in tables {
        batch.add_contents(contents);
        for (set, elements) in elements {
            batch.add_elements(&contents.table, set, elements.iter().cloned());
        }
        let added = (0..hosts).map(|host| {
            let key = (host | 0x0a00_0000).to_be_bytes();
            Element::new(key).with_timeout(Some(LIFE * 1_000))
        });
        batch.add_elements(&contents.table, ADDED, added);
    }
    batch
}

fn write_hosts(text: &mut String, table: &Table, hosts: u32) -> Result<(), std::fmt::Error> {
    writeln!(
        text,
        "table {table} {{\n set {ADDED} {{\n  type ipv4_addr\n  flags timeout"
    )?;
    for host in 0..hosts {
        let [a, b, c, d] = (host | 0x0a00_0000).to_be_bytes();
        let before = if host == 0 { "  elements = { " } else { ", " };
        write!(text, "{before}{a}.{b}.{c}.{d} timeout {LIFE}s")?;
    }
    let end = if hosts == 0 { "" } else { " }" };
    writeln!(text, "{end}\n }}\n}}")
}

fn nft(text: &str) -> Result<(), Box<dyn Error>> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .ok_or("nft takes no text")?
        .write_all(text.as_bytes())?;
    if child.wait()?.success() {
        Ok(())
    } else {
        Err("nft refused the rules".into())
    }
}

type Outcome = Result<(), Box<dyn Error>>;

fn measure(what: &str, rounds: u32, mut work: impl FnMut(u32) -> Outcome) -> Outcome {
    let mut times = Vec::new();
    for round in 0..rounds {
        let start = Instant::now();
        work(round)?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let at = |hundredths: usize| {
        let place = (times.len() * hundredths / 100).min(times.len() - 1);
        times[place].as_secs_f64() * 1_000.0
    };
    println!("{what:<28}{:>9.2} ms p50{:>9.2} ms p99", at(50), at(99));
    Ok(())
}
