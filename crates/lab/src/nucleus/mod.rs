//! Greengrass IPC server bridged to an MQTT broker.
