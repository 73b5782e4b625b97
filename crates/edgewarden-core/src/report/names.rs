//! The two sets of names of the report format, in one table.
//!
//! In: a field and which set. Out: its name. The inner keys of custom metrics (`number`, `number_list`,
//! `string_list`, `ip_list`) have no short form and are not here.

/// Which set a whole report uses; they are never mixed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Names {
    /// `report_id`.
    #[default]
    Long,
    /// `rid`.
    Short,
}

/// One field, under both names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    long: &'static str,
    short: &'static str,
}

impl Field {
    pub(super) const fn of(self, names: Names) -> &'static str {
        match names {
            Names::Long => self.long,
            Names::Short => self.short,
        }
    }
}

const fn field(long: &'static str, short: &'static str) -> Field {
    Field { long, short }
}

pub(super) const HEADER: Field = field("header", "hed");
pub(super) const REPORT_ID: Field = field("report_id", "rid");
pub(super) const VERSION: Field = field("version", "v");
pub(super) const METRICS: Field = field("metrics", "met");
pub(super) const CUSTOM_METRICS: Field = field("custom_metrics", "cmet");
pub(super) const TCP_CONNECTIONS: Field = field("tcp_connections", "tc");
pub(super) const ESTABLISHED: Field = field("established_connections", "ec");
pub(super) const CONNECTIONS: Field = field("connections", "cs");
pub(super) const REMOTE_ADDRESS: Field = field("remote_addr", "rad");
pub(super) const LOCAL_PORT: Field = field("local_port", "lp");
pub(super) const LOCAL_INTERFACE: Field = field("local_interface", "li");
pub(super) const TOTAL: Field = field("total", "t");
pub(super) const TCP_PORTS: Field = field("listening_tcp_ports", "tp");
pub(super) const UDP_PORTS: Field = field("listening_udp_ports", "up");
pub(super) const PORTS: Field = field("ports", "pts");
pub(super) const PORT: Field = field("port", "pt");
pub(super) const INTERFACE: Field = field("interface", "if");
pub(super) const NETWORK_STATS: Field = field("network_stats", "ns");
pub(super) const BYTES_IN: Field = field("bytes_in", "bi");
pub(super) const BYTES_OUT: Field = field("bytes_out", "bo");
pub(super) const PACKETS_IN: Field = field("packets_in", "pi");
pub(super) const PACKETS_OUT: Field = field("packets_out", "po");
