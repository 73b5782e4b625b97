//! Puts the nucleus together, accepts clients, reacts to signals.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::bridge::{Bridge, BridgeOptions, drive};
use super::component::Component;
use super::deployment::Deployments;
use super::events::emit;
use super::personality::Personality;
use super::recipe::Recipe;
use super::settings::{Nulls, merge};
use super::state::{Configurations, Nucleus, new_token};
use super::subscriptions::Subscriptions;
use super::{
    NucleusArgs, NucleusError, command, configuration_file, connection, deployment, rollout, uplink,
};

/// Port of the Greengrass data plane, as both nuclei have it by default.
const DATA_PLANE_PORT: u16 = 8443;

fn file_error(action: &'static str, path: &Path) -> impl Fn(std::io::Error) -> NucleusError {
    let path = path.to_owned();
    move |source| NucleusError::File {
        action,
        path: path.clone(),
        source,
    }
}

pub(super) async fn run(args: NucleusArgs) -> Result<(), NucleusError> {
    std::fs::create_dir_all(&args.root).map_err(file_error("create root", &args.root))?;
    let root = args
        .root
        .canonicalize()
        .map_err(file_error("find root", &args.root))?;
    let recipe = read_recipe(&args)?;
    let (host, port) = host_and_port(&args.broker)?;
    let way = match &args.proxy_file {
        Some(file) => uplink::open(file.clone(), args.broker.clone())
            .await
            .map(|port| ("127.0.0.1".to_owned(), port))
            .map_err(file_error("listen for the proxy of", file))?,
        None => (host.clone(), port),
    };
    let options = BridgeOptions {
        thing: args.thing.clone(),
        host: way.0,
        port: way.1,
        first_pause: Duration::from_millis(args.mqtt_backoff_first_milliseconds),
        max_pause: Duration::from_secs(args.mqtt_backoff_max_seconds),
        personality: args.personality,
        tell_messages: args.tell_messages,
    };
    let (bridge, events) = Bridge::new(&options);
    let nucleus = Arc::new(assemble(&args, root, &recipe, &host, port, bridge)?);
    let socket = nucleus.root.join(args.personality.socket_name());
    let listener = listen(&socket)?;
    nucleus
        .write_environment()
        .map_err(file_error("write component.env in", &nucleus.root))?;
    emit(&json!({
        "event": "listening", "socket": socket, "component": recipe.name, "version": recipe.version,
    }));
    let (bridge, subscriptions) = (Arc::clone(&nucleus.bridge), Arc::clone(&nucleus.subscriptions));
    let pauses = (options.first_pause, options.max_pause);
    tokio::spawn(drive(bridge, subscriptions, events, pauses));
    tokio::spawn(accept(listener, Arc::clone(&nucleus)));
    let (deploy, documents) = mpsc::channel(deployment::QUEUED_DEPLOYMENTS);
    let pace = deployment::Pace {
        answer_limit: Duration::from_secs(args.answer_limit_seconds),
        step: Duration::from_millis(args.configuration_step_millis),
    };
    tokio::spawn(deployment::run(Arc::clone(&nucleus), documents, pace));
    let component = tokio::spawn(run_component(Arc::clone(&nucleus), args.clone()));
    let outcome = react(&nucleus, args.configuration.as_deref(), &deploy).await;
    nucleus.component_process.end();
    let _ = component.await;
    let _ = std::fs::remove_file(&socket);
    outcome
}

async fn run_component(nucleus: Arc<Nucleus>, args: NucleusArgs) {
    if !args.launch {
        return;
    }
    let component = nucleus.component.clone();
    if let Err(source) = rollout::run(nucleus, args).await {
        let error = NucleusError::Component { component, source };
        emit(&json!({ "event": "component", "state": "broken", "error": crate::error_text(&error) }));
    }
}

/// Waits for signals; returns when one says stop.
async fn react(
    nucleus: &Nucleus,
    configuration: Option<&Path>,
    deployments: &mpsc::Sender<Value>,
) -> Result<(), NucleusError> {
    let failed = |source| NucleusError::System {
        action: "watch signals",
        source,
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(failed)?;
    let mut user = signal(SignalKind::user_defined1()).map_err(failed)?;
    let mut command = signal(SignalKind::user_defined2()).map_err(failed)?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hang_up.recv() => deploy(deployments, configuration),
            _ = user.recv() => restart_ipc(nucleus)?,
            _ = command.recv() => command::obey(nucleus),
        }
    }
}

/// A file that cannot be used changes nothing and is told.
fn deploy(deployments: &mpsc::Sender<Value>, configuration: Option<&Path>) {
    let fault = match configuration_file::read(configuration) {
        Ok(document) => deployments
            .try_send(document)
            .err()
            .map(|error| error.to_string()),
        Err(error) => Some(crate::error_text(&error)),
    };
    if let Some(fault) = fault {
        emit(&json!({ "event": "configuration", "error": fault }));
    }
}

