//! The enforcer's hands in the packet filter: load, read back, prove.
//!
//! The kernel counts its generations, one for every transaction of anybody. As long as the generation is the one that
//! was read back, nothing can have changed, and nothing is listed again. Elements of sets are changed alone; that the
//! generation is one more afterwards proves that this was the only change.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Enforcer;
use crate::host::clock;
use crate::host::netfilter::kernel::NftKernel;
use crate::host::netfilter::nft::{self, NftError};
use crate::moment::Now;
use crate::quarantine::history::{Actor, Event};
use crate::quarantine::orders::order::Posture;
use crate::quarantine::plan::Plan;
use crate::quarantine::ruleset::verify::{Listings, fingerprint, verify};
use crate::quarantine::ruleset::{CarriedCounters, CutAction, Hooks, Layer, Ruleset, SetElements, render};

/// How often the rules are listed although the generation says that nobody touched them.
const LIST_EVERY: Duration = Duration::from_secs(300);
/// How often a free device tries whether it could be cut off: whether nft is there, and permitted.
const TRY_EVERY: Duration = Duration::from_secs(59);

/// What is to be brought into the kernel.
pub(super) struct Target {
    /// The plan.
    pub(super) plan: Plan,
    /// Whether it cuts or counts.
    pub(super) effect: CutAction,
}

impl Target {
    /// Whether anything is cut.
    pub(super) fn cuts(&self) -> bool {
        !self.plan.is_normal() && self.effect == CutAction::Cut
    }

    /// What the kernel enforces once it holds this.
    fn posture(&self) -> Posture {
        if self.cuts() {
            self.plan.posture
        } else {
            Posture::Normal
        }
    }
}

/// What the kernel was last seen to hold.
pub(super) struct Loaded {
    ruleset: Ruleset,
    fingerprint: String,
    /// The generation at which it was read back; `None` when somebody changed something meanwhile.
    generation: Option<u32>,
    listed: Duration,
    posture: Posture,
}

impl Enforcer {
    /// Makes the kernel hold `target` and proves it.
    ///
    /// # Errors
    /// Sentences for the operator. The kernel then holds what it held before: a load is one transaction.
    pub(super) async fn bring_kernel(&mut self, target: &Target, now: Now) -> Result<(), Vec<String>> {
        let hooks = if target.plan.is_normal() {
            Hooks::default()
        } else {
            self.layers.hooks(&self.settings.isolation, now.uptime)
        };
        let ruleset = render(&target.plan, &hooks, target.effect);
        let mut kernel = NftKernel::open().map_err(|error| self.blind(&error))?;
        let generation = kernel.generation().map_err(|error| self.blind(&error))?;
        // An interface that leaves takes its hook with it, without any transaction.
        if self.is_untouched(&ruleset, generation, now) && devices_hold(&ruleset, &mut kernel) {
            self.note_counted(target, &mut kernel);
            self.begin_attempt(target);
            return self.prove(target, now, false);
        }
        if let Some(after) = self.change_elements(&ruleset, generation, &mut kernel, now).await {
            self.note_change(ruleset, after);
            self.note_counted(target, &mut kernel);
            self.begin_attempt(target);
            return self.prove(target, now, true);
        }
        if self.is_as_loaded(&ruleset, generation, &mut kernel, now).await? {
            self.note_counted(target, &mut kernel);
            self.begin_attempt(target);
            return self.prove(target, now, false);
        }
        self.load(ruleset, hooks, target, &mut kernel, now).await
    }

    /// The kernel cannot be asked: what it holds is not known.
    fn blind(&mut self, error: &crate::host::net::netlink::NetlinkError) -> Vec<String> {
        self.posture = None;
        let not_permitted = error.refusal() == Some(nix::errno::Errno::EPERM);
        vec![if not_permitted {
            NftError::NotPermitted.to_string()
        } else {
            format!("the packet filter cannot be asked: {}", crate::error_text(error))
        }]
    }

    fn is_untouched(&self, ruleset: &Ruleset, generation: u32, now: Now) -> bool {
        self.loaded.as_ref().is_some_and(|loaded| {
            let live = || loaded.ruleset.elements.clone().live(now.wall);
            let every = if ruleset.tables.is_empty() {
                TRY_EVERY
            } else {
                LIST_EVERY
            };
            loaded.generation == Some(generation)
                && loaded.ruleset.same_structure(ruleset)
                && now.uptime.saturating_sub(loaded.listed) < every
                && (loaded.ruleset.elements == ruleset.elements || live() == ruleset.elements)
        })
    }

