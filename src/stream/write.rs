//! The methods that end a pipeline by writing its rows to a new file or into an array.

use super::blocks::Block;
use super::copy::copy_whole;
use super::job::Job;
use super::output::Output;
use super::pipeline::Stream;
use super::stage::{Stage, assign, items_mut, row_bytes_of, row_slice, rows_of, view_of_mut, with_rows};
use super::threads;
use super::workers::{self, Progress};
use crate::access::{AccessMode, ReadOnly};
use crate::array::{MmapArray, Placed, create_unpublished, publish};
use crate::error::{Error, ErrorKind, Result};
use crate::fault;
use crate::file::{ArrayOptions, Existing, FilledBy, NewFile, Place};
use crate::geometry::to_pages;
use crate::io::grow;
use crate::map::{Mapping, Patience};
use crate::sys::{AlignedBuf, page_bytes};
use ndarray::{ArrayRef, ArrayViewMut, Axis, Dimension};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

impl<S: Stage> Stream<'_, S> {
    /// Writes the rows to a file in C order, replaces any file of that name, and opens the new file.
    ///
    /// The file is NPY if its name ends in `.npy`, otherwise raw. On return, data and name are durable. Until then the
    /// name does not exist, or leads to the old file. A process that has opened the old file continues to use the old
    /// file. As in [`create`](ArrayOptions::create), this process's arrays on the path are closed. They are closed
    /// after all rows are written, so the stream may read from these arrays. Missing parent directories are created
    /// first, and stay if the stream fails.
    ///
    /// Disk space is reserved before the first row is written. Holes of the source that are copied, selected or cast
    /// stay holes in the new file. If the stream copies a whole file, the new file can share its disk space: see
    /// [`Transfer`](super::Transfer).
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
    /// - An error of the calls that created this stream, or of [`create`](ArrayOptions::create).
    /// - [`LengthMismatch`](ErrorKind::LengthMismatch) if the file of the source or of the destination was truncated.
    /// - [`Panicked`](ErrorKind::Panicked), [`Cancelled`](ErrorKind::Cancelled).
    ///
    /// After an error, the name leads to the old file or to no file. There is one exception: if the new file is
    /// complete but its name cannot be made durable, the name leads to the new file.
    pub fn write_to(self, path: impl AsRef<Path>) -> Result<MmapArray<S::Item, S::Dim, ReadOnly>> {
        self.write_as("write_to", &ArrayOptions::new(), path.as_ref())
    }

    /// Writes the rows to a file as [`write_to`](Self::write_to) does, with options: format, offset, order, locks, and
    /// when the file gets its disk space.
    ///
    /// Without a shape in the options, the file is in C order. For Fortran order, give the shape of the stream with
    /// `.f()`. Writing Fortran order is as fast as C order if the source is in Fortran order and no step needs whole
    /// rows. Otherwise each block of rows is scattered over the file.
    ///
    /// With [`Allocation::Sparse`](crate::Allocation::Sparse), the stream reserves no disk space before it writes.
    /// Without it, a file in Fortran order gets the disk space of all its rows at the start, also in the place of holes.
    ///
    /// ```
    /// use ndarray::{Ix2, ShapeBuilder};
    /// use ndarray_mmap::{ArrayOptions, Format, MmapArray, stream::Stream};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let mut table = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
    /// table.column_mut(2).fill(1.0);
    /// let options = ArrayOptions::new().format(Format::Raw).shape((500, 3).f());
    /// let columns = Stream::from(&table).rows(..500).write_with(&options, folder.path().join("columns.dat"))?;
    /// assert_eq!((columns.strides(), columns.sum()), (&[1, 500][..], 500.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`write_to`](Self::write_to), and [`ShapeMismatch`](ErrorKind::ShapeMismatch) if the options contain
    /// another shape than that of the stream.
    pub fn write_with(
        self,
        options: &ArrayOptions,
        path: impl AsRef<Path>,
    ) -> Result<MmapArray<S::Item, S::Dim, ReadOnly>> {
        self.write_as("write_with", options, path.as_ref())
    }

    /// Writes the rows to a new file. `operation` is the function that the user called.
    fn write_as(
        self,
        operation: &'static str,
        options: &ArrayOptions,
        path: &Path,
    ) -> Result<MmapArray<S::Item, S::Dim, ReadOnly>> {
        self.run(operation, Some(path), |job, progress| {
            let options = options.for_shape(job.stage.shape().slice())?;
            let place = Place::Named(path, Existing::Replace);
            if options.is_fortran() {
                let mut array = create_unpublished::<S::Item, S::Dim>(operation, &options, place)?;
                job.copy_rows(&mut array, progress)?;
                return array.into_read_only();
            }
            let (access, filled_by) = (AccessMode::ReadOnly, FilledBy::Stream);
            let new = NewFile { operation, options: &options, place, access, filled_by };
            let draft = new.draft::<S::Item, S::Dim>()?;
            let output = Output::new_file(&draft, job.transfer)?;
            job.write_rows(&output, progress)?;
            output.finish()?;
            publish(&options, draft)
        })
    }

    /// Writes the rows into an array of the same shape and type: a mapped array, or any other array.
    ///
    /// A contiguous [`MmapArray`] in C order is written through its file, at the speed of the disk. The rows are
    /// durable on return, and the array contains them. Where the source has holes, the array's data is replaced by
    /// zeros, and the array's holes stay holes. The elements of any other destination are assigned. If such a
    /// destination is mapped, its finished rows are written back and evicted.
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
    /// - An error of the calls that created this stream.
    /// - [`ShapeMismatch`](ErrorKind::ShapeMismatch) if the shapes differ.
    /// - [`Overlap`](ErrorKind::Overlap) if source and destination share bytes of a file.
    /// - [`StorageFull`](ErrorKind::StorageFull), or another error that the file system reports.
    /// - [`LengthMismatch`](ErrorKind::LengthMismatch) if the file of the source or of the destination was truncated.
    /// - [`Panicked`](ErrorKind::Panicked), [`Cancelled`](ErrorKind::Cancelled).
    ///
    /// After an error, the destination contains some of the rows.
    ///
    /// # Panics
    /// If the destination is an [`MmapArray`] that was closed by its path.
    pub fn copy_into(self, destination: &mut ArrayRef<S::Item, S::Dim>) -> Result<()> {
        self.copy_as("copy_into", destination)
    }

    /// Copies the rows into an array. `operation` is the function that the user called.
    pub(super) fn copy_as(
        self,
        operation: &'static str,
        destination: &mut ArrayRef<S::Item, S::Dim>,
    ) -> Result<()> {
        let placed = Placed::find(destination);
        let path = placed.as_ref().map(|placed| placed.mapping.path());
        self.run(operation, path, |job, progress| job.copy_rows(destination, progress))
    }
}

