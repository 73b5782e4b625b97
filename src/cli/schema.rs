//! `edgewarden schema`: JSON Schemas of what others write for us, and of what the commands print with `--json`.
//!
//! In: a name. Out: the text of a file in `schemas/`. tests/library/{order_schema,answer_schemas} hold them to what the
//! program reads and writes.

use super::{Failure, out};

/// What stands for an indentation within a packed text: this and the number of spaces.
const INDENTATION: u8 = 0x80;

/// A file of `schemas/` with each indentation in one byte: two fifths of these texts are indentations, and all of them are on
/// every device.
macro_rules! packed {
    ($file:literal) => {{
        const TEXT: &[u8] = include_bytes!(concat!("../../schemas/", $file));
        const PACKED: [u8; pack::<0>(TEXT).0] = pack(TEXT).1;
        &PACKED
    }};
}

/// The length of the packed text, and as much of it as there is room for.
const fn pack<const ROOM: usize>(text: &[u8]) -> (usize, [u8; ROOM]) {
    let (mut packed, mut length, mut at) = ([0; ROOM], 0, 0);
    let mut begins_line = false;
    while at < text.len() {
        let mut byte = text[at];
        assert!(byte < INDENTATION, "the schemas are written in ASCII");
        at += 1;
        if begins_line && byte == b' ' {
            byte = INDENTATION + 1;
            while text[at] == b' ' {
                byte += 1;
                at += 1;
            }
        }
        if length < ROOM {
            packed[length] = byte;
        }
        length += 1;
        begins_line = byte == b'\n';
    }
    (length, packed)
}

fn unpacked(packed: &[u8]) -> String {
    let mut text = String::new();
    for byte in packed {
        match byte.checked_sub(INDENTATION) {
            Some(spaces) => text.extend((0..spaces).map(|_| ' ')),
            None => text.push(char::from(*byte)),
        }
    }
    text
}

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What is described.
    #[arg(value_enum, value_name = "NAME")]
    name: SchemaName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum SchemaName {
    /// An order, as the shadow, a deployment or the operator write it.
    Order,
    /// `edgewarden status --json`.
    Status,
    /// `edgewarden orders --json`.
    Orders,
    /// `edgewarden top --json`.
    Top,
    /// `edgewarden connections --json`.
    Connections,
    /// `edgewarden plan --json`.
    Plan,
    /// A line of `edgewarden history --json`.
    History,
    /// `edgewarden history --verify --json`.
    HistoryVerify,
    /// `edgewarden report show --json`, `report send --dry-run --json`.
    ReportShow,
    /// `edgewarden report last --json`, `report send --json`.
    ReportLast,
    /// `edgewarden report metrics --json`.
    ReportMetrics,
}

impl SchemaName {
    const fn packed(self) -> &'static [u8] {
        match self {
            Self::Order => packed!("order.schema.json"),
            Self::Status => packed!("status.schema.json"),
            Self::Orders => packed!("orders.schema.json"),
            Self::Top => packed!("top.schema.json"),
            Self::Connections => packed!("connections.schema.json"),
            Self::Plan => packed!("plan.schema.json"),
            Self::History => packed!("history.schema.json"),
            Self::HistoryVerify => packed!("history-verify.schema.json"),
            Self::ReportShow => packed!("report-show.schema.json"),
            Self::ReportLast => packed!("report-last.schema.json"),
            Self::ReportMetrics => packed!("report-metrics.schema.json"),
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    out(&unpacked(arguments.name.packed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_printed_as_it_lies_in_its_file() {
        let status = include_str!("../../schemas/status.schema.json");
        let packed = SchemaName::Status.packed();
        assert_eq!(unpacked(packed), status);
        assert!(packed.len() < status.len() * 2 / 3, "{}", packed.len());
    }
}