    /// Changes elements alone where that is all that differs; gives the generation afterwards.
    async fn change_elements(
        &mut self,
        ruleset: &Ruleset,
        generation: u32,
        kernel: &mut NftKernel,
        now: Now,
    ) -> Option<u32> {
        let loaded = self.loaded.as_ref()?;
        if loaded.generation != Some(generation) || !loaded.ruleset.same_structure(ruleset) {
            return None;
        }
        let text = ruleset.change(&loaded.ruleset.elements.clone().live(now.wall), now.wall);
        if text.is_empty() {
            return None;
        }
        if let Err(error) = nft::load(&text).await {
            // An element may have ended a moment before the plan's time; the whole load that follows settles it.
            tracing::debug!(
                "elements alone could not be changed: {}",
                crate::error_text(&error)
            );
            return None;
        }
        let after = kernel.generation().ok()?;
        (after == generation.wrapping_add(1)).then_some(after)
    }

    fn note_change(&mut self, ruleset: Ruleset, generation: u32) {
        if let Some(loaded) = &mut self.loaded {
            loaded.ruleset = ruleset;
            loaded.generation = Some(generation);
        }
    }

    /// Lists, and compares with what was loaded; notes tampering.
    ///
    /// # Errors
    /// Sentences: the kernel cannot be read back.
    async fn is_as_loaded(
        &mut self,
        ruleset: &Ruleset,
        generation: u32,
        kernel: &mut NftKernel,
        now: Now,
    ) -> Result<bool, Vec<String>> {
        let tables = kernel.tables().map_err(|error| self.blind(&error))?;
        // One is listed in any case: that shows whether nft works.
        let listed = tables.iter().copied().chain([Layer::Inet]).collect();
        let listings = match nft::list(&listed).await {
            Ok(listings) => listings,
            Err(error @ (NftError::Missing | NftError::NotPermitted | NftError::Run { .. })) => {
                self.posture = None;
                if let Some(loaded) = &mut self.loaded {
                    loaded.generation = None;
                }
                return Err(vec![describe(&error)]);
            }
            // A table that nft cannot list may be somebody's way to blind us; the load replaces it whatever it is.
            Err(error) => {
                self.note_tampering(&describe(&error));
                return Ok(false);
            }
        };
        let same = self
            .loaded
            .as_ref()
            .is_some_and(|loaded| loaded.ruleset.same_structure(ruleset));
        let known = if self.loaded.is_some() {
            same && devices_hold(ruleset, kernel)
        } else {
            ruleset.tables.is_empty()
        };
        let none = SetElements::default();
        let also = self
            .loaded
            .as_ref()
            .map_or(&none, |loaded| &loaded.ruleset.elements);
        let fits = verify(ruleset, &listings, also, now.wall);
        let listed = fingerprint(listings);
        self.posture = self.seen(&tables, &listed);
        let untouched = self
            .loaded
            .as_ref()
            .is_none_or(|loaded| loaded.fingerprint == listed);
        if known && untouched && fits.is_ok() {
            self.loaded = Some(Loaded {
                ruleset: ruleset.clone(),
                fingerprint: listed,
                generation: Some(generation).filter(|before| kernel.generation().ok() == Some(*before)),
                listed: now.uptime,
                posture: self
                    .loaded
                    .as_ref()
                    .map_or(Posture::Normal, |loaded| loaded.posture),
            });
            return Ok(true);
        }
        if same && !ruleset.tables.is_empty() {
            let what = fits
                .err()
                .map_or_else(|| "a rule was rewritten".to_owned(), |all| all.join("; "));
            self.note_tampering(&what);
        }
        Ok(false)
    }

    fn note_tampering(&mut self, what: &str) {
        self.posture = None;
        self.reasserted += 1;
        let since = self.loaded.as_ref().and_then(|loaded| loaded.generation);
        let by = self
            .changes
            .iter()
            .rfind(|change| since.is_none_or(|since| change.generation.wrapping_sub(since).cast_signed() > 0))
            .map(|change| Actor {
                pid: change.pid,
                name: change.name.clone(),
            });
        self.changed_by = by.as_ref().map(|by| format!("{} ({})", by.name, by.pid));
        let name = self.changed_by.as_deref().unwrap_or("?");
        tracing::warn!(by = name, "our rules are put back: {what}");
        let what = what.to_owned();
        self.history.note(Event::Reasserted { by, what });
    }

