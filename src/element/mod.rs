//! Element types: the dtype of each Rust type, and the dtypes of the files that can be opened as arrays of that type.
//!
//! Every [`bytemuck::Pod`] type can be the element of a raw file. An NPY file names its element type by a *descriptor* such
//! as `<f4`: byte order, kind, size in bytes. [`Dtype`] is a parsed descriptor.

mod dtype;
mod foreign;
mod order;

pub use self::dtype::Dtype;
pub use self::foreign::ForeignDtype;
pub use self::order::ByteOrder;

use std::any::type_name;

use bytemuck::Pod;

use crate::error::{Error, ErrorKind};

/// The number of characters of a foreign descriptor that a message shows. A structured descriptor can have thousands of
/// characters.
const SHOWN_DESCR_CHARS: usize = 80;

/// Returns whether an array of `T` can contain data of this dtype. This is true if `T` has this dtype, or if the dtype
/// is numpy's `bool` and `T` is `u8`.
pub(crate) fn opens<T: Pod>(dtype: &Dtype) -> bool {
    Dtype::of::<T>().is_some_and(|own| own == *dtype || (own == Dtype::U8 && *dtype == Dtype::Bool))
}

/// Returns the error for creating an NPY file of a type that has no numpy dtype.
pub(crate) fn no_dtype<T>() -> Error {
    let found = element_name::<T>();
    Error::new(ErrorKind::DtypeMismatch, "create", "an element type that numpy has a dtype for", found)
        .with_remedy("`Format::Raw` takes any `Pod` type")
}

/// Returns the error for opening a file of dtype `found` as an array of `T`.
pub(crate) fn dtype_mismatch<T: Pod>(found: &Dtype) -> Error {
    let name = element_name::<T>();
    let expected = match Dtype::of::<T>() {
        Some(own) => format!("elements of dtype '{own}' ({name})"),
        None => format!("a raw file, as numpy has no dtype for {name}"),
    };
    Error::new(ErrorKind::DtypeMismatch, "open", expected, shown(found)).with_remedy(way_out(found))
}

/// Returns the error for opening a file of dtype `found` as an array of any type, if no array can hold that dtype.
pub(crate) fn no_array_of(found: &Dtype) -> Error {
    let expected = "a dtype that `AnyArray` has a variant for";
    Error::new(ErrorKind::DtypeMismatch, "open", expected, shown(found)).with_remedy(way_out(found))
}

/// Returns how a file of this dtype can be opened or converted.
fn way_out(found: &Dtype) -> String {
    match (found, found.missing_feature(), found.element_type()) {
        (Dtype::Foreign(foreign), ..) => match found.in_native_order() {
            Some(native) => {
                format!("an array has this machine's byte order: convert with numpy's `astype('{native}')`")
            }
            None => foreign.way_out().to_owned(),
        },
        (_, Some(feature), _) => format!("the crate's feature `{feature}` has an element type for it"),
        (_, None, element_type) => {
            let element_type = element_type.unwrap_or("_");
            format!("open it as `MmapArray<{element_type}, _>`, or any dtype with `AnyArray::open`")
        }
    }
}

/// Returns a dtype as messages show it: on one line, shortened, and in quotes unless it is structured.
fn shown(dtype: &Dtype) -> String {
    let descr = dtype.descr();
    let mut text: String = foreign::printable(descr.chars().take(SHOWN_DESCR_CHARS)).collect();
    if descr.chars().nth(SHOWN_DESCR_CHARS).is_some() {
        text.push_str("..");
    }
    match dtype {
        Dtype::Foreign(foreign) if foreign.is_structured() => format!("the structured dtype {text}"),
        _ => format!("'{text}'"),
    }
}

