//! `edgewarden deployment`: what a Greengrass deployment says to give or to end an order.
//!
//! In: an order that somebody wrote, or none. Out: JSON for `create-deployment`, or for the classic nucleus' command line.
//! Nuclei merge objects key by key, and lite makes no list of an object. So the key is reset, and a list written: that
//! replaces whatever an earlier deployment left there, and on both nuclei the agent is told of it.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Failure, order_file, out, safe};
use crate::host::clock;
use crate::quarantine::orders::document::read;
use crate::quarantine::orders::order::Authority;

/// The component, as the recipe names it.
const COMPONENT: &str = "io.edgewarden.Agent";
/// Longest value that nucleus lite takes; a list is one (docs/reference/ipc-wire.md#configuration-values).
const LITE_VALUE: usize = 1_024;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Give this order, from a file or, as -, from standard input; `edgewarden schema order` describes it.
    #[arg(long, value_name = "FILE", required_unless_present = "release")]
    order: Option<PathBuf>,
    /// End the deployment's order.
    #[arg(long, conflicts_with = "order")]
    release: bool,
    /// As `greengrass-cli deployment create --update-config` takes it, in place of `aws greengrassv2 create-deployment
    /// --components`.
    #[arg(long)]
    local: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let orders = match &arguments.order {
        Some(file) => list(order_file::read(file)?)?,
        None => json!([]),
    };
    let length = orders.to_string().len();
    if length > LITE_VALUE {
        let why = format!(
            "edgewarden: {length} bytes: nucleus lite takes no more than {LITE_VALUE} and fails the deployment; give such an \
             order by the shadow there"
        );
        eprintln!("{}", safe::safe(&why));
    }
    out(&format!("{}\n", document(&orders, arguments.local)))
}

/// What the order means, as a list.
fn list(order: Value) -> Result<Value, Failure> {
    if let Err(faults) = read(Some(&order), Authority::Deployment, clock::now().wall) {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        return Err(format!("a deployment would be refused: {}", faults.join("; ")).into());
    }
    Ok(match order {
        Value::Bool(true) => json!([{ "posture": "isolate" }]),
        Value::Object(_) => json!([order]),
        Value::Array(_) => order,
        _ => json!([]),
    })
}

fn document(orders: &Value, local: bool) -> Value {
    let (reset, merge) = (json!(["/quarantine"]), json!({ "quarantine": orders }));
    if local {
        return json!({ COMPONENT: { "RESET": reset, "MERGE": merge } });
    }
    json!({ COMPONENT: {
        "componentVersion": env!("CARGO_PKG_VERSION"),
        "configurationUpdate": { "reset": reset, "merge": merge.to_string() },
    } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_becomes_a_list_and_what_would_be_refused_is_not_printed() {
        let order = json!({"id": "inc-1", "posture": "isolate"});
        let of = |value: &Value| list(value.clone()).map_err(|failure| failure.text);
        assert_eq!(of(&order), Ok(json!([order])));
        assert_eq!(of(&json!([order])), Ok(json!([order])));
        assert_eq!(of(&json!(true)), Ok(json!([{"posture": "isolate"}])));
        assert_eq!(
            (of(&json!(false)), of(&json!(null))),
            (Ok(json!([])), Ok(json!([])))
        );
        let text = of(&json!([{"posture": "total"}, order])).unwrap_err();
        assert!(
            text.contains("quarantine[0].posture") && text.contains("at most one"),
            "{text}"
        );
    }

    #[test]
    fn the_key_is_reset_before_it_is_written() {
        let local = document(&json!([]), true);
        assert_eq!(
            local[COMPONENT],
            json!({"RESET": ["/quarantine"], "MERGE": {"quarantine": []}})
        );
        let cloud = document(&json!([]), false);
        let update = &cloud[COMPONENT]["configurationUpdate"];
        assert_eq!(update["reset"], json!(["/quarantine"]));
        assert_eq!(
            update["merge"], r#"{"quarantine":[]}"#,
            "a text, as the service wants it"
        );
    }
}
