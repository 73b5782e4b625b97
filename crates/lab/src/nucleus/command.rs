//! What a test has the nucleus' parts do: on lite each is a daemon of its own, and restarts without the others.
//!
//! In: the file `command` under the root, read at SIGUSR2. Out: what the real part's restart leaves behind, and a `command` line.
//!
//! | command | what happens |
//! |---|---|
//! | `restart-iotcored` | the MQTT connection ends and is made anew; every subscription to the cloud is dead, and nobody is told |
//! | `restart-ggconfigd` | every subscription to changes of a configuration is dead, and nobody is told |
//! | `refuse TEXT` | who subscribes anew to a topic of the cloud with this in it is refused, as lite refuses everybody while it is offline; `refuse` alone ends it |
//! | `reset KEY` | the component's key has its default again, or is gone |

use std::path::Path;

use serde_json::json;

use super::events::emit;
use super::settings::at;
use super::state::Nucleus;

/// Name of the file.
const FILE: &str = "command";

enum Command {
    RestartIotCore,
    RestartConfiguration,
    Refuse(Option<String>),
    Reset(String),
}

impl Command {
    fn read(root: &Path) -> Result<(String, Self), String> {
        let text = std::fs::read_to_string(root.join(FILE)).map_err(|error| error.to_string())?;
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let command = match words.as_slice() {
            ["restart-iotcored"] => Self::RestartIotCore,
            ["restart-ggconfigd"] => Self::RestartConfiguration,
            ["refuse", text @ ..] if text.len() < 2 => {
                Self::Refuse(text.first().map(|text| (*text).to_owned()))
            }
            ["reset", key] => Self::Reset((*key).to_owned()),
            _ => return Err(format!("{text:?} is no command")),
        };
        Ok((words.join(" "), command))
    }
}

/// Does what the file says; what cannot be read changes nothing and is told.
pub(super) fn obey(nucleus: &Nucleus) {
    let (text, command) = match Command::read(&nucleus.root) {
        Ok(read) => read,
        Err(error) => return emit(&json!({ "event": "command", "error": error })),
    };
    match command {
        Command::RestartIotCore => {
            nucleus.subscriptions.forget_iot_core();
            nucleus.bridge.forget_everything();
        }
        Command::Refuse(text) => nucleus.bridge.refuse(text),
        Command::RestartConfiguration => nucleus.subscriptions.forget_configurations(),
        Command::Reset(key) => nucleus.change_configuration(|configurations| {
            let default = at(&configurations.default, std::slice::from_ref(&key)).cloned();
            if let Some(own) = configurations.own.as_object_mut() {
                match default {
                    Some(default) => drop(own.insert(key, default)),
                    None => drop(own.remove(&key)),
                }
            }
        }),
    }
    emit(&json!({ "event": "command", "done": text }));
}