    /// What a listing proves: no table is no rule of ours, tables are what we loaded only while nobody changed them.
    fn seen(&self, tables: &BTreeSet<Layer>, listed: &str) -> Option<Posture> {
        match &self.loaded {
            _ if tables.is_empty() => Some(Posture::Normal),
            Some(loaded) if loaded.fingerprint == listed => Some(loaded.posture),
            _ => None,
        }
    }

    async fn load(
        &mut self,
        ruleset: Ruleset,
        hooks: Hooks,
        target: &Target,
        kernel: &mut NftKernel,
        now: Now,
    ) -> Result<(), Vec<String>> {
        let counted = self.carried_over(target, kernel);
        let ruleset = self
            .load_what_is_taken(ruleset, hooks, target, &counted, kernel, now)
            .await?;
        self.history.note(Event::Applied {
            plan: target.plan.id(),
            what: ruleset.summary(),
        });
        self.posture = None;
        self.loaded = None;
        self.loaded_at = clock::now().uptime;
        let generation = kernel.generation().ok();
        let present = kernel.tables().map_err(|error| self.blind(&error))?;
        let listings = self.read_back(&ruleset, &present, now).await?;
        if !devices_hold(&ruleset, kernel) {
            return Err(vec![
                "the kernel filters the egress of other interfaces than it was told".into(),
            ]);
        }
        let unchanged = generation.filter(|before| kernel.generation().ok() == Some(*before));
        self.posture = Some(target.posture());
        self.loaded = Some(Loaded {
            fingerprint: fingerprint(listings),
            generation: unchanged,
            listed: now.uptime,
            posture: target.posture(),
            ruleset,
        });
        self.note_counted(target, kernel);
        self.begin_attempt(target);
        self.prove(target, now, true)
    }

    async fn read_back(
        &self,
        ruleset: &Ruleset,
        present: &BTreeSet<Layer>,
        now: Now,
    ) -> Result<Listings, Vec<String>> {
        let listings = nft::list(present).await.map_err(|error| vec![describe(&error)])?;
        verify(ruleset, &listings, &SetElements::default(), now.wall)?;
        Ok(listings)
    }

    /// Loads, if need be without the layers that this kernel refuses; gives what was loaded.
    async fn load_what_is_taken(
        &mut self,
        ruleset: Ruleset,
        hooks: Hooks,
        target: &Target,
        counted: &CarriedCounters,
        kernel: &mut NftKernel,
        now: Now,
    ) -> Result<Ruleset, Vec<String>> {
        let present = kernel.tables().map_err(|error| self.blind(&error))?;
        let refusal = match load_one(&ruleset, &present, counted, now).await {
            Ok(()) => return Ok(ruleset),
            Err(error @ NftError::Refused { .. }) => error,
            Err(error) => return Err(vec![describe(&error)]),
        };
        let without_egress = Hooks {
            egress: Vec::new(),
            ..hooks.clone()
        };
        let without_bridge = Hooks {
            bridge: false,
            ..hooks.clone()
        };
        let neither = Hooks::default();
        let fallbacks: [(Hooks, &[Layer]); 3] = [
            (without_egress, &[Layer::Netdev]),
            (without_bridge, &[Layer::Bridge]),
            (neither, &[Layer::Netdev, Layer::Bridge]),
        ];
        for (fewer, lacking) in fallbacks {
            if fewer == hooks {
                continue;
            }
            let ruleset = render(&target.plan, &fewer, target.effect);
            if load_one(&ruleset, &present, counted, now).await.is_ok() {
                let why = describe(&refusal);
                for layer in lacking {
                    tracing::warn!(%layer, "this kernel does not take the table: {why}");
                    self.layers.refuse(*layer, &hooks, &why, now.uptime);
                }
                return Ok(ruleset);
            }
        }
        Err(vec![describe(&refusal)])
    }
}

async fn load_one(
    ruleset: &Ruleset,
    present: &BTreeSet<Layer>,
    counted: &CarriedCounters,
    now: Now,
) -> Result<(), NftError> {
    let text = ruleset.load(present, counted, now.wall);
    if text.is_empty() {
        return Ok(());
    }
    nft::load(&text).await
}

/// Whether the egress chain is on just the interfaces it should be on.
fn devices_hold(ruleset: &Ruleset, kernel: &mut NftKernel) -> bool {
    let chains = ruleset.tables.iter().flat_map(|table| &table.chains);
    let wanted: BTreeSet<String> = chains
        .flat_map(|chain| &chain.devices)
        .map(|device| device.name.clone())
        .collect();
    kernel.egress_devices().is_ok_and(|found| found == wanted)
}

/// An error with its causes in one line.
fn describe(error: &NftError) -> String {
    crate::error_text(error)
}
