//! How the IPC writes what JSON has no type for: blobs and times.
//!
//! In: values of requests, texts and numbers of answers. Out: the reverse, in functions that serde's attributes name.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::display::Base64Display;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::Serializer;

/// Blobs are standard base64 with padding; a peer that leaves the padding out is understood too.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Writes a blob.
pub(super) fn blob<S: Serializer>(bytes: &impl AsRef<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Base64Display::new(bytes.as_ref(), &BASE64))
}

/// Writes a blob that is there; absent ones are left out before.
pub(super) fn some_blob<S: Serializer>(bytes: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
    blob(bytes.as_ref().unwrap_or(&Bytes::new()), serializer)
}

/// Reads a blob; one that is absent or null is empty.
pub(super) fn read_blob<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    read_some_blob(deserializer).map(Option::unwrap_or_default)
}

/// Reads a blob that may be absent or null.
pub(super) fn read_some_blob<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    BASE64
        .decode(text)
        .map(|bytes| Some(Bytes::from(bytes)))
        .map_err(|error| D::Error::custom(format!("a blob is not base64: {error}")))
}

/// Writes a time as seconds since 1970, always with a fraction: lite refuses a number without one.
pub(super) fn time<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let seconds = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    };
    serializer.serialize_f64(seconds)
}

/// Reads a time. One that is absent, null or beyond what the system can express is `None`: nothing depends on it.
pub(super) fn read_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SystemTime>, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.and_then(|seconds| {
        let distance = Duration::try_from_secs_f64(seconds.abs()).ok()?;
        if seconds < 0.0 {
            SystemTime::UNIX_EPOCH.checked_sub(distance)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(distance)
        }
    }))
}

/// Writes a duration as whole milliseconds; one beyond the IPC's 64-bit integers becomes the longest.
pub(super) fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

/// Reads a value that is empty when it is null.
pub(super) fn read_nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: SystemTime) -> String {
        let mut text = Vec::new();
        time(&value, &mut serde_json::Serializer::new(&mut text)).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn read(text: &str) -> Option<SystemTime> {
        read_time(&mut serde_json::Deserializer::from_str(text)).unwrap()
    }

    #[test]
    fn times_are_floats_in_both_directions() {
        let epoch = SystemTime::UNIX_EPOCH;
        let second = Duration::from_secs(1);
        assert_eq!(written(epoch + 1_764_000_000 * second), "1764000000.0");
        assert_eq!(written(epoch + second * 3 / 2), "1.5");
        assert_eq!(written(epoch - second), "-1.0");
        assert_eq!(read("1764000000"), Some(epoch + 1_764_000_000 * second));
        assert_eq!(read("1.5"), Some(epoch + second * 3 / 2));
        assert_eq!(read("-1.0"), Some(epoch - second));
        assert_eq!((read("null"), read("1e300"), read("-1e300")), (None, None, None));
    }

    #[test]
    fn blobs_are_understood_with_and_without_padding() {
        let read = |text: &str| read_some_blob(&mut serde_json::Deserializer::from_str(text));
        let hi = Some(Bytes::from_static(b"hi"));
        assert_eq!(read(r#""aGk=""#).unwrap(), hi);
        assert_eq!(read(r#""aGk""#).unwrap(), hi);
        assert_eq!(read("null").unwrap(), None);
        assert!(read(r#""%%""#).is_err() && read("7").is_err());
    }
}
