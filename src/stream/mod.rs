//! Streams: copying, transforming and reducing arrays larger than memory, at the speed of the disk.
//!
//! A [`Stream`] takes the rows of an array, selects and changes them, and writes them to a file, copies them into
//! another array, returns them in memory, or reduces them to a value. It reads and writes files directly, not through
//! mapped memory, and bypasses the page cache for pages that are not resident. So the memory of a stream stays within
//! the [`Budget`] for files of any size, and a failed read or write of the disk is reported as an
//! [`Error`](crate::Error), not as a signal. Only reductions read resident rows through the mapping, because that is
//! faster. They use the handler of the [fault guard](crate::fault) meanwhile.
//!
//! ```
//! use ndarray::{Axis, Ix3};
//! use ndarray_mmap::{MmapArray, stream::Stream};
//!
//! # let folder = tempfile::tempdir()?;
//! # let (path, out) = (folder.path().join("traj.npy"), folder.path().join("nm.npy"));
//! # MmapArray::<f32, Ix3>::create(&path, (100, 20, 3))?.fill(12.5);
//! let trajectory = MmapArray::<f32, Ix3>::open(&path)?;
//! let backbone = [0, 4, 5, 9];
//! let written = Stream::from(&trajectory)
//!     .rows(10..)
//!     .select(Axis(1), &backbone)
//!     .map(|chunk, mut out| out.assign(&(&chunk / 10.0)))
//!     .cast::<f64>()
//!     .write_to(&out)?; // the file appears under its name when it is complete and durable
//! assert_eq!(written.shape(), [90, 4, 3]);
//! assert_eq!(Stream::from(&written).mean()?, 1.25);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How bytes are read and written
//!
//! - A source in a file is read in blocks of 2 MiB. Resident parts are read from the page cache. All other parts are
//!   read by direct I/O (`O_DIRECT`), which does not change the page cache.
//! - Listed rows are read in batches, sorted by their offset in the file.
//! - The changed pages of a [copy-on-write](crate::CopyOnWrite) array are read from memory, and all other pages from
//!   the file.
//! - An axis that repeats one index, for example a broadcast axis, is read from the file once for each block of rows.
//! - A new file is written by direct I/O. A destination array is written by direct I/O, too, except for its first and
//!   last pages: another array may store into the other bytes of these pages meanwhile. These pages are written through
//!   the page cache.
//! - Holes of a source are not read: their rows are zero. Reductions add such rows once for all, so the time of a
//!   reduction or of a copy depends on the data, not on the length of the file. [`write_to`](Stream::write_to) keeps holes,
//!   and [`copy_into`](Stream::copy_into) stores zeros in the place of data. A function gets all rows, also those of holes.
//! - If all rows of a file are written unchanged to a new file, and the filesystem supports it (XFS, btrfs), both files
//!   share their disk space: see [`Transfer`].
//! - If a filesystem has no direct I/O, the stream uses the page cache. It writes pages back and drops them from the
//!   page cache soon after it has used them, by `RWF_DONTCACHE` if the kernel supports this flag.
//!
//! Reading, processing and writing overlap on a few threads. [`Transfer`] overrides the choice between direct I/O and the
//! page cache.
//!
//! The rows of an array in Fortran order are interleaved in its file, so each block of rows reads the whole file. Unless
//! source and destination both have Fortran order, give such a stream a large budget.
//!
//! # Steps
//!
//! Steps can follow each other in any order. [`rows`](Stream::rows), [`select_rows`](Stream::select_rows) and
//! [`select`](Stream::select) are pushed down to the source, also behind [`cast`](Stream::cast), [`zip`](Stream::zip) and
//! [`concat`](fn@concat): only selected elements are read. Behind a function such as [`map`](Stream::map), a selection of
//! rows is pushed down as well, because each new row is computed from one row. The function is then called only for the
//! selected rows. A [`select`](Stream::select) of another axis behind a function applies to the output of the function.
//!
//! # Chunks
//!
//! A function that is passed to [`map`](Stream::map), [`try_map`](Stream::try_map), [`map_rows`](Stream::map_rows),
//! [`fold`](Stream::fold) or [`try_fold`](Stream::try_fold) gets one chunk of rows at a time. A function that is passed to
//! [`map_each`](Stream::map_each) or [`for_each_row`](Stream::for_each_row) gets one row at a time. After
//! [`zip`](Stream::zip), these functions get a pair of chunks or a pair of rows.
//!
//! Every chunk, every row and every output array is in standard layout (contiguous, in C order), whatever the layout of
//! the source and of the destination, and whatever was selected. Rows with another layout in memory or in the file are
//! copied first.
//!
//! # Threads
//!
//! Functions may use rayon, and run streams themselves, to any depth. On a worker of a rayon pool, a stream that calls
//! your functions runs on the calling thread alone, so that no worker waits for a thread that may itself need a worker.
//! This requires the feature `rayon`: without it, use [`threads(1)`](Stream::threads) inside a pool.
//!
//! # Durability
//!
//! When [`write_to`](Stream::write_to) returns `Ok`, the contents and the name of the file are durable. Until then, the
//! name does not exist or still leads to the old file: a pipeline that fails, or is killed or cancelled, never leaves a
//! partial result. When [`copy_into`](Stream::copy_into) returns `Ok`, the rows that it wrote to a mapped array are
//! durable. After an error, the destination contains some of the new rows.

mod blocks;
mod boxed;
mod budget;
mod cast;
mod chunk_loop;
mod chunked;
mod chunks;
mod collect;
mod columns;
mod concat;
mod copy;
mod fold;
mod in_order;
mod indices;
#[cfg(test)]
mod injected;
mod job;
mod layout;
mod map;
mod output;
mod picked;
mod pipeline;
mod reader;
mod reduce;
mod rows;
mod select;
mod selections;
mod source;
mod stage;
mod threads;
mod workers;
mod write;
mod zip;

pub use self::boxed::Boxed;
pub use self::budget::Budget;
pub use self::cast::Cast;
pub use self::chunked::{Outcome, Rows};
pub use self::chunks::{RowChunks, RowChunksMut};
pub use self::columns::ColumnChunks;
pub use self::concat::{Concat, Part, concat};
pub use self::copy::copy;
pub use self::indices::Indices;
pub use self::map::Map;
pub use self::pipeline::{ProgressResult, Stream};
pub use self::reduce::Stats;
pub use self::rows::RowRange;
pub use self::source::Source;
pub use self::stage::{Element, Stage};
pub use self::zip::Zip;
pub use crate::io::Transfer;
