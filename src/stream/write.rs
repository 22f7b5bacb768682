//! The ends of a pipeline that write: to a new file, or into an array.

use super::copy::copy_whole;
use super::job::Job;
use super::sink::Sink;
use super::stage::{Stage, grow, items_mut, row_bytes_of, row_slice, rows_of, view_of_mut, with_rows};
use super::workers::{self, Progress};
use super::{Stream, probe};
use crate::access::{AccessMode, ReadOnly};
use crate::array::{MmapArray, Placed, publish};
use crate::error::{Error, ErrorKind, Result};
use crate::file::{ArrayOptions, Existing, FilledBy, NewFile, Place};
use crate::geometry::to_pages;
use crate::map::Mapping;
use crate::sys::{AlignedBuf, page_bytes};
use ndarray::{ArrayRef, ArrayViewMut, Axis, Dimension};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

impl<S: Stage> Stream<'_, S> {
    /// Writes the rows to a file in C order, replaces any file of that name, and opens the new one.
    ///
    /// The file is NPY if its name ends in `.npy`, else raw. On return, data and name are durable. Until then the name does not
    /// exist, or leads to the old file, which a process that has it open keeps. As for
    /// [`create`](ArrayOptions::create), this process's arrays on the path are closed: when all rows are written, so the stream may
    /// read from them. Missing parent directories are created first, and stay if the stream fails.
    ///
    /// # Errors
    /// What was wrong with the calls that made this stream; what [`create`](ArrayOptions::create) fails with;
    /// [`LengthMismatch`](ErrorKind::LengthMismatch) if the source is cut short meanwhile;
    /// [`Panicked`](ErrorKind::Panicked), [`Cancelled`](ErrorKind::Cancelled). After an error the name is unchanged, unless only
    /// making it durable failed.
    pub fn write_to(self, path: impl AsRef<Path>) -> Result<MmapArray<S::Item, S::Dim, ReadOnly>> {
        let (job, mut progress) = self.into_job()?;
        let options = ArrayOptions::new().shape(job.stage.shape());
        let new = NewFile {
            operation: "write_to",
            options: &options,
            place: Place::Named(path.as_ref(), Existing::Replace),
            access: AccessMode::ReadOnly,
            filled_by: FilledBy::Stream,
        };
        let draft = new.draft::<S::Item, S::Dim>()?;
        let failed = |error| draft.failed("to write the new file", error);
        let sink = Sink::behind_header(draft.file(), draft.header(), draft.data_bytes(), job.transfer);
        let sink = sink.map_err(failed)?;
        job.pump(&sink, &mut progress, &failed)?;
        sink.finish().map_err(failed)?;
        publish(&options, draft)
    }

    /// Writes the rows into an array of the same shape and type: a mapped one, or any other.
    ///
    /// What goes to a contiguous [`MmapArray`] in C order is written to its file, at the speed of the disk, and is durable
    /// on return; the array sees it. Any other destination is assigned to, and what is mapped of it written back and
    /// evicted behind.
    ///
    /// # Errors
    /// What was wrong with the calls that made this stream; [`ShapeMismatch`](ErrorKind::ShapeMismatch);
    /// [`Overlap`](ErrorKind::Overlap) if source and destination share bytes of a file;
    /// [`StorageFull`](ErrorKind::StorageFull) and what else the file system says;
    /// [`LengthMismatch`](ErrorKind::LengthMismatch) if the source is cut short meanwhile;
    /// [`Panicked`](ErrorKind::Panicked), [`Cancelled`](ErrorKind::Cancelled). The destination holds some of the rows then.
    ///
    /// # Panics
    /// If the destination is an [`MmapArray`] that was closed by its path.
    pub fn copy_into(self, destination: &mut ArrayRef<S::Item, S::Dim>) -> Result<()> {
        let (mut job, mut progress) = self.into_job()?;
        let shape = job.stage.shape();
        if shape.slice() != destination.shape() {
            let (expected, found) =
                (format!("shape {:?}", shape.slice()), format!("shape {:?}", destination.shape()));
            return Err(Error::new(ErrorKind::ShapeMismatch, "copy_into", expected, found));
        }
        let mut view = destination.view_mut().reversed_axes();
        if view.is_standard_layout() && job.stage.reverse_axes() {
            // Fortran order, and no function that wants rows: it is C order with the axes the other way round.
            progress.count_in(job.rows());
        } else {
            view = view.reversed_axes();
        }
        job.copy_into(view, &mut progress)
    }
}

impl<S: Stage> Job<S> {
    fn copy_into(
        &self,
        destination: ArrayViewMut<'_, S::Item, S::Dim>,
        progress: &mut Progress<'_>,
    ) -> Result<()> {
        let placed =
            Placed::find(&destination).filter(|placed| placed.mapping.access() == AccessMode::ReadWrite);
        let Some(mapping) = placed.map(|placed| placed.mapping) else {
            return self.assign_rows(progress, destination, None);
        };
        mapping.check_usable("copy_into")?;
        let bytes = mapping.place_of(&destination);
        self.check_apart(&mapping, &bytes)?;
        match destination.is_standard_layout() {
            true => self.write_part(progress, &mapping, bytes),
            false => self.assign_rows(progress, destination, Some(&mapping)),
        }
    }

