//! The ends of a pipeline that write: to a new file, or into an array.

use super::copy::copy_whole;
use super::job::Job;
use super::sink::Sink;
use super::stage::{Stage, grow, items_mut, row_bytes_of, row_slice, rows_of, view_of_mut, with_rows};
use super::workers::{self, Progress};
use super::{Stream, probe};
use crate::access::{AccessMode, ReadOnly};
use crate::array::{ArrayOptions, MmapArray, NewFile, Placed};
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::to_pages;
use crate::map::Mapping;
use crate::path::{Existing, Staged, prepare_path};
use crate::sys::{self, AlignedBuf, page_bytes};
use ndarray::{ArrayRef, ArrayViewMut, Axis, Dimension};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

impl<S: Stage> Stream<'_, S> {
    /// Writes the rows to a file in C order, in the place of any file of that name, and opens it.
    ///
    /// The file is NPY if its name ends in `.npy`, else raw. On return, data and name are on disk; until then the name does
    /// not exist, or is still that of the file that had it, which whoever has it open keeps. Missing parent directories
    /// are created first, and stay if the stream fails.
    ///
    /// ```
    /// use ndarray::Ix2;
    /// use ndarray_mmap::{MmapArray, stream::Stream};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let table = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
    /// let path = folder.path().join("halves.npy");
    /// let halves = Stream::from(&table).rows(..500).write_to(&path)?; // opened for reading
    /// assert_eq!((halves.shape(), path.exists()), (&[500, 3][..], true));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// What was wrong with the calls that made this stream; [`StorageFull`](ErrorKind::StorageFull) and what else the
    /// file system says; [`LengthMismatch`](ErrorKind::LengthMismatch) if the source is cut short meanwhile;
    /// [`Panicked`](ErrorKind::Panicked), [`Cancelled`](ErrorKind::Cancelled). Nothing is published then, unless the name
    /// was there already and could only not be made durable.
    pub fn write_to(self, path: impl AsRef<Path>) -> Result<MmapArray<S::Item, S::Dim, ReadOnly>> {
        let path = path.as_ref();
        let (job, mut progress) = self.into_job()?;
        let options = ArrayOptions::new().shape(job.stage.shape());
        let plan = NewFile::replacing(&options, path)
            .plan::<S::Item, S::Dim>()
            .map_err(|error| error.during("write_to").at(path))?;
        let path = prepare_path(path, true)?;
        let failed = |error| Error::io("write_to", "to write the new file", error).at(&path);
        let staged = Staged::new(&path)?;
        reserve(staged.file(), plan.data_bytes().end).map_err(failed)?;
        let sink = Sink::behind_header(staged.file(), plan.header(), plan.data_bytes(), job.transfer)
            .map_err(failed)?;
        job.pump(&sink, &mut progress, &failed)?;
        sink.finish().map_err(failed)?;
        // Before anybody else can find the name: what is handed out is what was written.
        let array = plan.map(&options, staged.shared_file(), path, true)?;
        staged.publish(Existing::Replace)?;
        Ok(array)
    }

    /// Writes the rows into an array of the same shape and type: a mapped one, or any other.
    ///
    /// What goes to a contiguous [`MmapArray`] in C order is written to its file, at the speed of the disk, and is durable
    /// on return; the array sees it. Any other destination is assigned to, and what is mapped of it written back and
    /// evicted behind.
    ///
    /// ```
    /// use ndarray::{Array2, Ix2};
    /// use ndarray_mmap::{MmapArray, stream::Stream};
    ///
    /// let table = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
    /// let mut first_rows = Array2::<f64>::ones((10, 3)); // in memory
    /// Stream::from(&table).rows(..10).cast().copy_into(&mut first_rows)?;
    /// assert_eq!(first_rows.sum(), 0.0);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
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

/// Makes the file as long as it will be, in whole pages, with disk space for all of it where the filesystem can: a disk
/// that is too full is an error now.
fn reserve(file: &File, len: u64) -> io::Result<()> {
    sys::check_file_size_limit(len)?;
    let pages = to_pages(0..len, page_bytes()).end;
    let len = if sys::check_file_size_limit(pages).is_ok() { pages } else { len };
    if len == 0 {
        return Ok(());
    }
    match sys::reserve(file, 0..len) {
        Err(error) if sys::is_unsupported(&error) => sys::fs::set_len(file, len),
        reserved => reserved,
    }
}
