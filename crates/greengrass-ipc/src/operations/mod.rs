//! Single operations, typed: what a request looks like and what an answer or event means.
//!
//! In: arguments of the caller and payloads of the nucleus. Out: JSON and typed answers and events. A request type has
//! the name of its operation; the table below joins it with the type of its answer. Absent optionals are left out,
//! never sent as null: lite refuses null.

mod component_updates;
mod configuration;
mod iot_core;
mod lifecycle;
mod metrics;
mod mqtt;
mod shadows;
mod topics;
mod validation;
mod wire;

pub use component_updates::{ComponentUpdate, DeferComponentUpdate, SubscribeToComponentUpdates};
pub use configuration::{
    Configuration, ConfigurationUpdate, GetConfiguration, SubscribeToConfigurationUpdate, UpdateConfiguration,
};
pub use iot_core::{
    IotCoreConnection, IotCoreMessage, PublishToIoTCore, SubscribeToIoTCore,
    SubscribeToIoTCoreConnectionStatus,
};
pub use lifecycle::{
    ComponentOutcome, ComponentState, PauseComponent, RequestStatus, RestartComponent, ResumeComponent,
    StopComponent, UpdateState,
};
pub use metrics::{Metric, MetricUnit, PutComponentMetric};
pub use mqtt::{MqttProperties, PayloadFormat, Qos, UserProperty};
pub use shadows::{
    DeleteThingShadow, GetThingShadow, ListNamedShadowsForThing, NamedShadows, ShadowDocument,
    UpdateThingShadow,
};
pub use topics::{PublishMessage, PublishToTopic, ReceiveMode, SubscribeToTopic, TopicMessage, TopicPayload};
pub use validation::{
    ConfigurationValidity, ConfigurationValidityReport, ProposedConfiguration,
    SendConfigurationValidityReport, SubscribeToValidateConfigurationUpdates,
};

use crate::operation::{Accepted, Operation, Request, StreamOperation};

/// `Name<'_> => Reply, checked;` makes `Name` a request for the operation of that name; `checked` asks its own method
/// `fault` before it is sent.
macro_rules! requests {
    ($table:ident: $role:ident, $output:ident: $($name:ident $(<$life:lifetime>)? => $type:ty $(, $checked:ident)?;)*) => {
        $(
            impl Request for $name $(<$life>)? {
                const NAME: &'static str = stringify!($name);
                $(requests! { @$checked })?
            }

            impl $role for $name $(<$life>)? {
                type $output = $type;
            }
        )*

        #[cfg(test)]
        mod $table {
            pub(super) const NAMES: &[&str] = &[$(stringify!($name)),*];
        }
    };
    (@checked) => {
        fn problem(&self) -> Option<String> {
            self.fault()
        }
    };
}

requests! { calls: Operation, Reply:
    DeferComponentUpdate<'_> => Accepted;
    DeleteThingShadow<'_> => ShadowDocument;
    GetConfiguration<'_> => Configuration;
    GetThingShadow<'_> => ShadowDocument;
    ListNamedShadowsForThing<'_> => NamedShadows, checked;
    PauseComponent<'_> => Accepted;
    PublishToIoTCore<'_> => Accepted, checked;
    PublishToTopic<'_> => Accepted;
    PutComponentMetric<'_> => Accepted, checked;
    RestartComponent<'_> => ComponentOutcome;
    ResumeComponent<'_> => Accepted;
    SendConfigurationValidityReport<'_> => Accepted;
    StopComponent<'_> => ComponentOutcome;
    UpdateConfiguration<'_> => Accepted;
    UpdateState => Accepted;
    UpdateThingShadow<'_> => ShadowDocument;
}

requests! { streams: StreamOperation, Event:
    SubscribeToComponentUpdates => ComponentUpdate;
    SubscribeToConfigurationUpdate<'_> => ConfigurationUpdate;
    SubscribeToIoTCore<'_> => IotCoreMessage;
    SubscribeToIoTCoreConnectionStatus => IotCoreConnection;
    SubscribeToTopic<'_> => TopicMessage;
    SubscribeToValidateConfigurationUpdates => ProposedConfiguration;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_lists_every_operation() {
        let readme = include_str!("../../README.md");
        for name in calls::NAMES.iter().chain(streams::NAMES) {
            assert!(
                readme.contains(&format!("| {name} |")),
                "README.md has no row for {name}"
            );
        }
    }

    #[test]
    fn streams_are_told_from_calls_by_their_names() {
        assert!(streams::NAMES.iter().all(|name| name.starts_with("SubscribeTo")));
        assert!(!calls::NAMES.iter().any(|name| name.starts_with("SubscribeTo")));
    }
}
