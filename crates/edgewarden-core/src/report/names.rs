//! The two sets of names of the report format, in one table.
//!
//! In: a field and which set. Out: its name. The inner keys of custom metrics (`number`, `number_list`,
//! `string_list`, `ip_list`) have no short form and are not here.

/// Which set a whole report uses; they are never mixed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NameLength {
    /// `report_id`.
    #[default]
    Long,
    /// `rid`.
    Short,
}

/// One field, under both names.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldName {
    long: &'static str,
    short: &'static str,
}

impl FieldName {
    pub(super) const fn of(self, names: NameLength) -> &'static str {
        match names {
            NameLength::Long => self.long,
            NameLength::Short => self.short,
        }
    }
}

const fn field(long: &'static str, short: &'static str) -> FieldName {
    FieldName { long, short }
}

pub(super) const HEADER: FieldName = field("header", "hed");
pub(super) const REPORT_ID: FieldName = field("report_id", "rid");
pub(super) const VERSION: FieldName = field("version", "v");
pub(super) const METRICS: FieldName = field("metrics", "met");
pub(super) const CUSTOM_METRICS: FieldName = field("custom_metrics", "cmet");
pub(super) const TCP_CONNECTIONS: FieldName = field("tcp_connections", "tc");
pub(super) const ESTABLISHED: FieldName = field("established_connections", "ec");
pub(super) const CONNECTIONS: FieldName = field("connections", "cs");
pub(super) const REMOTE_ADDRESS: FieldName = field("remote_addr", "rad");
pub(super) const LOCAL_PORT: FieldName = field("local_port", "lp");
pub(super) const LOCAL_INTERFACE: FieldName = field("local_interface", "li");
pub(super) const TOTAL: FieldName = field("total", "t");
pub(super) const TCP_PORTS: FieldName = field("listening_tcp_ports", "tp");
pub(super) const UDP_PORTS: FieldName = field("listening_udp_ports", "up");
pub(super) const PORTS: FieldName = field("ports", "pts");
pub(super) const PORT: FieldName = field("port", "pt");
pub(super) const INTERFACE: FieldName = field("interface", "if");
pub(super) const NETWORK_STATS: FieldName = field("network_stats", "ns");
pub(super) const BYTES_IN: FieldName = field("bytes_in", "bi");
pub(super) const BYTES_OUT: FieldName = field("bytes_out", "bo");
pub(super) const PACKETS_IN: FieldName = field("packets_in", "pi");
pub(super) const PACKETS_OUT: FieldName = field("packets_out", "po");
