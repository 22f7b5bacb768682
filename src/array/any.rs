//! [`AnyArray`]: an array whose element type is known only when its file is opened.

use super::MmapArray;
use crate::access::ReadOnly;
use crate::element::{Dtype, no_array_of};
use crate::error::Result;
use crate::file::inspect;
use crate::file::{ArrayOptions, Format};
use crate::match_dtype;
use bytemuck::Pod;
use ndarray::IxDyn;
use num_traits::{Num, NumCast};
use std::fmt::{Debug, Display};
use std::path::Path;

/// An element type that [`AnyArray`] has a variant for.
///
/// A function that is generic over this trait can be called on every [`AnyArray`] through
/// [`match_dtype!`](crate::match_dtype). The elements are numbers: they can be added and multiplied, compared for
/// equality, printed and converted. `to_f64` returns `None` for a complex number whose imaginary part is not zero.
/// Complex numbers have no order, so `PartialOrd` is not required. Other crates cannot implement this trait.
pub trait AnyElement: Pod + Num + NumCast + Default + Debug + Display + Send + Sync + sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
}

/// Defines [`AnyArray`] and [`AnyElement`] from a table. Each row has a variant and its element type. Every variant is
/// also a variant of [`Dtype`].
macro_rules! any_array {
    ($($(#[$cfg:meta])? $variant:ident($element:ty),)*) => {
        /// A read-only array whose dtype and number of dimensions are read from its NPY file.
        ///
        /// Use `match`, or call one generic function on the array with [`match_dtype!`](crate::match_dtype).
        /// The features `half` and `complex` add variants.
        ///
        /// # Examples
        /// ```
        /// use ndarray::{Ix2, IxDyn};
        /// use ndarray_mmap::{AnyArray, AnyElement, MmapArray, ReadOnly, match_dtype};
        ///
        /// /// The sum of all elements; `None` if one of them is not a real number.
        /// fn sum<T: AnyElement>(array: &MmapArray<T, IxDyn, ReadOnly>) -> Option<f64> {
        ///     array.iter().map(|element| element.to_f64()).sum()
        /// }
        ///
        /// let folder = tempfile::tempdir()?;
        /// let path = folder.path().join("counts.npy");
        /// let mut counts = MmapArray::<u16, Ix2>::create(&path, (3, 4))?;
        /// counts.fill(2);
        /// counts.close()?;
        ///
        /// let array = AnyArray::open(&path)?;
        /// assert_eq!(array.shape(), [3, 4]);
        /// assert_eq!(match_dtype!(&array, |typed| sum(typed)), Some(24.0));
        /// if let AnyArray::U16(counts) = &array {
        ///     assert_eq!(counts[[2, 3]], 2);
        /// }
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        #[derive(Debug)]
        #[non_exhaustive]
        pub enum AnyArray {
            $(
                $(#[$cfg])?
                #[doc = concat!("Elements of type `", stringify!($element), "`.")]
                $variant(MmapArray<$element, IxDyn, ReadOnly>),
            )*
        }

        impl AnyArray {
            fn open_as(dtype: &Dtype, options: &ArrayOptions, path: &Path) -> Result<Self> {
                match dtype {
                    $($(#[$cfg])? Dtype::$variant => options.open(path).map(Self::$variant),)*
                    // Each byte of a `bool` is 0 or 1, which is a valid `u8`. The reverse is not true.
                    Dtype::Bool => options.open(path).map(Self::U8),
                    other => Err(no_array_of(other).at(path)),
                }
            }
        }

        $(
            $(#[$cfg])?
            impl AnyElement for $element {}
            $(#[$cfg])?
            impl sealed::Sealed for $element {}
        )*
    };
}

any_array! {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    #[cfg(feature = "half")]
    F16(half::f16),
    #[cfg(feature = "complex")]
    C64(num_complex::Complex<f32>),
    #[cfg(feature = "complex")]
    C128(num_complex::Complex<f64>),
}

impl AnyArray {
    /// Maps an NPY file of any supported dtype and any number of dimensions for reading.
    ///
    /// The name of the file does not matter: it is always read as NPY. numpy's `bool` opens as [`U8`](Self::U8).
    ///
    /// # Errors
    /// [`DtypeMismatch`](crate::ErrorKind::DtypeMismatch) for dtypes without a variant (strings, dates, structures,
    /// objects, the other byte order); the message of the error says what to do instead. Also the errors of
    /// [`inspect`](crate::inspect()) and [`ArrayOptions::open`].
    ///
    /// ```
    /// use ndarray_mmap::{AnyArray, ErrorKind};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("a.npy");
    /// std::fs::write(&path, b"\x93NUMPY\x01\x00\x3a\x00{'descr': '<U7', 'fortran_order': False, 'shape': (0,)}   \n")?;
    /// let error = AnyArray::open(&path).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::DtypeMismatch);
    /// assert!(error.to_string().contains("found '<U7'"), "{error}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(&ArrayOptions::new(), path).map_err(|error| error.during("open"))
    }

    /// Maps an NPY file for reading with these options: a lock timeout, an access pattern, a shape that it must have.
    ///
    /// The format in the options is ignored: only NPY files name their dtype.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    ///
    /// ```
    /// use ndarray::Ix1;
    /// use ndarray_mmap::{AccessPattern, AnyArray, ArrayOptions, MmapArray};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("a.npy");
    /// # MmapArray::<i64, Ix1>::create(&path, 9)?.close()?;
    /// let options = ArrayOptions::new().access_pattern(AccessPattern::Sequential);
    /// assert_eq!(AnyArray::open_with(&options, &path)?.shape(), [9]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_with(options: &ArrayOptions, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let options = options.clone().format(Format::Npy);
        // Opening checks the dtype once more, so if the file is replaced between the two calls, the result is at worst
        // an error.
        let opened = inspect(path).and_then(|found| Self::open_as(found.dtype(), &options, path));
        opened.map_err(|error| error.during("open_with"))
    }

    /// Returns the dtype of the elements. For a file of booleans it is [`Dtype::U8`].
    pub fn dtype(&self) -> Dtype {
        fn of<T: AnyElement>(_: &MmapArray<T, IxDyn, ReadOnly>) -> Dtype {
            Dtype::of::<T>().expect("the variants are named after dtypes")
        }
        match_dtype!(self, |typed| of(typed))
    }

    /// Returns the length of each axis.
    pub fn shape(&self) -> &[usize] {
        match_dtype!(self, |typed| typed.geometry().shape())
    }

    /// Returns the number of axes.
    pub fn ndim(&self) -> usize {
        self.shape().len()
    }

    /// Returns the path of the file, as [`MmapArray::path`] does.
    pub fn path(&self) -> &Path {
        match_dtype!(self, |typed| typed.path())
    }

    /// Evicts and closes the array, as [`MmapArray::close`] does.
    ///
    /// # Errors
    /// As for [`MmapArray::close`].
    pub fn close(self) -> Result<()> {
        match_dtype!(self, |typed| typed.close())
    }
}

/// Evaluates an expression with the [`MmapArray`] that an [`AnyArray`] contains.
///
/// `match_dtype!(&array, |typed| expression)` is a `match` with the same expression in every arm. The expression is
/// compiled once for each element type, so it must be valid for all of them; usually it calls a function that is
/// generic over [`AnyElement`]. `typed` is a `&MmapArray<T, IxDyn, ReadOnly>`, or the array itself if `array` is passed
/// by value. In the expression, `?` and `return` return from the surrounding function.
///
/// # Examples
/// Prints the smallest and largest element of any file of real numbers:
/// ```
/// use ndarray::{Ix1, IxDyn};
/// use ndarray_mmap::{AnyArray, AnyElement, MmapArray, ReadOnly, match_dtype};
///
/// fn range<T: AnyElement>(array: &MmapArray<T, IxDyn, ReadOnly>) -> (f64, f64) {
///     let numbers = array.iter().filter_map(|element| element.to_f64());
///     numbers.fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), x| (min.min(x), max.max(x)))
/// }
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("a.npy");
/// # let mut written = MmapArray::<i32, Ix1>::create(&path, 3)?;
/// # written.assign(&ndarray::array![5, -7, 2]);
/// # written.close()?;
/// let array = AnyArray::open(&path)?;
/// let (min, max) = match_dtype!(&array, |typed| range(typed));
/// println!("{}: {min} to {max}", array.dtype());
/// assert_eq!((min, max), (-7.0, 5.0));
/// match_dtype!(array, |typed| typed.close()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[macro_export]
macro_rules! match_dtype {
    ($array:expr, |$typed:ident| $body:expr) => {
        $crate::__match_with_half!($array, $typed, $body, [U8 I8 U16 I16 U32 I32 U64 I64 F32 F64])
    };
}

// `#[cfg]` in the expansion would test the features of the crate that calls the macro. So each of these two macros has
// one definition with the feature of this crate and one without it. `__match_with_half!` adds the variant of `half` to
// the list, and `__match_with_complex!` adds the variants of `complex`. `__match_variants!` then writes the `match`.

#[cfg(feature = "half")]
#[doc(hidden)]
#[macro_export]
macro_rules! __match_with_half {
    ($array:expr, $typed:ident, $body:expr, [$($variant:ident)*]) => {
        $crate::__match_with_complex!($array, $typed, $body, [$($variant)* F16])
    };
}

#[cfg(not(feature = "half"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __match_with_half {
    ($($arguments:tt)*) => { $crate::__match_with_complex!($($arguments)*) };
}

#[cfg(feature = "complex")]
#[doc(hidden)]
#[macro_export]
macro_rules! __match_with_complex {
    ($array:expr, $typed:ident, $body:expr, [$($variant:ident)*]) => {
        $crate::__match_variants!($array, $typed, $body, [$($variant)* C64 C128])
    };
}

#[cfg(not(feature = "complex"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __match_with_complex {
    ($($arguments:tt)*) => { $crate::__match_variants!($($arguments)*) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __match_variants {
    ($array:expr, $typed:ident, $body:expr, [$($variant:ident)*]) => {
        match $array {
            $($crate::AnyArray::$variant($typed) => $body,)*
            // Other crates cannot see that these are all variants of a non-exhaustive enum.
            #[allow(unreachable_patterns)]
            _ => unreachable!("`match_dtype!` has an arm for each variant"),
        }
    };
}
