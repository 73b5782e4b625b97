//! Async client for the AWS IoT Greengrass v2 component IPC.
#![forbid(unsafe_code)]

pub mod frame;
