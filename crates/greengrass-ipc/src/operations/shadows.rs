//! Shadows in the local store of the component `aws.greengrass.ShadowManager`. Classic only, where that component is
//! deployed; the portable way to a shadow is MQTT on its `$aws/things/…/shadow/…` topics.
//!
//! Policy service `aws.greengrass.ShadowManager`. The store takes 20 requests a second for one thing and 200 in all;
//! beyond that it answers [`crate::ErrorCode::Service`]. A document has 8 kB at most by default.

use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::wire;

/// Most shadow names on one page.
const MAX_PAGE_SIZE: u8 = 100;

/// Declares a request that has nothing but the name of a shadow.
macro_rules! about_a_shadow {
    ($($(#[$documentation:meta])* $name:ident;)*) => {$(
        $(#[$documentation])*
        #[derive(Debug, Clone, Copy, Serialize)]
        #[serde(rename_all = "camelCase")]
        #[non_exhaustive]
        pub struct $name<'a> {
            /// Name of the thing the shadow belongs to.
            pub thing_name: &'a str,
            /// Name of the shadow; empty for the classic one, which has none.
            pub shadow_name: &'a str,
        }

        impl<'a> $name<'a> {
            /// The request for the shadow of this name; an empty name means the classic one.
            #[must_use]
            pub fn new(thing_name: &'a str, shadow_name: &'a str) -> Self {
                Self { thing_name, shadow_name }
            }
        }
    )*};
}

about_a_shadow! {
    /// Reads a shadow. [`crate::IpcError::is_not_found`] when there is none.
    GetThingShadow;
    /// Deletes a shadow. [`crate::IpcError::is_not_found`] when there is none.
    DeleteThingShadow;
}

/// Merges into a shadow, which it makes when there is none. [`crate::ErrorCode::Conflict`] when the document names a
/// version that is not the present one.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct UpdateThingShadow<'a> {
    /// Name of the thing the shadow belongs to.
    pub thing_name: &'a str,
    /// Name of the shadow; empty for the classic one, which has none.
    pub shadow_name: &'a str,
    /// Document to merge in JSON, for instance `{"state":{"reported":{…}}}`, before base64.
    #[serde(serialize_with = "wire::blob")]
    pub payload: &'a [u8],
}

impl<'a> UpdateThingShadow<'a> {
    /// Merges a document into the shadow of this name; an empty name means the classic one.
    #[must_use]
    pub fn new(thing_name: &'a str, shadow_name: &'a str, payload: &'a [u8]) -> Self {
        Self {
            thing_name,
            shadow_name,
            payload,
        }
    }
}

/// Answer to [`GetThingShadow`], [`UpdateThingShadow`] and [`DeleteThingShadow`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ShadowDocument {
    /// The document in JSON, decoded from base64: the whole shadow for a read, the accepted change for an update, empty or an empty state for a deletion.
    #[serde(default, deserialize_with = "wire::read_blob")]
    pub payload: Bytes,
}

/// Lists the named shadows of a thing, page by page. Policy resource: the bare name of the thing.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ListNamedShadowsForThing<'a> {
    /// Name of the thing whose shadows are listed.
    pub thing_name: &'a str,
    /// [`NamedShadowsPage::next_token`] of the page before; absent for the first, which it is by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<&'a str>,
    /// Names on one page, 1 to 100; 25 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_size: Option<u8>,
}

impl<'a> ListNamedShadowsForThing<'a> {
    /// Asks for the first page of the names of this thing's shadows.
    #[must_use]
    pub fn new(thing_name: &'a str) -> Self {
        Self {
            thing_name,
            next_token: None,
            page_size: None,
        }
    }

    pub(super) fn fault(&self) -> Option<String> {
        self.page_size
            .filter(|size| !(1..=MAX_PAGE_SIZE).contains(size))
            .map(|size| format!("the page size is {size}; expected 1 to {MAX_PAGE_SIZE}"))
    }
}

/// Answer to [`ListNamedShadowsForThing`]: one page of names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct NamedShadowsPage {
    /// Names of shadows, at most [`ListNamedShadowsForThing::page_size`] of them.
    pub results: Vec<String>,
    /// When the page was made, by the clock of the device, where the store says so.
    #[serde(default, deserialize_with = "wire::read_time")]
    pub timestamp: Option<SystemTime>,
    /// For [`ListNamedShadowsForThing::next_token`]; absent on the last page.
    pub next_token: Option<String>,
}
