//! Maps files that are ready to be mapped, and creates arrays on them.

use super::unpublished::Unpublished;
use super::{MmapArray, close_path};
use crate::access::{Access, AccessMode, ReadWrite};
use crate::error::{ErrorKind, Result};
use crate::file::{
    AccessPattern, ArrayOptions, DataFile, Draft, ExistingFile, FileName, FilledBy, NewFile, Place,
};
use crate::map::{MapRequest, Mapping};
use crate::sys::Hint;
use bytemuck::Pod;
use ndarray::Dimension;
use std::path::Path;

/// Creates a file of zeros and an array on it. `operation` is the function that the user called. The file gets its name
/// now, or when the array is closed, as the options say.
pub(super) fn create<T: Pod, D: Dimension>(
    operation: &'static str,
    options: &ArrayOptions,
    place: Place<'_>,
) -> Result<MmapArray<T, D, ReadWrite>> {
    match options.publish_on_close {
        true => create_unpublished(operation, options, place),
        false => publish(options, zeros(operation, options, place).draft::<T, D>()?),
    }
}

/// Creates a file of zeros and an array on it. The file gets its name when the array is closed or made read-only.
pub(crate) fn create_unpublished<T: Pod, D: Dimension>(
    operation: &'static str,
    options: &ArrayOptions,
    place: Place<'_>,
) -> Result<MmapArray<T, D, ReadWrite>> {
    let draft = zeros(operation, options, place).draft::<T, D>()?;
    let (path, close_existing) = (draft.path().to_path_buf(), draft.closes_existing());
    let (mut data, staged) = draft.into_parts();
    if data.name == FileName::Given {
        data.name = FileName::Pending;
    }
    let mut array = map(options, data).map_err(|error| error.during(operation).at(&path))?;
    array.handle.unpublished = Some(Unpublished { staged, close_existing });
    Ok(array)
}

/// Returns a request for a file of zeros.
fn zeros<'a>(operation: &'static str, options: &'a ArrayOptions, place: Place<'a>) -> NewFile<'a> {
    NewFile { operation, options, place, access: AccessMode::ReadWrite, filled_by: FilledBy::Mapping }
}

/// Finishes a new file: closes this process's older arrays on the path if the options ask for it, maps the file, and
/// publishes it.
///
/// The older arrays are closed only here, so they stay open if the disk is full or the rows cannot be computed. The
/// file gets its name only after it is mapped, so no other process can change the file before.
pub(crate) fn publish<T: Pod, D: Dimension, A: Access>(
    options: &ArrayOptions,
    draft: Draft,
) -> Result<MmapArray<T, D, A>> {
    let (operation, path) = (draft.operation(), draft.path().to_path_buf());
    let closed = if draft.closes_existing() { close_path(&path).map(drop) } else { Ok(()) };
    let published = closed.and_then(|()| {
        let (data, staged) = draft.into_parts();
        let array = map(options, data)?;
        staged.publish()?;
        Ok(array)
    });
    published.map_err(|error| error.during(operation).at(&path))
}

/// Opens an existing file and maps it.
pub(super) fn open<T: Pod, D: Dimension, A: Access>(
    options: &ArrayOptions,
    path: &Path,
) -> Result<MmapArray<T, D, A>> {
    let existing = ExistingFile { options, path, access: A::MODE };
    let closed = if options.close_existing.unwrap_or(false) { close_path(path).map(drop) } else { Ok(()) };
    closed
        .and_then(|()| existing.open::<T, D>())
        .and_then(|data| map(options, data))
        .map_err(|error| error.during(existing.operation()).at(path))
}

fn map<T: Pod, D: Dimension, A: Access>(
    options: &ArrayOptions,
    data: DataFile,
) -> Result<MmapArray<T, D, A>> {
    let DataFile { file, id, path, layout, lock, name } = data;
    let mapping = Mapping::new(MapRequest {
        id,
        file,
        path,
        bytes: layout.data_bytes,
        access: A::MODE,
        lock,
        on_drop: options.on_drop,
        guarded: options.guarded,
        name,
    });
    let mapping = mapping.map_err(|error| match error.kind() {
        ErrorKind::OutOfMemory => error.with_remedy(
            "close other arrays, map fewer rows, or raise the limits `ulimit -v` and `vm.max_map_count`",
        ),
        _ => error,
    })?;
    if options.access_pattern != AccessPattern::Normal {
        mapping.choose_pattern(
            "open",
            hint(options.access_pattern),
            std::iter::once(mapping.file_bytes()),
        )?;
    }
    MmapArray::assemble(mapping, layout.geometry)
}

/// Returns the hint that tells the kernel about an access pattern.
pub(super) fn hint(pattern: AccessPattern) -> Hint {
    match pattern {
        AccessPattern::Normal => Hint::Normal,
        AccessPattern::Sequential => Hint::Sequential,
        AccessPattern::Random => Hint::Random,
    }
}
