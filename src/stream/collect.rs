//! Results in memory: [`Stream::to_array`] and [`Stream::shape`].

use super::blocks::Block;
use super::pipeline::Stream;
use super::stage::{Stage, check_elements};
use super::workers;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::lock;
use bytemuck::allocation::try_zeroed_vec;
use ndarray::{Array, Axis, Dimension};
use std::sync::Mutex;

impl<S: Stage> Stream<'_, S> {
    /// Returns the shape of the array that contains all rows of the stream. Axis 0 counts the rows.
    ///
    /// This method reads nothing. If an earlier call was not valid, the shape has no meaning, and the call that ends the
    /// stream returns the error.
    ///
    /// ```
    /// use ndarray::{Axis, Ix3};
    /// use ndarray_mmap::{MmapArray, stream::Stream};
    ///
    /// let trajectory = MmapArray::<f32, Ix3>::scratch((1000, 20, 3))?;
    /// let stream = Stream::from(&trajectory).rows(100..).select(Axis(1), &[0, 4, 5]);
    /// assert_eq!(stream.shape(), [900, 3, 3]);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn shape(&self) -> S::Dim {
        self.stage.shape()
    }

    /// Returns all rows as an array in memory, in standard layout (C order).
    ///
    /// The array itself is not part of the [budget](Self::budget): it needs as many bytes as its elements.
    /// Rows in holes of the source need no memory before they are used.
    ///
    /// ```
    /// use ndarray::{Ix2, array, s};
    /// use ndarray_mmap::{MmapArray, stream::Stream};
    ///
    /// let mut table = MmapArray::<f32, Ix2>::scratch((1000, 2))?;
    /// table.column_mut(1).fill(1.5);
    /// let two_rows = Stream::from(&table).rows(s![..;500]).cast::<f64>().to_array()?;
    /// assert_eq!(two_rows, array![[0.0, 1.5], [0.0, 1.5]]);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`fold`](Self::fold); [`OutOfMemory`](ErrorKind::OutOfMemory) if there is not enough memory for the array.
    #[allow(clippy::missing_panics_doc, reason = "each block is taken once, and has the shape of its rows")]
    pub fn to_array(self) -> Result<Array<S::Item, S::Dim>> {
        self.run("to_array", None, |job, progress| {
            let shape = job.stage.shape();
            check_elements::<S::Item, S::Dim>(&shape)?;
            let items = try_zeroed_vec(shape.size()).map_err(|()| {
                let expected = format!("memory for an array of shape {:?}", shape.slice());
                Error::new(ErrorKind::OutOfMemory, "stream", expected, "not enough memory")
                    .with_remedy("select fewer rows, or write the rows to a file by `write_to`")
            })?;
            let mut array = Array::from_shape_vec(shape, items).expect("as many items as the shape has");
            let plan = job.plan(0, job.threads_to_read());
            let blocks = job.blocks(&plan)?;
            let chunks: Vec<_> = match (array.ndim(), job.rows()) {
                (0, _) => vec![Mutex::new(Some(array.view_mut()))],
                (_, 0) => Vec::new(),
                _ => {
                    let chunks = array.axis_chunks_iter_mut(Axis(0), plan.block_rows);
                    chunks.map(|chunk| Mutex::new(Some(chunk))).collect()
                }
            };
            workers::run(blocks.count(), plan.threads, progress, |state: &mut S::State, block| {
                let rows = match blocks.get(block) {
                    Block::Data(rows) => rows,
                    Block::Hole(rows) => return Ok(rows.len()), // the array is already zero
                };
                let chunk = &chunks[rows.start / plan.block_rows];
                let out = lock(chunk).take().expect("each block is processed once");
                job.stage.fill(state, rows.clone(), out)?;
                Ok(rows.len())
            })?;
            drop(chunks);
            Ok(array)
        })
    }
}