    /// An error if any part of the destination's file that is written is also read.
    fn check_apart(&self, mapping: &Arc<Mapping>, bytes: &Range<u64>) -> Result<()> {
        let mut shared = None;
        self.stage.reads(&mut |reader, read| {
            let apart = read.end <= bytes.start || bytes.end <= read.start;
            // Within one mapping, Rust's own borrow rules keep elements apart, though they may interlock.
            let same_memory = Arc::ptr_eq(reader.mapping(), mapping);
            if reader.mapping().id() == mapping.id() && !apart && !same_memory {
                shared = Some(read);
            }
        });
        let Some(read) = shared else { return Ok(()) };
        let expected = format!("a source apart from bytes {}..{} of this file", bytes.start, bytes.end);
        let found = format!("one on bytes {}..{}", read.start, read.end);
        Err(Error::new(ErrorKind::Overlap, "copy_into", expected, found)
            .at(mapping.path())
            .or_else_try("`write_to` a new file"))
    }

    /// Writes to the part of its file that a mapped array lies in.
    fn write_part(
        &self,
        progress: &mut Progress<'_>,
        mapping: &Arc<Mapping>,
        bytes: Range<u64>,
    ) -> Result<()> {
        let failed = |error| mapping.fail_transfer(error);
        let sink = Sink::part(mapping.file(), bytes.clone(), self.transfer);
        mapping.release(&bytes);
        self.pump(&sink, progress, &failed)?;
        sink.finish().map_err(failed)?;
        mapping.sync_transfer()
    }

    /// Moves all rows to the sink, several blocks at a time.
    fn pump(
        &self,
        sink: &Sink<'_>,
        progress: &mut Progress<'_>,
        failed: &(dyn Fn(io::Error) -> Error + Sync),
    ) -> Result<()> {
        let shape = self.stage.shape();
        let rows = rows_of(&shape);
        let row_bytes = row_bytes_of::<S::Item, S::Dim>(&shape);
        if rows == 0 || row_bytes == 0 {
            return progress.report(rows);
        }
        if let Some(whole) = self.stage.whole() {
            let threads = self.threads_or(probe::THREADS);
            if copy_whole(&whole, sink, self.budget, threads, progress, failed)? {
                return Ok(());
            }
        }
        let plan = self.plan(row_bytes, self.threads_or(probe::threads()));
        workers::run(plan.blocks, plan.threads, progress, |state: &mut BlockState<S>, block| {
            let rows = plan.rows_of_block(block, rows);
            let start = sink.start() + (rows.start * row_bytes) as u64;
            let bytes = start..start + (rows.len() * row_bytes) as u64;
            let buffer = state.fill(&self.stage, &shape, rows.clone(), &bytes)?;
            sink.write(buffer, &bytes).map_err(failed)?;
            Ok(rows.len())
        })
    }

    /// Assigns the rows, block by block, in order.
    fn assign_rows(
        &self,
        progress: &mut Progress<'_>,
        mut destination: ArrayViewMut<'_, S::Item, S::Dim>,
        mapped: Option<&Mapping>,
    ) -> Result<()> {
        self.for_each_block(progress, &mut |rows, block| {
            let mut part = destination.view_mut();
            if part.ndim() > 0 {
                part.slice_axis_inplace(Axis(0), row_slice(&rows));
            }
            let Some(mapping) = mapped.filter(|_| !part.is_empty()) else {
                part.assign(&block);
                return Ok(());
            };
            mapping.reserve_under(&part)?;
            part.assign(&block);
            let bytes = mapping.place_of(&part);
            mapping.wait_behind(&bytes)?;
            mapping.drop_behind(&bytes);
            Ok(())
        })?;
        mapped.map_or(Ok(()), |mapping| mapping.sync_transfer())
    }
}

/// What a thread needs to make a block: what the steps need, and the block as it will be written.
#[derive(Debug)]
struct BlockState<S: Stage> {
    steps: S::State,
    block: Option<AlignedBuf>,
}

impl<S: Stage> Default for BlockState<S> {
    fn default() -> Self {
        Self { steps: S::State::default(), block: None }
    }
}

impl<S: Stage> BlockState<S> {
    /// The rows, where they belong in the pages that will hold these bytes of the file.
    fn fill(
        &mut self,
        stage: &S,
        shape: &S::Dim,
        rows: Range<usize>,
        bytes: &Range<u64>,
    ) -> Result<&mut AlignedBuf> {
        let pages = to_pages(bytes.clone(), page_bytes());
        let lead = (bytes.start - pages.start) as usize;
        let shape = with_rows(shape, rows.len());
        let buffer = grow(&mut self.block, (pages.end - pages.start) as usize)?;
        let out = view_of_mut(items_mut(buffer, lead, shape.size()), shape);
        stage.fill(&mut self.steps, rows, out)?;
        Ok(buffer)
    }
}
