//! Replaces eviction by a function that no model calls.

use super::Mapping;
use crate::error::Result;
use std::ops::Range;

pub(super) enum Patience {
    Short,
}

impl Mapping {
    pub(super) fn evict(&self, _: impl Iterator<Item = Range<u64>>, _: Patience) -> Result<()> {
        unreachable!("the mappings of the models keep their pages")
    }
}
