//! [`content_hash`]: the hash of the elements of an array.

use crate::element::Dtype;
use crate::error::Result;
use crate::stream::{Stage, Stream};
use bytemuck::Pod;
use ndarray::{ArrayView, Dimension};
use std::fmt;

/// The hash of an array: see [`content_hash`]. Its text is 64 hexadecimal digits.
///
/// ```
/// use ndarray_mmap::reuse::content_hash;
///
/// let hash = content_hash(&ndarray::array![1.0, 2.0])?;
/// assert_eq!((hash.as_bytes().len(), hash.to_string().len()), (32, 64));
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// Returns the bytes of the hash.
    ///
    /// ```
    /// let hash = ndarray_mmap::reuse::content_hash(&ndarray::array![1_u8])?;
    /// assert!(hash.to_string().starts_with(&format!("{:02x}", hash.as_bytes()[0])));
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Returns the blake3 hash of the elements, the shape and the element type of an array or of a stream.
///
/// The elements are hashed in C order of their indices. So the hash does not depend on the order in memory or in the
/// file, on the format, on the budget, or on the number of threads. An array in memory and a file have the same hash if
/// they are equal. Shape and element type are part of the hash: the same bytes in another shape have another hash.
/// Elements are compared by their bytes: `0.0` and `-0.0` have different hashes, and so have different NaN. Machines
/// with another byte order compute other hashes.
///
/// The rows are read as a stream: in bounded memory, and without filling the page cache.
///
/// ```
/// use ndarray::{Ix2, ShapeBuilder};
/// use ndarray_mmap::{ArrayOptions, MmapArray, reuse::content_hash};
///
/// let rows = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
/// let columns = ArrayOptions::new().shape((1000, 3).f()).scratch::<f32, Ix2>()?;
/// assert_eq!(content_hash(&rows)?, content_hash(&columns)?);
/// assert_ne!(content_hash(&rows)?, content_hash(&MmapArray::<f32, Ix2>::scratch((3, 1000))?)?);
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
///
/// # Errors
/// The errors of [`Stream::fold`].
pub fn content_hash<'a, S: Stage>(array: impl Into<Stream<'a, S>>) -> Result<ContentHash> {
    let stream = array.into();
    let mut hasher = blake3::Hasher::new_derive_key("ndarray-mmap content 1");
    // A type without a dtype is described by its size.
    let descr = Dtype::of::<S::Item>()
        .map_or_else(|| format!("V{}", size_of::<S::Item>()), |dtype| dtype.descr().to_owned());
    let shape = stream.shape();
    for number in [descr.len(), shape.ndim()].into_iter().chain(shape.slice().iter().copied()) {
        hasher.update(&(number as u64).to_le_bytes());
    }
    hasher.update(descr.as_bytes());
    let hashed = stream.fold(hasher, |mut hasher, chunk| {
        hasher.update(bytes_of(&chunk));
        hasher
    });
    hashed
        .map(|hasher| ContentHash(*hasher.finalize().as_bytes()))
        .map_err(|error| error.during("content_hash"))
}

/// Returns the bytes of a chunk in standard layout.
fn bytes_of<'c, T: Pod, D: Dimension>(chunk: &'c ArrayView<'_, T, D>) -> &'c [u8] {
    match size_of::<T>() {
        0 => &[],
        _ => bytemuck::cast_slice(chunk.as_slice().expect("functions see chunks in standard layout")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Budget;
    use ndarray::{Array, Array3, ArrayD, IxDyn, ShapeBuilder, arr0};

    #[test]
    fn the_hash_depends_on_values_shape_and_type_only() {
        let values = Array3::from_shape_fn((70, 5, 3), |(a, b, c)| (a * 100 + b * 10 + c) as f32);
        let expected = content_hash(&values).unwrap();
        for rows in [1, 7, 1000] {
            let stream = Stream::from(&values).budget(Budget::chunk_rows(rows));
            assert_eq!(content_hash(stream).unwrap(), expected, "{rows} rows");
        }
        let mut columns = Array3::zeros((70, 5, 3).f());
        columns.assign(&values);
        assert_eq!(content_hash(&columns).unwrap(), expected);
        let reversed = values.slice(ndarray::s![..;-1, .., ..]);
        assert_ne!(content_hash(reversed).unwrap(), expected);
        let mut changed = values.clone();
        changed[[69, 4, 2]] = 0.0;
        assert_ne!(content_hash(&changed).unwrap(), expected);
        assert_ne!(
            content_hash(&values.mapv(f32::to_bits)).unwrap(),
            expected,
            "another type, the same bytes"
        );
    }

    #[test]
    fn every_shape_has_its_own_hash() {
        let shapes: [&[usize]; 8] = [&[], &[0], &[0, 3], &[3, 0], &[1], &[1, 1], &[2, 3], &[3, 2]];
        let hashes: Vec<_> =
            shapes.map(|shape| content_hash(&ArrayD::<u8>::zeros(IxDyn(shape))).unwrap()).into();
        for (index, hash) in hashes.iter().enumerate() {
            assert!(!hashes[..index].contains(hash), "{:?}", shapes[index]);
        }
        assert_ne!(content_hash(&arr0(1_u8)).unwrap(), hashes[0]);
        assert_eq!(content_hash(&Array::from_elem((), 0_u8)).unwrap(), hashes[0]);
        let (plain, pairs) = (Array::zeros(4), Array::from_elem(4, [0_u8; 2]));
        assert_ne!(content_hash(&pairs).unwrap(), content_hash(&plain.mapv(|_: f32| 0_u16)).unwrap());
    }
}