impl<S: Stage> Job<S> {
    fn copy_rows(
        &mut self,
        destination: &mut ArrayRef<S::Item, S::Dim>,
        progress: &mut Progress<'_>,
    ) -> Result<()> {
        let shape = self.stage.shape();
        if shape.slice() != destination.shape() {
            let expected = format!("a destination of shape {:?}", shape.slice());
            let found = format!("one of shape {:?}", destination.shape());
            return Err(Error::new(ErrorKind::ShapeMismatch, "stream", expected, found)
                .with_remedy("slice the destination, or select other rows"));
        }
        let is_in_c_order = destination.is_standard_layout();
        let mut view = destination.view_mut().reversed_axes();
        // An array with one long axis is in both orders. The order with more rows allows smaller blocks.
        let has_better_rows = !is_in_c_order || rows_of(&view.raw_dim()) > self.rows();
        if view.is_standard_layout() && has_better_rows && self.stage.reverse_axes() {
            // The destination is in Fortran order, and no step needs whole rows. So the axes of both arrays are
            // reversed, which makes the destination an array in C order.
            progress.count_in(self.rows());
        } else {
            view = view.reversed_axes();
        }
        self.copy_into(view, progress)
    }

    fn copy_into(
        &self,
        destination: ArrayViewMut<'_, S::Item, S::Dim>,
        progress: &mut Progress<'_>,
    ) -> Result<()> {
        let placed = Placed::find(&destination);
        if let Some(placed) = &placed {
            placed.mapping.check_usable("stream")?;
        }
        let Some(Placed { mapping, runs }) = placed.filter(Placed::has_bytes) else {
            return self.assign_rows(progress, destination, None);
        };
        let bytes = mapping.hull_in_file(&runs);
        self.check_no_overlap(&mapping, &bytes)?;
        match reaches_file(&mapping) && destination.is_standard_layout() {
            true => self.write_part(progress, &mapping, bytes),
            false => self.assign_rows(progress, destination, Some(&mapping)),
        }
    }

