//! Spends the room a bare report leaves on lists and custom metrics.
//!
//! In: a report without lists, what there is to tell, the room in bytes. Out: the report, filled. The order is
//! [`super::document`]'s.

use std::net::SocketAddr;

use super::custom::{CustomMetric, MetricItem, MetricType};
use super::document::{BuildError, ListeningPort, Report, ReportInput, ReportedConnection};
use super::encoding::Encoding;
use super::fit::ListSample;
use super::names;
use super::write::WithNames;
use crate::observe::sockets::{OpenSocket, SocketSnapshot};

/// A custom list that grows, and where its metric stands among all.
type CustomList<'a> = (usize, ListSample<'a, MetricItem, MetricItem>);

/// What of each metric is sent, by place; nothing yet of those that do not fit.
type SentItems = Vec<Option<Vec<MetricItem>>>;

/// The room and how it is spent.
pub(super) struct Filler {
    encoding: Encoding,
    room: usize,
    random: fastrand::Rng,
}

impl Filler {
    pub(super) fn new(encoding: Encoding, room: usize, seed: u64) -> Self {
        Self {
            encoding,
            room,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    pub(super) fn fill(mut self, report: &mut Report, input: &ReportInput<'_>) -> Result<(), BuildError> {
        let (mut content, mut custom) = self.custom(input.custom)?;
        match input.sockets {
            Some(sockets) => self.sockets(report, sockets, &mut custom)?,
            None => while self.grow(&mut custom)? {},
        }
        for (place, list) in custom {
            if let Some(slot) = content.get_mut(place) {
                *slot = list.in_order();
            }
        }
        for (metric, items) in input.custom.iter().zip(content) {
            match items {
                Some(items) => report.custom.push(metric.with(items)),
                None => report.unfit.push(metric.name.clone()),
            }
        }
        Ok(())
    }

    /// The three lists of sockets and all custom ones, in turn.
    fn sockets(
        &mut self,
        report: &mut Report,
        sockets: &SocketSnapshot,
        custom: &mut [CustomList<'_>],
    ) -> Result<(), BuildError> {
        let port = |end: &SocketAddr| ListeningPort {
            interface: sockets.interface_of(*end),
            port: end.port(),
        };
        let connection = |socket: &OpenSocket| connection(sockets, socket);
        let (encoding, separator) = (self.encoding, self.encoding.separator());
        let port_size = |port: &ListeningPort| encoding.size(&WithNames(encoding.names, port));
        let connection_size = |it: &ReportedConnection| encoding.size(&WithNames(encoding.names, it));
        let list = |field: names::FieldName| {
            let name = encoding.member(field.of(encoding.names))?;
            Ok(name + encoding.frame())
        };
        let (ports, connections) = (list(names::PORTS)?, list(names::CONNECTIONS)?);
        let mut tcp = ListSample::random(&sockets.listening_tcp, ports, &mut self.random);
        let mut udp = ListSample::random(&sockets.listening_udp, ports, &mut self.random);
        let mut established = ListSample::random(&sockets.established, connections, &mut self.random);
        loop {
            let mut grown = tcp.grow(&mut self.room, separator, port, port_size)?;
            grown |= udp.grow(&mut self.room, separator, port, port_size)?;
            grown |= established.grow(&mut self.room, separator, connection, connection_size)?;
            grown |= self.grow(custom)?;
            if !grown {
                break;
            }
        }
        let metrics = &mut report.metrics;
        if let Some(block) = &mut metrics.listening_tcp_ports {
            block.ports = tcp.sorted();
        }
        if let Some(block) = &mut metrics.listening_udp_ports {
            block.ports = udp.sorted();
        }
        if let Some(block) = &mut metrics.tcp_connections {
            block.established_connections.connections = established.sorted();
        }
        Ok(())
    }

    /// One more element for every custom list that can take one.
    fn grow(&mut self, custom: &mut [CustomList<'_>]) -> Result<bool, BuildError> {
        let (encoding, mut grown) = (self.encoding, false);
        for (_, list) in custom {
            let size = |item: &MetricItem| encoding.size(item);
            grown |= list.grow(&mut self.room, encoding.separator(), Clone::clone, size)?;
        }
        Ok(grown)
    }

    /// Numbers that fit, by place, and lists that may grow. The block is paid first; without it nothing fits.
    fn custom<'a>(
        &mut self,
        metrics: &'a [CustomMetric],
    ) -> Result<(SentItems, Vec<CustomList<'a>>), BuildError> {
        let mut content: SentItems = vec![None; metrics.len()];
        let mut lists = Vec::new();
        let block = self
            .encoding
            .member(names::CUSTOM_METRICS.of(self.encoding.names))?;
        if metrics.is_empty() || !self.pay(block + self.encoding.frame()) {
            return Ok((content, lists));
        }
        for ((place, metric), slot) in metrics.iter().enumerate().zip(&mut content) {
            let name = self.encoding.member(&metric.name)?;
            if metric.kind == MetricType::Number {
                let cost = name + self.encoding.size(metric)?;
                *slot = self.pay(cost).then(|| metric.items.clone());
                continue;
            }
            let frame = name + self.encoding.size(&metric.with(Vec::new()))? + self.encoding.frame();
            let list = if metric.ranked {
                ListSample::ranked(&metric.items, frame)
            } else {
                ListSample::random(&metric.items, frame, &mut self.random)
            };
            lists.push((place, list));
        }
        Ok((content, lists))
    }

    fn pay(&mut self, cost: usize) -> bool {
        let left = self.room.checked_sub(cost);
        self.room = left.unwrap_or(self.room);
        left.is_some()
    }
}

fn connection(snapshot: &SocketSnapshot, socket: &OpenSocket) -> ReportedConnection {
    let remote = socket.remote.map(|remote| remote.to_string());
    ReportedConnection {
        local_interface: snapshot.interface_of(socket.local),
        local_port: socket.local.port(),
        remote_addr: remote.unwrap_or_default(),
    }
}
