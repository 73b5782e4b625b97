//! Single operations, typed: what a request looks like and what an answer or event means.
//!
//! In: arguments of the caller and payloads of the nucleus. Out: JSON and typed answers and events. A request type has
//! the name of its operation, with `Iot` for `IoT`; the tables below join it with the type of its answer. Absent optionals are left out,
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
    ConfigurationReply, ConfigurationUpdate, GetConfiguration, SubscribeToConfigurationUpdate,
    UpdateConfiguration,
};
pub use iot_core::{
    IotCoreConnectionStatus, IotCoreMessage, PublishToIotCore, SubscribeToIotCore,
    SubscribeToIotCoreConnectionStatus,
};
pub use lifecycle::{
    ComponentOutcome, ComponentState, PauseComponent, RequestStatus, RestartComponent, ResumeComponent,
    StopComponent, UpdateState,
};
pub use metrics::{Metric, MetricUnit, PutComponentMetric};
pub use mqtt::{MqttProperties, PayloadFormat, Qos, UserProperty};
pub use shadows::{
    DeleteThingShadow, GetThingShadow, ListNamedShadowsForThing, NamedShadowsPage, ShadowDocument,
    UpdateThingShadow,
};
pub use topics::{PublishMessage, PublishToTopic, ReceiveMode, SubscribeToTopic, TopicMessage, TopicPayload};
pub use validation::{
    ConfigurationValidity, ConfigurationValidityReport, ProposedConfiguration,
    SendConfigurationValidityReport, SubscribeToValidateConfigurationUpdates,
};

use crate::operation::{EmptyReply, Operation, Request, SubscribeRequest};

/// `Name<'_> => Reply, checked;` makes `Name` a request for the operation of that name, or of the one that
/// `Name<'_> as "Operation"` gives; `checked` asks its own method `fault` before it is sent.
macro_rules! requests {
    ($table:ident: $role:ident, $output:ident: $(
        $name:ident $(<$life:lifetime>)? $(as $operation:literal)? => $type:ty $(, $checked:ident)?;
    )*) => {
        $(
            impl Operation for $name $(<$life>)? {
                const NAME: &'static str = requests!(@name $name $($operation)?);
                $(requests! { @$checked })?
            }

            impl $role for $name $(<$life>)? {
                type $output = $type;
            }
        )*

        #[cfg(test)]
        mod $table {
            pub(super) const NAMES: &[&str] = &[$(requests!(@name $name $($operation)?)),*];
        }
    };
    (@name $name:ident) => {
        stringify!($name)
    };
    (@name $name:ident $operation:literal) => {
        $operation
    };
    (@checked) => {
        fn problem(&self) -> Option<String> {
            self.fault()
        }
    };
}

requests! { calls: Request, Reply:
    DeferComponentUpdate<'_> => EmptyReply;
    DeleteThingShadow<'_> => ShadowDocument;
    GetConfiguration<'_> => ConfigurationReply;
    GetThingShadow<'_> => ShadowDocument;
    ListNamedShadowsForThing<'_> => NamedShadowsPage, checked;
    PauseComponent<'_> => EmptyReply;
    PublishToIotCore<'_> as "PublishToIoTCore" => EmptyReply, checked;
    PublishToTopic<'_> => EmptyReply;
    PutComponentMetric<'_> => EmptyReply, checked;
    RestartComponent<'_> => ComponentOutcome;
    ResumeComponent<'_> => EmptyReply;
    SendConfigurationValidityReport<'_> => EmptyReply;
    StopComponent<'_> => ComponentOutcome;
    UpdateConfiguration<'_> => EmptyReply;
    UpdateState => EmptyReply;
    UpdateThingShadow<'_> => ShadowDocument;
}

requests! { streams: SubscribeRequest, Event:
    SubscribeToComponentUpdates => ComponentUpdate;
    SubscribeToConfigurationUpdate<'_> => ConfigurationUpdate;
    SubscribeToIotCore<'_> as "SubscribeToIoTCore" => IotCoreMessage;
    SubscribeToIotCoreConnectionStatus as "SubscribeToIoTCoreConnectionStatus" => IotCoreConnectionStatus;
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
