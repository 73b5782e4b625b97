//! A few packets of MQTT 3.1.1 by hand: a publish whose moment is known, and a client with somebody else's id.
//!
//! In: a port of the caller's loopback. Out: the broker's word. Deliberately absent: subscriptions, sessions that last; the
//! lab's console has a real client, but is a program that takes its time to start.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, SystemTime};

/// How long the broker may take.
const PATIENCE: Duration = Duration::from_secs(5);
const CONNACK_BYTES: usize = 4;
const PUBACK_BYTES: usize = 4;
/// The one message of a connection.
const PACKET_ID: [u8; 2] = [0, 1];

/// Connects with a clean session and waits until the broker has taken it.
pub(crate) fn connect(port: u16, client: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    // Level 4, clean session, keep alive 30 s.
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 30];
    body.extend(text(client)?);
    stream.write_all(&packet(0x10, &body))?;
    let mut answer = [0; CONNACK_BYTES];
    stream.read_exact(&mut answer)?;
    match answer[3] {
        0 => Ok(stream),
        code => Err(io::Error::other(format!(
            "the broker refuses the connection, code {code}"
        ))),
    }
}

/// Publishes with QoS 1 and waits for the receipt; gives the moment at which the message set out.
pub(crate) fn publish(port: u16, topic: &str, payload: &str) -> io::Result<SystemTime> {
    let client = format!("acceptance-{}-{topic}", std::process::id());
    let mut stream = connect(port, client.get(..64).unwrap_or(&client))?;
    let mut body = text(topic)?;
    body.extend(PACKET_ID);
    body.extend(payload.as_bytes());
    let at = SystemTime::now();
    stream.write_all(&packet(0x32, &body))?;
    stream.read_exact(&mut [0; PUBACK_BYTES])?;
    Ok(at)
}

/// A text with its length.
fn text(text: &str) -> io::Result<Vec<u8>> {
    let length = u16::try_from(text.len()).map_err(io::Error::other)?;
    Ok([&length.to_be_bytes(), text.as_bytes()].concat())
}

/// A packet with its kind and the length of what follows.
fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut left = body.len();
    loop {
        let low = u8::try_from(left % 128).unwrap_or_default();
        left /= 128;
        packet.push(if left > 0 { low | 0x80 } else { low });
        if left == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_in_sevens_of_bits() {
        assert_eq!(packet(0x10, &[7; 127])[..3], [0x10, 127, 7]);
        assert_eq!(packet(0x32, &[7; 128])[..4], [0x32, 0x80, 1, 7]);
        assert_eq!(packet(0x32, &vec![7; 20_000])[..5], [0x32, 0xa0, 0x9c, 1, 7]);
    }
}
