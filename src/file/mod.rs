//! Files that hold arrays: inspecting an existing one.

mod inspect;

pub use self::inspect::{Description, inspect};
