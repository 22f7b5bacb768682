//! Trait implementations that ndarray's own arrays have, too: views, producers, iterators, comparison, `Debug`.

use super::MmapArray;
use crate::access::{Access, Writable};
use crate::element::element_name;
use ndarray::{ArrayBase, ArrayRef, ArrayView, ArrayViewMut, Data, Dimension, IntoNdProducer, iter};
use std::fmt;
use std::ops::Deref;

/// Prints the shape, the element type, the access mode and the path, but never the elements.
impl<T, D: Dimension, A: Access> fmt::Debug for MmapArray<T, D, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MmapArray")
            .field("shape", &self.view.shape())
            .field("dtype", &format_args!("{}", element_name::<T>()))
            .field("access", &A::MODE)
            .field("path", &self.path())
            .field("closed", &self.is_closed())
            .finish()
    }
}

/// Prints the elements as ndarray does, shortened if there are many.
impl<T, D, A: Access> fmt::Display for MmapArray<T, D, A>
where
    ArrayRef<T, D>: fmt::Display,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.deref().fmt(f)
    }
}

impl<T, D, A: Access> AsRef<ArrayRef<T, D>> for MmapArray<T, D, A> {
    fn as_ref(&self) -> &ArrayRef<T, D> {
        self
    }
}

impl<T, D: Dimension, A: Writable> AsMut<ArrayRef<T, D>> for MmapArray<T, D, A> {
    fn as_mut(&mut self) -> &mut ArrayRef<T, D> {
        self
    }
}

/// Makes `&array` an [`AsArray`](ndarray::AsArray).
impl<'a, T, D: Dimension, A: Access> From<&'a MmapArray<T, D, A>> for ArrayView<'a, T, D> {
    fn from(array: &'a MmapArray<T, D, A>) -> Self {
        array.view()
    }
}

impl<'a, T, D: Dimension, A: Writable> From<&'a mut MmapArray<T, D, A>> for ArrayViewMut<'a, T, D> {
    fn from(array: &'a mut MmapArray<T, D, A>) -> Self {
        array.view_mut()
    }
}

/// Lets [`Zip`](ndarray::Zip) and [`azip!`](ndarray::azip) take `&array`.
impl<'a, T, D: Dimension, A: Access> IntoNdProducer for &'a MmapArray<T, D, A> {
    type Item = &'a T;
    type Dim = D;
    type Output = ArrayView<'a, T, D>;

    fn into_producer(self) -> Self::Output {
        self.view()
    }
}

/// Lets [`Zip`](ndarray::Zip) and [`azip!`](ndarray::azip) take `&mut array`.
impl<'a, T, D: Dimension, A: Writable> IntoNdProducer for &'a mut MmapArray<T, D, A> {
    type Item = &'a mut T;
    type Dim = D;
    type Output = ArrayViewMut<'a, T, D>;

    fn into_producer(self) -> Self::Output {
        self.view_mut()
    }
}

impl<'a, T, D: Dimension, A: Access> IntoIterator for &'a MmapArray<T, D, A> {
    type Item = &'a T;
    type IntoIter = iter::Iter<'a, T, D>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, T, D: Dimension, A: Writable> IntoIterator for &'a mut MmapArray<T, D, A> {
    type Item = &'a mut T;
    type IntoIter = iter::IterMut<'a, T, D>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

#[cfg(feature = "rayon")]
impl<'a, T: Sync, D: Dimension, A: Access> rayon::iter::IntoParallelIterator for &'a MmapArray<T, D, A> {
    type Item = &'a T;
    type Iter = ndarray::parallel::Parallel<ArrayView<'a, T, D>>;

    fn into_par_iter(self) -> Self::Iter {
        self.view().into_par_iter()
    }
}

#[cfg(feature = "rayon")]
impl<'a, T: Send + Sync, D: Dimension, A: Writable> rayon::iter::IntoParallelIterator
    for &'a mut MmapArray<T, D, A>
{
    type Item = &'a mut T;
    type Iter = ndarray::parallel::Parallel<ArrayViewMut<'a, T, D>>;

    fn into_par_iter(self) -> Self::Iter {
        self.view_mut().into_par_iter()
    }
}

impl<T, U, D, A: Access, B: Access> PartialEq<MmapArray<U, D, B>> for MmapArray<T, D, A>
where
    ArrayRef<T, D>: PartialEq<ArrayRef<U, D>>,
{
    fn eq(&self, other: &MmapArray<U, D, B>) -> bool {
        **self == **other
    }
}

impl<T, U, D, A: Access> PartialEq<ArrayRef<U, D>> for MmapArray<T, D, A>
where
    ArrayRef<T, D>: PartialEq<ArrayRef<U, D>>,
{
    fn eq(&self, other: &ArrayRef<U, D>) -> bool {
        **self == *other
    }
}

impl<T, U, D, A: Access, S: Data<Elem = U>> PartialEq<ArrayBase<S, D>> for MmapArray<T, D, A>
where
    ArrayRef<T, D>: PartialEq<ArrayRef<U, D>>,
{
    fn eq(&self, other: &ArrayBase<S, D>) -> bool {
        **self == **other
    }
}

impl<T, U, D, A: Access, S: Data<Elem = U>> PartialEq<MmapArray<T, D, A>> for ArrayBase<S, D>
where
    ArrayRef<U, D>: PartialEq<ArrayRef<T, D>>,
{
    fn eq(&self, other: &MmapArray<T, D, A>) -> bool {
        **self == **other
    }
}