    /// Returns an error if the stream reads a byte of the destination's file that it also writes.
    fn check_no_overlap(&self, mapping: &Arc<Mapping>, bytes: &Range<u64>) -> Result<()> {
        let mut shared = None;
        self.stage.reads(&mut |reader, read| {
            let apart = read.end <= bytes.start || bytes.end <= read.start;
            // Source and destination in the same mapping do not overlap, because Rust's borrow rules forbid it. Their
            // elements may alternate in the file, so their ranges are not compared.
            let same_memory = Arc::ptr_eq(reader.mapping(), mapping);
            if reader.mapping().id() == mapping.id() && !apart && !same_memory {
                shared = Some(read);
            }
        });
        let Some(read) = shared else { return Ok(()) };
        let expected = format!("a source outside bytes {}..{} of this file", bytes.start, bytes.end);
        let found = format!("one on bytes {}..{}", read.start, read.end);
        Err(Error::new(ErrorKind::Overlap, "stream", expected, found)
            .at(mapping.path())
            .with_remedy("`write_to` a new file"))
    }

    /// Writes to the contiguous part of a file that a mapped array covers.
    fn write_part(
        &self,
        progress: &mut Progress<'_>,
        mapping: &Arc<Mapping>,
        bytes: Range<u64>,
    ) -> Result<()> {
        let output = Output::array(mapping, bytes.clone(), self.transfer);
        mapping.release(&bytes);
        self.write_rows(&output, progress)?;
        output.finish()?;
        mapping.sync_transfer()
    }

    /// Writes all rows to the output. Several threads process blocks at the same time.
    pub(super) fn write_rows(&self, output: &Output<'_>, progress: &mut Progress<'_>) -> Result<()> {
        let shape = self.stage.shape();
        let rows = rows_of(&shape);
        let row_bytes = row_bytes_of::<S::Item, S::Dim>(&shape);
        if rows == 0 || row_bytes == 0 {
            return progress.report(rows);
        }
        if let Some(whole) = self.stage.whole() {
            let threads = self.threads_or(threads::THREADS);
            if copy_whole(&whole, output, self.budget, threads, progress)? {
                return Ok(());
            }
        }
        let plan = self.plan(row_bytes, self.threads_or(threads::threads()));
        let blocks = self.blocks(&plan)?;
        let bytes_of = |rows: &Range<usize>| {
            let start = output.start() + (rows.start * row_bytes) as u64;
            start..start + (rows.len() * row_bytes) as u64
        };
        blocks.data().try_for_each(|rows| output.reserve(bytes_of(&rows)))?;
        workers::run(blocks.count(), plan.threads, progress, |state: &mut BlockState<S>, block| match blocks
            .get(block)
        {
            Block::Hole(rows) => {
                output.write_zeros(&bytes_of(&rows))?;
                Ok(rows.len())
            }
            Block::Data(rows) => {
                let bytes = bytes_of(&rows);
                let buffer = state.fill(&self.stage, &shape, rows.clone(), &bytes)?;
                output.write(buffer, &bytes)?;
                Ok(rows.len())
            }
        })
    }

    /// Assigns the rows, block by block, in order. `mapped` is the mapping that contains the destination.
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
                assign(&block, part);
                return Ok(());
            };
            let lease = mapping.lease("stream")?;
            if reaches_file(mapping) {
                mapping.reserve_under(&part)?;
            }
            // On a full disk a store can still fault: the filesystem may have no space for its own metadata.
            fault::handling_faults(|| assign(&block, part.view_mut()));
            lease.check_usable()?;
            let bytes = mapping.place_of(&part);
            mapping.evict(std::iter::once(bytes), Patience::None)
        })?;
        mapped.filter(|mapping| reaches_file(mapping)).map_or(Ok(()), Mapping::sync_transfer)
    }
}

/// Returns whether stores through a mapping reach its file. Stores through a copy-on-write mapping do not.
fn reaches_file(mapping: &Mapping) -> bool {
    mapping.access() == AccessMode::ReadWrite
}

/// The buffers that a thread needs to produce a block: the buffers of the steps, and a buffer for the block as it is
/// written.
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
    /// Computes the rows, and returns the buffer that contains them. The rows have the same offset in the buffer that
    /// `bytes` have in their pages of the file.
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
