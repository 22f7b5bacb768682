#![doc = include_str!("index.md")]

#[doc = include_str!("arrays.md")]
pub mod arrays {}

#[doc = include_str!("arithmetic.md")]
pub mod arithmetic {}

#[doc = include_str!("loops.md")]
pub mod loops {}

#[doc = include_str!("analysis.md")]
pub mod analysis {}

#[doc = include_str!("sharing.md")]
pub mod sharing {}

#[doc = include_str!("soundness.md")]
pub mod soundness {}

#[doc = include_str!("errors.md")]
pub mod errors {}

#[doc = include_str!("../../docs/from-numpy.md")]
pub mod from_numpy {}
