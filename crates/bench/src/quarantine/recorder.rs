//! What the agent gives to the kernel, in both forms: as text for `nft -f`, and byte for byte.
//!
//! In: a running agent with the lab's hand between it and the packet filter. Out: the files, for the baselines.

use std::path::{Path, PathBuf};

use edgewarden_lab::stage::filter_hook::{FilterHook, RECORDS, TRANSACTION};
use xtask::workspace::{self, file};

use super::lab::Lab;
use crate::error::BenchError;

/// One transaction.
pub(crate) struct Recorded {
    /// As nft reads it.
    pub(crate) text: PathBuf,
    /// As the kernel takes it.
    pub(crate) bytes: PathBuf,
}

/// The hand that keeps what is sent.
pub(crate) struct Recorder(FilterHook);

impl Recorder {
    /// Starts the agent with it.
    pub(crate) fn start(lab: &mut Lab) -> Result<Self, BenchError> {
        let hook = FilterHook::prepare(&lab.stage)?;
        hook.begin(RECORDS, "")?;
        let [preload, place] = hook.environment();
        lab.stage
            .start_agent_as(Path::new("/usr/bin/env"), &[&preload, &place])?;
        lab.wait_free()?;
        Ok(Self(hook))
    }

    /// The newest transaction, which found nothing of ours, or removed what was there.
    pub(crate) fn keep(&self, lab: &Lab, name: &str, removes: bool) -> Result<Recorded, BenchError> {
        let (_, plan, _) = lab.stage.edgewarden(&["plan", "--nft"])?;
        self.write(name, plan.lines().filter(|line| removes || !is_removal(line)))
    }

    /// The newest transaction, which removed what `before` had loaded.
    pub(crate) fn keep_removal(&self, name: &str, before: &Recorded) -> Result<Recorded, BenchError> {
        let plan = workspace::read(&before.text)?;
        self.write(name, plan.lines().filter(|line| is_removal(line)))
    }

    fn write<'a>(&self, name: &str, lines: impl Iterator<Item = &'a str>) -> Result<Recorded, BenchError> {
        let of = |ending: &str| self.0.folder().join(format!("{name}.{ending}"));
        let recorded = Recorded {
            text: of("nft"),
            bytes: of("bytes"),
        };
        let lines: Vec<&str> = lines.chain([""]).collect();
        workspace::write(&recorded.text, &lines.join("\n"))?;
        let newest = self.0.folder().join(TRANSACTION);
        std::fs::rename(&newest, &recorded.bytes).map_err(file("rename", &newest))?;
        Ok(recorded)
    }
}

fn is_removal(line: &str) -> bool {
    line.starts_with("delete table ")
}
