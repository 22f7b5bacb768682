//! [`Unpublished`]: the file of an array that gets its name when the array is closed.

use super::by_path::{close_where, on_file};
use crate::error::{Error, ErrorKind, Result};
use crate::file::{FileName, Staged};
use crate::map::Mapping;

/// A new file that is mapped and does not have its name yet. Dropping the value removes the file.
#[derive(Debug)]
pub(super) struct Unpublished {
    pub(super) staged: Staged,
    /// Whether this process's other arrays on the path are closed before the file gets its name.
    pub(super) close_existing: bool,
}

impl Unpublished {
    /// Closes this process's older arrays on the path if the options ask for it, and gives the file its name. Returns an
    /// error if the array was closed by its path: the file may then be incomplete, or another array may have got the name.
    pub(super) fn publish(self, mapping: &Mapping) -> Result<()> {
        let Self { staged, close_existing } = self;
        let path = mapping.path();
        if staged.is_named() && mapping.name() == FileName::Never {
            let found = "one that was closed by its path, so its file has got no name";
            return Err(Error::new(ErrorKind::Closed, "close", "an open array", found)
                .at(path)
                .with_remedy("create the file again"));
        }
        if close_existing {
            let is_on_file = on_file(path, "close")?;
            close_where("close", |other| !std::ptr::eq(other, mapping) && is_on_file(other))?;
        }
        staged.publish().map_err(|error| error.at(path))?;
        mapping.settle_name(FileName::Given);
        Ok(())
    }
}
