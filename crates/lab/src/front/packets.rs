//! What the packets of an MQTT connection say, as far as a relay has to know.
//!
//! In: the bytes of one direction, in any pieces. Out: the same bytes in pieces of at most one packet; the piece that
//! begins a CONNECT, CONNACK or PUBLISH comes only when its client id, answer or topic is whole, and with it. MQTT 3.1.1
//! and 5. Pure. Deliberately absent: topic aliases, every other packet's content.

/// Longest beginning of a packet that is waited for: fixed header, topic, and room for the properties of a CONNECT.
const MAX_HEAD_BYTES: usize = 5 + 2 + 65_535 + 16 * 1024;
/// Bytes that the length of a packet may take.
const MAX_LENGTH_BYTES: usize = 4;

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
/// Kind of a PUBLISH in the upper half of its first byte; the lower one has its flags.
const PUBLISH_KIND: u8 = 3;
/// Protocol level that brought properties.
const MQTT_5: u8 = 5;

/// What a packet says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Who connects.
    Connect { client: String },
    /// Whether the broker took it.
    Connack { accepted: bool },
    /// Where a message goes.
    Publish { topic: String },
    /// These bytes and all behind them are no MQTT.
    Opaque,
}

/// Bytes to pass on, with what they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) said: Option<Said>,
    pub(super) bytes: Vec<u8>,
    /// It does not begin a packet.
    pub(super) goes_on: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before the first packet.
    Start,
    /// Before a packet.
    Head,
    /// So many bytes before its end.
    Body(usize),
    Opaque,
}

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Packets {
    at: At,
    held: Vec<u8>,
}

/// Why a head cannot be read.
#[derive(Debug, PartialEq, Eq)]
enum Unread {
    /// It goes on.
    Incomplete,
    Bad,
}

struct Head {
    length: usize,
    said: Option<Said>,
}

impl Packets {
    pub(super) fn new() -> Self {
        Self {
            at: At::Start,
            held: Vec::new(),
        }
    }

    /// Takes bytes and gives what may pass on.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Piece> {
        self.held.extend_from_slice(bytes);
        let mut pieces = Vec::new();
        while let Some(piece) = self.next() {
            pieces.push(piece);
        }
        pieces
    }

    fn next(&mut self) -> Option<Piece> {
        if self.held.is_empty() {
            return None;
        }
        match self.at {
            At::Opaque => Some(self.piece(None, self.held.len())),
            At::Body(left) => {
                let length = left.min(self.held.len());
                self.at = after(left - length);
                let piece = self.piece(None, length);
                Some(Piece {
                    goes_on: true,
                    ..piece
                })
            }
            At::Start if ![CONNECT, CONNACK].contains(&self.held[0]) => Some(self.opaque()),
            At::Start | At::Head => match head(&self.held) {
                Ok(Head { length, said }) => {
                    let here = length.min(self.held.len());
                    self.at = after(length - here);
                    Some(self.piece(said, here))
                }
                Err(Unread::Incomplete) if self.held.len() < MAX_HEAD_BYTES => None,
                Err(_) => Some(self.opaque()),
            },
        }
    }

    fn opaque(&mut self) -> Piece {
        self.at = At::Opaque;
        self.piece(Some(Said::Opaque), self.held.len())
    }

    fn piece(&mut self, said: Option<Said>, length: usize) -> Piece {
        let bytes = self.held.drain(..length).collect();
        Piece {
            said,
            bytes,
            goes_on: false,
        }
    }
}

fn after(left: usize) -> At {
    if left == 0 { At::Head } else { At::Body(left) }
}

/// Reads the beginning of a packet.
fn head(bytes: &[u8]) -> Result<Head, Unread> {
    let (left, begin) = variable(bytes, 1)?;
    let mut body = Body {
        bytes,
        at: begin,
        end: begin + left,
    };
    let said = match bytes[0] {
        CONNECT => Some(Said::Connect {
            client: body.client()?,
        }),
        CONNACK => {
            body.take(1)?;
            let accepted = body.take(1)?[0] == 0;
            Some(Said::Connack { accepted })
        }
        first if first >> 4 == PUBLISH_KIND => Some(Said::Publish { topic: body.text()? }),
        _ => None,
    };
    Ok(Head {
        length: begin + left,
        said,
    })
}

/// A variable byte integer at `at`: its value, and where it ends.
fn variable(bytes: &[u8], at: usize) -> Result<(usize, usize), Unread> {
    let mut value = 0;
    for index in 0..MAX_LENGTH_BYTES {
        let byte = *bytes.get(at + index).ok_or(Unread::Incomplete)?;
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok((value, at + index + 1));
        }
    }
    Err(Unread::Bad)
}

