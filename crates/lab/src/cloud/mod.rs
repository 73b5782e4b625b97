//! AWS IoT stand-in: shadow service, Defender ingest, Detect, alarm Lambda.
