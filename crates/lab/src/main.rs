//! `edgewarden-lab`: the lab's programs, one subcommand each.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use edgewarden_lab::{cloud, error_text, front, names, nucleus, proxy, site, traffic};

/// Stand-ins for the demo and the tests of Edgewarden.
#[derive(Parser)]
#[command(name = "edgewarden-lab")]
struct Arguments {
    #[command(subcommand)]
    program: Program,
}

#[derive(Subcommand)]
enum Program {
    /// A Greengrass nucleus: IPC server, bridged to an MQTT broker.
    Nucleus(Box<nucleus::NucleusArgs>),
    /// AWS IoT: shadow service, Device Defender ingest, Detect, alarm Lambda.
    Cloud(cloud::CloudArgs),
    /// A relay before the broker: delay, black hole, cuts, denied topics.
    Front(front::FrontArgs),
    /// A well-behaved telemetry process.
    Sensor(traffic::sensor::SensorArgs),
    /// A process that sends far too much.
    Rogue(traffic::rogue::RogueArgs),
    /// Datagrams as fast as told.
    Flood(traffic::flood::FloodArgs),
    /// Segments that ask for connections, as fast as told.
    Syn(traffic::syn::SynArgs),
    /// A process that connects, sends and exits.
    Burst(traffic::burst::BurstArgs),
    /// Counts what reaches it, over TCP and UDP.
    Sink(traffic::sink::SinkArgs),
    /// Fills the table of connection tracking, or empties it.
    Flows(traffic::flows::FlowsArgs),
    /// An ordinary user's flows to himself, as many as connection tracking takes.
    Echoes(traffic::echoes::EchoesArgs),
    /// An ordinary user who holds every local port.
    Ports(traffic::ports::PortsArgs),
    /// A process with very many open files.
    Hoard(traffic::hoard::HoardArgs),
    /// A file system that never answers.
    SilentFs(site::silent_fs::SilentFsArgs),
    /// A name server that answers from a file.
    Dns(names::DnsArgs),
    /// An HTTP proxy that tunnels.
    Proxy(proxy::ProxyArgs),
    /// A console on the broker: publish, read a shadow.
    Mqtt(cloud::mqtt::MqttArgs),
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let arguments = Arguments::parse();
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_or_else(
            |error| Err(error.into()),
            |runtime| {
                runtime.block_on(async {
                    match arguments.program {
                        Program::Nucleus(args) => nucleus::run(*args).await,
                        Program::Cloud(args) => cloud::run(args).await,
                        Program::Front(args) => front::run(args).await,
                        Program::Sensor(args) => traffic::sensor::run(args).await,
                        Program::Rogue(args) => traffic::rogue::run(args).await,
                        Program::Flood(args) => traffic::flood::run(&args),
                        Program::Syn(args) => traffic::syn::run(&args),
                        Program::Burst(args) => traffic::burst::run(&args),
                        Program::Sink(args) => traffic::sink::run(args).await,
                        Program::Flows(args) => traffic::flows::run(&args),
                        Program::Echoes(args) => traffic::echoes::run(&args),
                        Program::Ports(args) => traffic::ports::run(&args),
                        Program::Hoard(args) => traffic::hoard::run(args).await,
                        Program::SilentFs(args) => site::silent_fs::run(args).await,
                        Program::Dns(args) => names::run(&args),
                        Program::Proxy(args) => proxy::run(args).await,
                        Program::Mqtt(args) => cloud::mqtt::run(args).await,
                    }
                })
            },
        );
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    eprintln!("edgewarden-lab: {}", error_text(error.as_ref()));
    ExitCode::FAILURE
}
