//! Times as RFC 3339 writes them, and no others. In: a text. Out: the moment, to the nanosecond.
//!
//! The library's own reader takes more (no seconds, no colon in the offset, offsets of a day and more) and less (a tenth
//! digit, the last hours of 9999, which people write for "never"). Who writes an end that is read as another one has his
//! device open a day early.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

/// A nanosecond is the ninth digit; those behind it are cut off.
const DIGITS: usize = 9;
/// The last year that RFC 3339 can write. What of it lies beyond the largest timestamp counts as that.
const LAST_YEAR: i16 = 9999;

/// The moment that `text` names: `2026-11-25T00:00:00Z`, with any number of digits after the second, or an offset such as
/// `+01:00`. `t`, `z` and a space in place of `T` are taken, as the RFC allows (section 5.6); a leap second, which only the end
/// of a June or a December in UTC may have (section 5.7), is the second before it.
#[must_use]
pub fn read_time(text: &str) -> Option<Timestamp> {
    let mut rest = text;
    let date = Date::new(
        number(&mut rest, 4)?,
        month_or_day(&mut rest)?,
        month_or_day(&mut rest)?,
    )
    .ok()?;
    one_of(&mut rest, &['T', 't', ' '])?;
    let hour = number(&mut rest, 2)?;
    let minute = colon_and_number(&mut rest)?;
    let second = colon_and_number(&mut rest)?;
    let nanosecond = fraction(&mut rest)?;
    let offset = offset(&mut rest)?;
    if !rest.is_empty() {
        return None;
    }
    let time = match second {
        60 => Time::new(narrow(hour)?, narrow(minute)?, 59, nanosecond),
        _ => Time::new(narrow(hour)?, narrow(minute)?, narrow(second)?, nanosecond),
    };
    let named = date.to_datetime(time.ok()?);
    if second == 60 && !may_be_longer(named, offset) {
        return None;
    }
    match offset.to_timestamp(named) {
        Ok(moment) => Some(moment),
        Err(_) if date.year() == LAST_YEAR => Some(Timestamp::MAX),
        Err(_) => None,
    }
}

/// Whether the minute of that time may have 61 seconds.
fn may_be_longer(named: DateTime, offset: Offset) -> bool {
    let east = SignedDuration::from_secs(offset.seconds().into());
    named.checked_sub(east).is_ok_and(|universal| {
        let is_last = [(6, 30), (12, 31)].contains(&(universal.month(), universal.day()));
        is_last && (universal.hour(), universal.minute()) == (23, 59)
    })
}

fn narrow(number: i16) -> Option<i8> {
    number.try_into().ok()
}

/// Exactly so many digits.
fn number(rest: &mut &str, digits: usize) -> Option<i16> {
    let (number, behind) = rest.split_at_checked(digits)?;
    *rest = behind;
    let is_plain = number.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| number.parse().ok())?
}

fn month_or_day(rest: &mut &str) -> Option<i8> {
    one_of(rest, &['-'])?;
    narrow(number(rest, 2)?)
}

fn colon_and_number(rest: &mut &str) -> Option<i16> {
    one_of(rest, &[':'])?;
    number(rest, 2)
}

fn one_of(rest: &mut &str, letters: &[char]) -> Option<char> {
    let letter = rest.chars().next().filter(|letter| letters.contains(letter))?;
    *rest = rest.get(letter.len_utf8()..)?;
    Some(letter)
}

/// Nanoseconds of the digits behind a point; none of them without one.
fn fraction(rest: &mut &str) -> Option<i32> {
    if one_of(rest, &['.']).is_none() {
        return Some(0);
    }
    let behind = rest.trim_start_matches(|letter: char| letter.is_ascii_digit());
    let digits = rest.strip_suffix(behind).filter(|digits| !digits.is_empty())?;
    *rest = behind;
    let padded = digits.chars().chain(std::iter::repeat('0'));
    padded.take(DIGITS).collect::<String>().parse().ok()
}

