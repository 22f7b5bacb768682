//! [`Dtype`]: the element types of NPY files, and the table that relates them to Rust types.

use std::any::TypeId;
use std::fmt;

use super::foreign::ForeignDtype;
use super::order::{ByteOrder, split_order};

/// Returns the descriptor of a type of several bytes in the byte order of the target.
macro_rules! native {
    ($kind_and_size:literal) => {
        if cfg!(target_endian = "little") {
            concat!("<", $kind_and_size)
        } else {
            concat!(">", $kind_and_size)
        }
    };
}

/// Defines [`Dtype`] from a table. Each row has a variant, numpy's descriptor, and the Rust type.
macro_rules! dtypes {
    ($($(#[doc = $doc:literal])* $variant:ident: $descr:expr, $(#[$cfg:meta])? $rust:ty;)*) => {
        /// An element type, as an NPY file names it.
        ///
        /// The variants that have no data are the types that an array of this crate can hold, in the byte order of this
        /// machine. These variants exist whether their features are enabled or not. [`Foreign`](Self::Foreign) is every
        /// other dtype.
        ///
        /// `Display` prints numpy's descriptor.
        ///
        /// ```
        /// use ndarray_mmap::Dtype;
        ///
        /// let dtype = Dtype::of::<f32>().unwrap();
        /// assert_eq!(dtype, Dtype::F32);
        /// assert_eq!(dtype.size_bytes(), Some(4));
        /// # #[cfg(target_endian = "little")]
        /// assert_eq!(dtype.to_string(), "<f4");
        /// assert_eq!(Dtype::of::<String>(), None);
        /// ```
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Dtype {
            $($(#[doc = $doc])* $variant,)*
            /// A dtype that no array of this crate can hold: the other byte order, strings, dates, structures, or objects.
            Foreign(ForeignDtype),
        }

        /// Each dtype that has a Rust type, with its descriptor and the path of that type.
        const KNOWN: &[(Dtype, &str, &str)] = &[$((Dtype::$variant, $descr, stringify!($rust))),*];

        /// Returns the dtype of the Rust type with this id, except for `isize` and `usize`.
        fn of_type(id: TypeId) -> Option<Dtype> {
            $($(#[$cfg])? if id == TypeId::of::<$rust>() { return Some(Dtype::$variant); })*
            None
        }
    };
}

dtypes! {
    /// numpy's `bool`: one byte, 0 or 1. An array holds it as `u8`.
    Bool: "|b1", bool;
    /// `i8`.
    I8: "|i1", i8;
    /// `i16`.
    I16: native!("i2"), i16;
    /// `i32`.
    I32: native!("i4"), i32;
    /// `i64`.
    I64: native!("i8"), i64;
    /// `u8`.
    U8: "|u1", u8;
    /// `u16`.
    U16: native!("u2"), u16;
    /// `u32`.
    U32: native!("u4"), u32;
    /// `u64`.
    U64: native!("u8"), u64;
    /// numpy's `float16`: `half::f16`, with the feature `half`.
    F16: native!("f2"), #[cfg(feature = "half")] half::f16;
    /// `f32`.
    F32: native!("f4"), f32;
    /// `f64`.
    F64: native!("f8"), f64;
    /// numpy's `complex64`: `num_complex::Complex<f32>`, with the feature `complex`.
    C64: native!("c8"), #[cfg(feature = "complex")] num_complex::Complex<f32>;
    /// numpy's `complex128`: `num_complex::Complex<f64>`, with the feature `complex`.
    C128: native!("c16"), #[cfg(feature = "complex")] num_complex::Complex<f64>;
}

impl Dtype {
    /// Returns the dtype of the Rust type `T`.
    ///
    /// `isize` and `usize` have the dtype of the integer of the same size. Returns `None` for types that have no numpy
    /// dtype (`bf16`, 128-bit integers, own structs), and for `f16` and `Complex` unless their feature is enabled.
    pub fn of<T: 'static>() -> Option<Self> {
        let id = TypeId::of::<T>();
        let pointer_sized = |of_8: Self, of_4: Self, of_2: Self| match size_of::<T>() {
            8 => of_8,
            4 => of_4,
            _ => of_2,
        };
        if id == TypeId::of::<isize>() {
            Some(pointer_sized(Self::I64, Self::I32, Self::I16))
        } else if id == TypeId::of::<usize>() {
            Some(pointer_sized(Self::U64, Self::U32, Self::U16))
        } else {
            of_type(id)
        }
    }

    /// Parses a descriptor as an NPY file spells it: `<f4`, or the Python list of a structured dtype.
    pub(crate) fn from_descr(descr: &str) -> Self {
        let (order, kind_and_size) = split_order(descr);
        match Self::of_kind(kind_and_size) {
            // numpy reads a missing byte-order character, `=` and `|` as native byte order.
            Some(known) if order.is_none_or(|order| order == ByteOrder::NATIVE) => known,
            _ => Self::Foreign(ForeignDtype::new(descr)),
        }
    }

    /// Returns the dtype of this kind and size (`f4`) in native byte order.
    pub(super) fn of_kind(kind_and_size: &str) -> Option<Self> {
        let kind_and_size = if kind_and_size == "?" { "b1" } else { kind_and_size };
        let row = KNOWN.iter().find(|(_, descr, _)| split_order(descr).1 == kind_and_size);
        row.map(|(dtype, ..)| dtype.clone())
    }

    /// Returns the descriptor and the Rust type of the dtype from the table, or `None` for a foreign dtype.
    fn known(&self) -> Option<(&'static str, &'static str)> {
        KNOWN.iter().find(|(dtype, ..)| dtype == self).map(|(_, descr, rust)| (*descr, *rust))
    }

    /// Returns the descriptor as the file spells it. `Display` prints the same text, but escapes control characters.
    pub fn descr(&self) -> &str {
        match self {
            Self::Foreign(foreign) => foreign.descr(),
            known => known.known().map_or("", |(descr, _)| descr),
        }
    }

    /// Returns the size of an element in bytes. Returns `None` for structured dtypes and objects, because their
    /// descriptors do not contain a size.
    pub fn size_bytes(&self) -> Option<usize> {
        super::foreign::item_bytes(split_order(self.descr()).1)
    }

    /// Returns the byte order of an element. Returns `None` for dtypes that have no byte order: single bytes, byte
    /// strings, structures.
    pub fn byte_order(&self) -> Option<ByteOrder> {
        split_order(self.descr()).0
    }

    /// Returns the dtype of the same kind and size in native byte order.
    ///
    /// A dtype that an array can hold is returned unchanged. For a foreign dtype the result is `Some` only if an array
    /// could hold it in native byte order.
    pub fn in_native_order(&self) -> Option<Self> {
        match self {
            Self::Foreign(foreign) => match split_order(foreign.descr()) {
                (Some(_), kind_and_size) => Self::of_kind(kind_and_size),
                (None, _) => None,
            },
            known => Some(known.clone()),
        }
    }

    /// Returns the Rust type that opens a file of this dtype, for example `f64` or `Complex<f32>`. `None` for a foreign
    /// dtype.
    pub(super) fn element_type(&self) -> Option<&'static str> {
        match self {
            Self::Bool => Some("u8"),
            other => other.known().map(|(_, rust)| rust.rsplit("::").next().unwrap_or(rust)),
        }
    }

    /// Returns the feature of this crate that is needed to open a file of this dtype, if the crate was built without it.
    pub(super) fn missing_feature(&self) -> Option<&'static str> {
        match self {
            Self::F16 if !cfg!(feature = "half") => Some("half"),
            Self::C64 | Self::C128 if !cfg!(feature = "complex") => Some("complex"),
            _ => None,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign(foreign) => foreign.fmt(f),
            known => f.pad(known.descr()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opposite(kind_and_size: &str) -> String {
        let order = if cfg!(target_endian = "little") { '>' } else { '<' };
        format!("{order}{kind_and_size}")
    }

    #[test]
    fn each_known_dtype_is_read_in_every_native_spelling() {
        for (dtype, descr, _) in KNOWN {
            let (_, kind_and_size) = split_order(descr);
            assert_eq!((dtype.to_string(), dtype.descr()), ((*descr).to_owned(), *descr));
            for order in ["", "=", "|"] {
                let spelt = format!("{order}{kind_and_size}");
                assert_eq!(Dtype::from_descr(&spelt), *dtype, "{spelt}");
            }
            assert_eq!(Dtype::from_descr(descr), *dtype);
            assert_eq!(dtype.in_native_order().as_ref(), Some(dtype));
        }
    }

    #[test]
    fn sizes_are_those_of_the_rust_types() {
        let sizes = KNOWN.iter().map(|(dtype, ..)| dtype.size_bytes().unwrap());
        assert_eq!(sizes.collect::<Vec<_>>(), [1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 4, 8, 8, 16]);
    }

    #[test]
    fn the_other_byte_order_is_foreign_and_recognised() {
        for (dtype, descr, _) in KNOWN {
            let swapped = opposite(split_order(descr).1);
            let read = Dtype::from_descr(&swapped);
            if dtype.size_bytes() == Some(1) {
                assert_eq!(read, *dtype, "{swapped}");
                assert_eq!(read.byte_order(), None, "{swapped}");
                continue;
            }
            assert!(matches!(read, Dtype::Foreign(_)), "{swapped}");
            assert_eq!(read.to_string(), swapped);
            assert_eq!(read.size_bytes(), dtype.size_bytes(), "{swapped}");
            assert_eq!(read.in_native_order().as_ref(), Some(dtype), "{swapped}");
            assert_eq!(dtype.byte_order(), Some(ByteOrder::NATIVE), "{descr}");
            assert!(read.byte_order().is_some_and(|order| order != ByteOrder::NATIVE), "{swapped}");
        }
    }

    #[test]
    fn rust_types_have_the_dtype_of_their_size() {
        fn check<T: 'static>(expected: &Dtype) {
            assert_eq!(Dtype::of::<T>().as_ref(), Some(expected));
            assert_eq!(expected.size_bytes(), Some(size_of::<T>()));
        }
        check::<bool>(&Dtype::Bool);
        check::<i8>(&Dtype::I8);
        check::<u16>(&Dtype::U16);
        check::<f32>(&Dtype::F32);
        check::<f64>(&Dtype::F64);
        check::<isize>(if size_of::<isize>() == 8 { &Dtype::I64 } else { &Dtype::I32 });
        check::<usize>(if size_of::<usize>() == 8 { &Dtype::U64 } else { &Dtype::U32 });
        #[cfg(feature = "half")]
        check::<half::f16>(&Dtype::F16);
        #[cfg(feature = "complex")]
        check::<num_complex::Complex<f32>>(&Dtype::C64);
        #[cfg(feature = "complex")]
        check::<num_complex::Complex<f64>>(&Dtype::C128);
        assert_eq!(Dtype::of::<u128>(), None);
        assert_eq!(Dtype::of::<[f32; 3]>(), None);
    }

    #[test]
    fn the_type_that_opens_a_dtype_is_named_without_its_path() {
        let names = KNOWN.iter().map(|(dtype, ..)| dtype.element_type().unwrap()).collect::<Vec<_>>();
        let expected = [
            "u8",
            "i8",
            "i16",
            "i32",
            "i64",
            "u8",
            "u16",
            "u32",
            "u64",
            "f16",
            "f32",
            "f64",
            "Complex<f32>",
            "Complex<f64>",
        ];
        assert_eq!(names, expected);
        assert_eq!(Dtype::from_descr("|O").element_type(), None);
    }
}
