//! Edgewarden: the security component for AWS IoT Greengrass v2 gateways.
