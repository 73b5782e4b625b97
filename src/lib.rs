//! Edgewarden: the security component for AWS IoT Greengrass v2 gateways.

pub mod detect;
pub mod host;
pub mod observe;
pub mod report;
