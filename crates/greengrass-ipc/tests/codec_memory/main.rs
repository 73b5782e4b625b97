//! What the decoder allocates for hostile bytes, measured by the allocator of this process, which does nothing else:
//! one test, so that no other one allocates meanwhile.

use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

#[cfg(test)]
mod peak;