fn offset(rest: &mut &str) -> Option<Offset> {
    let sign = match one_of(rest, &['Z', 'z', '+', '-'])? {
        '+' => 1,
        '-' => -1,
        _ => return Some(Offset::UTC),
    };
    let hours = i32::from(number(rest, 2).filter(|hours| *hours < 24)?);
    let minutes = i32::from(colon_and_number(rest).filter(|minutes| *minutes < 60)?);
    Offset::from_seconds(sign * (hours * 60 + minutes) * 60).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_the_rfc_allows_is_read_and_nothing_else() {
        for (text, moment) in [
            ("1985-04-12T23:20:50.52Z", "1985-04-12T23:20:50.52Z"),
            ("1996-12-19T16:39:57-08:00", "1996-12-20T00:39:57Z"),
            ("1990-12-31T23:59:60Z", "1990-12-31T23:59:59Z"),
            ("1990-12-31T15:59:60-08:00", "1990-12-31T23:59:59Z"),
            ("2027-01-01T05:44:60+05:45", "2026-12-31T23:59:59Z"),
            ("2027-06-30T23:59:60.5Z", "2027-06-30T23:59:59.5Z"),
            ("1937-01-01T12:00:27.87+00:20", "1937-01-01T11:40:27.87Z"),
            ("2026-11-25t00:00:00z", "2026-11-25T00:00:00Z"),
            ("2026-11-25 00:00:00Z", "2026-11-25T00:00:00Z"),
            ("2026-11-25T00:00:00-00:00", "2026-11-25T00:00:00Z"),
            (
                "2099-01-01T00:00:00.123456789999Z",
                "2099-01-01T00:00:00.123456789Z",
            ),
            ("2026-11-25T00:00:00+23:59", "2026-11-24T00:01:00Z"),
        ] {
            assert_eq!(read_time(text), Some(moment.parse().unwrap()), "{text}");
        }
        for text in [
            "",
            "2099-01-01T00:00Z",
            "2099-01-01T00:00:00+0200",
            "2099-01-01T00:00:00+02",
            "2099-01-01T00:00:00+24:00",
            "2099-01-01T00:00:00,5Z",
            "2099-01-01T00:00:00.Z",
            "2099-01-01T00:00:00",
            "2099-01-01T24:00:00Z",
            "2099-01-01T00:00:61Z",
            "2099-01-01T12:59:60Z",
            "2099-01-01T23:59:60Z",
            "2098-12-31T23:59:60+01:00",
            "2098-12-31T22:59:60Z",
            "2099-03-31T23:59:60Z",
            "9999-12-31T23:59:60-00:01",
            "2099-02-29T00:00:00Z",
            "+02099-01-01T00:00:00Z",
            "-2099-01-01T00:00:00Z",
            "20990101T000000Z",
            "2099-01-01T00:00:00Z[UTC]",
            "2099-01-01T00:00:00Z ",
            "２099-01-01T00:00:00Z",
        ] {
            assert_eq!(read_time(text), None, "{text}");
        }
    }

    #[test]
    fn the_last_times_of_all_are_far_enough_away() {
        assert_eq!(read_time("9999-12-31T23:59:59Z"), Some(Timestamp::MAX));
        assert_eq!(read_time("9999-12-31T23:59:60Z"), Some(Timestamp::MAX));
        assert_eq!(
            read_time("9999-12-31T23:59:59.9999999999-23:59"),
            Some(Timestamp::MAX)
        );
        let before = read_time("9999-12-30T21:59:59Z").unwrap();
        assert!(before < Timestamp::MAX);
    }

    proptest! {
        #[test]
        fn what_it_writes_it_reads(seconds in -60_000_000_000_i64..250_000_000_000, nanos in 0..1_000_000_000_i32) {
            let moment = Timestamp::new(seconds, nanos).unwrap();
            prop_assert_eq!(read_time(&moment.to_string()), Some(moment));
        }

        #[test]
        fn anything_is_read_or_not(text in "\\PC{0,40}") {
            let _ = read_time(&text);
        }
    }
}