/// Returns the name of `T` without module paths, also without those of its type arguments: `Complex<f32>`.
pub(crate) fn element_name<T>() -> String {
    let in_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let paths = type_name::<T>().split_inclusive(|c| !in_path(c));
    paths.map(|path| path.rsplit("::").next().unwrap_or(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Represents a user's own element type. (The tests cannot derive `Pod` for a struct.)
    type Own = [f32; 4];

    struct Atom;

    fn accepts<T: Pod>(descr: &str) -> bool {
        opens::<T>(&Dtype::from_descr(descr))
    }

    fn mismatch<T: Pod>(descr: &str) -> String {
        let error = dtype_mismatch::<T>(&Dtype::from_descr(descr));
        assert_eq!(error.kind(), ErrorKind::DtypeMismatch);
        error.to_string()
    }

    #[test]
    fn every_type_opens_its_own_dtype_and_no_other() {
        fn check<T: Pod>() {
            let own = Dtype::of::<T>().unwrap();
            let descrs =
                ["|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8", "<c8", "<c16"];
            let native = |descr: &&str| {
                if cfg!(target_endian = "big") { descr.replace('<', ">") } else { descr.to_string() }
            };
            let opened: Vec<_> = descrs.iter().map(native).filter(|descr| accepts::<T>(descr)).collect();
            assert_eq!(opened, [own.to_string()]);
        }
        check::<i8>();
        check::<i16>();
        check::<i32>();
        check::<i64>();
        check::<isize>();
        check::<u8>();
        check::<u16>();
        check::<u32>();
        check::<u64>();
        check::<usize>();
        #[cfg(feature = "half")]
        check::<half::f16>();
        check::<f32>();
        check::<f64>();
        #[cfg(feature = "complex")]
        check::<num_complex::Complex<f32>>();
        #[cfg(feature = "complex")]
        check::<num_complex::Complex<f64>>();
    }

    #[test]
    fn types_without_a_numpy_dtype_open_no_file() {
        assert!(!accepts::<Own>("<f4"));
        assert!(!accepts::<u128>("|V16"));
        assert!(!accepts::<i128>("<i16"));
        #[cfg(feature = "half")]
        assert!(!accepts::<half::bf16>("|V2") && !accepts::<half::bf16>("<f2"));
    }

    #[test]
    fn booleans_open_only_as_u8() {
        for descr in ["|b1", "b1", "<b1", ">b1", "?", "|?"] {
            assert!(accepts::<u8>(descr), "{descr}");
            assert!(!accepts::<i8>(descr), "{descr}");
        }
    }

    #[test]
    fn other_kinds_sizes_and_unknown_descriptors_are_refused() {
        let strange =
            ["", "<", "|", "<f", "<f44", "<<f4", " <f4", "<f4 ", "!f4", "<é4", "float32", "<M8[ns]", "|O"];
        for descr in
            strange.into_iter().chain(["<i4", "<u4", "<f8", "<c8", "|V4", "|S4", "<U1", "[('a', '<f4')]"])
        {
            assert!(!accepts::<f32>(descr), "{descr:?}");
        }
    }

    #[test]
    fn names_have_no_module_paths() {
        assert_eq!(element_name::<f32>(), "f32");
        assert_eq!(element_name::<Atom>(), "Atom");
        assert_eq!(element_name::<[Atom; 3]>(), "[Atom; 3]");
        assert_eq!(element_name::<Option<std::num::Wrapping<u8>>>(), "Option<Wrapping<u8>>");
        assert_eq!(element_name::<(Atom, u8)>(), "(Atom, u8)");
        #[cfg(feature = "half")]
        assert_eq!(element_name::<half::bf16>(), "bf16");
        #[cfg(feature = "complex")]
        assert_eq!(element_name::<num_complex::Complex<f32>>(), "Complex<f32>");
    }

    #[test]
    fn a_mismatch_names_both_dtypes_and_the_way_out() {
        assert_eq!(
            mismatch::<u8>("|i1"),
            "open: expected elements of dtype '|u1' (u8), found '|i1'; open it as `MmapArray<i8, _>`, or any dtype with \
             `AnyArray::open`"
        );
        assert_eq!(
            mismatch::<i8>("?"),
            "open: expected elements of dtype '|i1' (i8), found '|b1'; open it as `MmapArray<u8, _>`, or any dtype with \
             `AnyArray::open`"
        );
        let text = mismatch::<u8>("[('a', '<f4')]");
        assert!(
            text.contains("found the structured dtype [('a', '<f4')]; open it as `Format::Raw`"),
            "{text}"
        );
        let text = mismatch::<Own>("|O");
        assert!(
            text.contains("expected a raw file, as numpy has no dtype for [f32; 4], found '|O'; "),
            "{text}"
        );
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_dtype_whose_feature_is_not_enabled_names_the_feature() {
        for (descr, feature, enabled) in
            [("<f2", "half", cfg!(feature = "half")), ("<c16", "complex", cfg!(feature = "complex"))]
        {
            let text = mismatch::<u8>(descr);
            assert_ne!(text.contains(&format!("the crate's feature `{feature}`")), enabled, "{text}");
            assert_eq!(text.contains("open it as `MmapArray<"), enabled, "{text}");
        }
    }

    #[test]
    fn messages_shorten_and_escape_hostile_descriptors() {
        let text = mismatch::<u8>(&format!("\u{1b}[31m\n{}", "x".repeat(9_000)));
        assert!(text.len() < 400 && !text.contains(['\u{1b}', '\n']), "{text}");
    }
}