/// What of a packet has come.
struct Body<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the packet ends, here or in what is still to come.
    end: usize,
}

impl<'a> Body<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Unread> {
        let to = self.at + length;
        if to > self.end {
            return Err(Unread::Bad);
        }
        let taken = self.bytes.get(self.at..to).ok_or(Unread::Incomplete)?;
        self.at = to;
        Ok(taken)
    }

    fn text(&mut self) -> Result<String, Unread> {
        let length = self.take(2)?;
        let length = u16::from_be_bytes([length[0], length[1]]);
        let text = self.take(usize::from(length))?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// The client id of a CONNECT, behind the protocol's name, level, flags, keep alive and properties.
    fn client(&mut self) -> Result<String, Unread> {
        self.text()?;
        let level = self.take(1)?[0];
        self.take(3)?;
        if level == MQTT_5 {
            let (length, end) = variable(self.bytes, self.at)?;
            self.at = end;
            self.take(length)?;
        }
        self.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECT_5: &[u8] = b"\x10\x14\x00\x04MQTT\x05\x02\x00\x1e\x05\x11\x00\x00\x00\x0a\x00\x02gw";
    const CONNECT_4: &[u8] = b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x1e\x00\x02gw";
    const PUBLISH: &[u8] = b"\x32\x0a\x00\x03a/b\x00\x01xyz";

    fn said(pieces: &[Piece]) -> Vec<Said> {
        pieces.iter().filter_map(|piece| piece.said.clone()).collect()
    }

    fn joined(pieces: &[Piece]) -> Vec<u8> {
        pieces.iter().flat_map(|piece| piece.bytes.clone()).collect()
    }

    #[test]
    fn every_division_of_a_stream_says_the_same() {
        for connect in [CONNECT_4, CONNECT_5] {
            let stream = [connect, PUBLISH, b"\xc0\x00", PUBLISH].concat();
            let client = "gw".to_owned();
            let publish = Said::Publish {
                topic: "a/b".to_owned(),
            };
            let expected = [Said::Connect { client }, publish.clone(), publish];
            for size in 1..=stream.len() {
                let mut packets = Packets::new();
                let pieces: Vec<_> = stream.chunks(size).flat_map(|part| packets.push(part)).collect();
                assert_eq!(said(&pieces), expected, "in pieces of {size}");
                assert_eq!(joined(&pieces), stream, "in pieces of {size}");
            }
        }
    }

    #[test]
    fn nothing_of_a_publish_passes_before_its_topic_is_known() {
        let mut packets = Packets::new();
        packets.push(CONNECT_4);
        assert_eq!(packets.push(&PUBLISH[..6]), []);
        assert_eq!(said(&packets.push(&PUBLISH[6..7])).len(), 1);
    }

    #[test]
    fn the_brokers_answer_is_read_in_both_versions() {
        for (bytes, accepted) in [
            (b"\x20\x02\x00\x00".as_slice(), true),
            (b"\x20\x03\x00\x87\x00", false),
            (b"\x20\x02\x00\x05", false),
        ] {
            let pieces = Packets::new().push(bytes);
            assert_eq!(said(&pieces), [Said::Connack { accepted }]);
        }
    }

    #[test]
    fn what_is_no_mqtt_passes_whole_and_is_told_once() {
        let mut packets = Packets::new();
        let hello = b"\x16\x03\x01\x02\x00\x01";
        let pieces = [packets.push(hello), packets.push(b"more")].concat();
        assert_eq!(said(&pieces), [Said::Opaque]);
        assert_eq!(joined(&pieces), [hello.as_slice(), b"more"].concat());
    }

    #[test]
    fn a_packet_that_contradicts_itself_or_never_ends_is_none() {
        let longer_topic_than_packet = [CONNECT_4, b"\x30\x03\x00\x09a"].concat();
        let endless_length = [CONNECT_4, b"\x30\xff\xff\xff\xff"].concat();
        for stream in [longer_topic_than_packet, endless_length] {
            let pieces = Packets::new().push(&stream);
            assert_eq!(said(&pieces).last(), Some(&Said::Opaque));
            assert_eq!(joined(&pieces), stream);
        }
        // Properties announced larger than anything that is waited for.
        let mut packets = Packets::new();
        packets.push(b"\x10\xff\xff\xff\x7f\x00\x04MQTT\x05\x02\x00\x1e\xff\xff\xff\x7e");
        let mut pieces = Vec::new();
        for _ in 0..100 {
            pieces.extend(packets.push(&[0; 1024]));
            assert!(packets.held.len() < MAX_HEAD_BYTES + 1024);
        }
        assert_eq!(said(&pieces), [Said::Opaque]);
    }
}