fn restart_ipc(nucleus: &Nucleus) -> Result<(), NucleusError> {
    let token = new_token().map_err(|source| NucleusError::System {
        action: "make a token",
        source,
    })?;
    *nucleus
        .token
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner) = token;
    nucleus
        .write_environment()
        .map_err(file_error("write component.env in", &nucleus.root))?;
    nucleus.generation.send_modify(|generation| *generation += 1);
    emit(&json!({ "event": "restarted" }));
    Ok(())
}

async fn accept(listener: UnixListener, nucleus: Arc<Nucleus>) {
    let mut id = 0;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                id += 1;
                tokio::spawn(connection::serve(stream, Arc::clone(&nucleus), id));
            }
            // Out of descriptors: clients that leave give some back.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

fn listen(socket: &Path) -> Result<UnixListener, NucleusError> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(file_error("remove old socket", socket)(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(socket).map_err(file_error("listen on", socket))?;
    let everybody = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(socket, everybody).map_err(file_error("open up", socket))?;
    Ok(listener)
}

fn assemble(
    args: &NucleusArgs,
    root: PathBuf,
    recipe: &Recipe,
    host: &str,
    port: u16,
    bridge: Bridge,
) -> Result<Nucleus, NucleusError> {
    let token = new_token().map_err(|source| NucleusError::System {
        action: "make a token",
        source,
    })?;
    let mut own = recipe.default_configuration.clone();
    merge(
        &mut own,
        configuration_file::read(args.configuration.as_deref())?,
        Nulls::Remove,
    );
    let configurations = Configurations {
        default: recipe.default_configuration.clone(),
        own,
        nucleus: nucleus_configuration(args, host, port),
        updated_millis: 0,
    };
    Ok(Nucleus {
        personality: args.personality,
        thing: args.thing.clone(),
        component: recipe.name.clone(),
        environment: environment(args, &root)?,
        root,
        token: Mutex::new(token),
        configurations: Mutex::new(configurations),
        proxy_file: args.proxy_file.clone(),
        endpoint_asked: OnceLock::new(),
        endpoint_late: Duration::from_millis(args.endpoint_late_millis),
        subscriptions: Arc::new(Subscriptions::new(args.personality)),
        bridge: Arc::new(bridge),
        component_process: Component::new(args.launch),
        deployments: Deployments::default(),
        shadows: Mutex::default(),
        connection_status: args.connection_status,
        clients: AtomicUsize::new(0),
        generation: watch::Sender::new(0),
    })
}

/// What components read of the nucleus: where its cloud is. Lite's values come from YAML, so they are strings.
fn nucleus_configuration(args: &NucleusArgs, host: &str, port: u16) -> Value {
    let data = args.data_endpoint.clone().unwrap_or_else(|| host.to_owned());
    let credentials = args.credentials_endpoint.clone().unwrap_or_else(|| data.clone());
    let mut configuration = json!({
        "awsRegion": args.region,
        "iotDataEndpoint": data,
        "iotCredEndpoint": credentials,
        "greengrassDataPlanePort": DATA_PLANE_PORT,
        "mqtt": { "port": port },
    });
    if let Some(more) = &args.nucleus_configuration {
        merge(&mut configuration, more.clone(), Nulls::Remove);
    }
    match args.personality {
        Personality::Lite => super::settings::scalars_as_strings(configuration),
        Personality::Classic => configuration,
    }
}

fn environment(args: &NucleusArgs, root: &Path) -> Result<BTreeMap<String, String>, NucleusError> {
    let socket = root.join(args.personality.socket_name()).display().to_string();
    let mut environment = BTreeMap::from([
        (
            "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT".to_owned(),
            socket,
        ),
        ("AWS_IOT_THING_NAME".to_owned(), args.thing.clone()),
        ("AWS_REGION".to_owned(), args.region.clone()),
        ("AWS_DEFAULT_REGION".to_owned(), args.region.clone()),
        ("GGC_VERSION".to_owned(), args.personality.version().to_owned()),
    ]);
    for pair in &args.set_env {
        let (name, value) = pair.split_once('=').ok_or_else(|| NucleusError::Argument {
            argument: "--set-env",
            found: pair.clone(),
            expected: "NAME=VALUE",
        })?;
        environment.insert(name.to_owned(), value.to_owned());
    }
    Ok(environment)
}

fn read_recipe(args: &NucleusArgs) -> Result<Recipe, NucleusError> {
    let text = std::fs::read_to_string(&args.recipe).map_err(file_error("read recipe", &args.recipe))?;
    Recipe::read(&text, std::env::consts::ARCH, args.personality).map_err(|source| NucleusError::Recipe {
        path: args.recipe.clone(),
        source: source.into(),
    })
}

/// Splits at the last colon; brackets around an IPv6 address are taken off.
fn host_and_port(broker: &str) -> Result<(String, u16), NucleusError> {
    let parts = broker.rsplit_once(':').and_then(|(host, port)| {
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        (!host.is_empty()).then_some(())?;
        Some((host.to_owned(), port.parse().ok()?))
    });
    parts.ok_or_else(|| NucleusError::Argument {
        argument: "--broker",
        found: broker.to_owned(),
        expected: "HOST:PORT, an IPv6 address in brackets",
    })
}
