//! Eviction is not modelled: no mapping of a model asks for it.

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
