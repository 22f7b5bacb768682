//! Which types are elements of an array in a file, and what numpy calls them.
//!
//! Every [`bytemuck::Pod`] type is an element of a raw file. An NPY file says its element type by a *descriptor* such as
//! `<f4`: byte order, kind, size in bytes. This module answers which descriptor a type has, and which it can be read as.

use std::any::{TypeId, type_name};

use bytemuck::Pod;

use crate::error::{Error, ErrorKind};

/// Byte-order characters which mean "as this machine has it": its own, `=`, and `|` as numpy reads it.
const NATIVE_ORDERS: [char; 3] = [if cfg!(target_endian = "little") { '<' } else { '>' }, '=', '|'];

/// How much of a foreign descriptor goes into a message; a structured one can be thousands of characters long.
const SHOWN_DESCR_CHARS: usize = 80;

/// The descriptor of a multi-byte type, in the byte order of the target.
macro_rules! native {
    ($kind_and_size:literal) => {
        if cfg!(target_endian = "little") {
            concat!("<", $kind_and_size)
        } else {
            concat!(">", $kind_and_size)
        }
    };
}

const ISIZE_DESCR: &str = match size_of::<isize>() {
    8 => native!("i8"),
    4 => native!("i4"),
    _ => native!("i2"),
};

const USIZE_DESCR: &str = match size_of::<usize>() {
    8 => native!("u8"),
    4 => native!("u4"),
    _ => native!("u2"),
};

/// What numpy writes as the descriptor of `T`; `None` where it has no dtype for it (`bf16`, 128-bit integers, own structs).
pub(crate) fn npy_descr<T: Pod>() -> Option<&'static str> {
    let descriptors = [
        (TypeId::of::<i8>(), "|i1"),
        (TypeId::of::<i16>(), native!("i2")),
        (TypeId::of::<i32>(), native!("i4")),
        (TypeId::of::<i64>(), native!("i8")),
        (TypeId::of::<isize>(), ISIZE_DESCR),
        (TypeId::of::<u8>(), "|u1"),
        (TypeId::of::<u16>(), native!("u2")),
        (TypeId::of::<u32>(), native!("u4")),
        (TypeId::of::<u64>(), native!("u8")),
        (TypeId::of::<usize>(), USIZE_DESCR),
        #[cfg(feature = "half")]
        (TypeId::of::<half::f16>(), native!("f2")),
        (TypeId::of::<f32>(), native!("f4")),
        (TypeId::of::<f64>(), native!("f8")),
        #[cfg(feature = "complex")]
        (TypeId::of::<num_complex::Complex<f32>>(), native!("c8")),
        #[cfg(feature = "complex")]
        (TypeId::of::<num_complex::Complex<f64>>(), native!("c16")),
    ];
    let wanted = TypeId::of::<T>();
    descriptors.into_iter().find(|(id, _)| *id == wanted).map(|(_, descr)| descr)
}

/// Whether data that a file describes by `descr` can be viewed as `T`: same kind, size and byte order.
pub(crate) fn accepts_descr<T: Pod>(descr: &str) -> bool {
    let Some(own_descr) = npy_descr::<T>() else {
        return false;
    };
    let (order, kind_and_size) = split_order(descr);
    let (_, own_kind_and_size) = split_order(own_descr);
    let is_byte = size_of::<T>() == 1;
    let same_type = kind_and_size == own_kind_and_size || (own_descr == "|u1" && is_bool(kind_and_size));
    let native = order.is_none_or(|order| is_byte || NATIVE_ORDERS.contains(&order));
    same_type && native
}

/// The error of making an NPY file of a type that numpy has no name for.
pub(crate) fn no_descr<T>() -> Error {
    let found = element_name::<T>();
    Error::new(ErrorKind::DtypeMismatch, "create", "an element type that numpy has a dtype for", found)
        .or_else_try("`Format::Raw` takes any `Pod` type")
}

/// The error of opening a file of another element type; `found` is the file's descriptor.
pub(crate) fn dtype_mismatch<T: Pod>(operation: &'static str, found: &str) -> Error {
    let name = element_name::<T>();
    let expected = match npy_descr::<T>() {
        Some(descr) => format!("elements of dtype '{descr}' ({name})"),
        None => format!("a raw file, as numpy has no dtype for {name}"),
    };
    Error::new(ErrorKind::DtypeMismatch, operation, expected, shown_descr(found)).or_else_try(way_out(found))
}

/// How a file of this descriptor can be opened.
fn way_out(descr: &str) -> String {
    let (order, kind_and_size) = split_order(descr);
    let Some(name) = rust_type(kind_and_size) else {
        return "`Format::Raw` with `offset_bytes` opens the elements as any `Pod` type of their size"
            .to_owned();
    };
    let bytes = kind_and_size[1..].parse().unwrap_or(1);
    match order {
        Some(order) if bytes > 1 && !NATIVE_ORDERS.contains(&order) => {
            format!(
                "its byte order is not this machine's: convert it, in numpy with `.astype('{}{kind_and_size}')`",
                NATIVE_ORDERS[0]
            )
        }
        _ => format!("open it as {name}"),
    }
}

/// The Rust type of a kind and size, where this crate has one.
fn rust_type(kind_and_size: &str) -> Option<&'static str> {
    Some(match kind_and_size {
        "i1" => "i8",
        "i2" => "i16",
        "i4" => "i32",
        "i8" => "i64",
        "u1" | "b1" | "?" => "u8",
        "u2" => "u16",
        "u4" => "u32",
        "u8" => "u64",
        "f2" => "f16 (feature `half`)",
        "f4" => "f32",
        "f8" => "f64",
        "c8" => "Complex<f32> (feature `complex`)",
        "c16" => "Complex<f64> (feature `complex`)",
        _ => return None,
    })
}

/// The name of `T` without the modules it lives in, also inside brackets: `Complex<f32>`.
pub(crate) fn element_name<T>() -> String {
    let in_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let paths = type_name::<T>().split_inclusive(|c| !in_path(c));
    paths.map(|path| path.rsplit("::").next().unwrap_or(path)).collect()
}

/// Splits the byte-order character, where there is one, from the rest of a descriptor.
fn split_order(descr: &str) -> (Option<char>, &str) {
    let mut chars = descr.chars();
    match chars.next() {
        Some(order @ ('<' | '>' | '=' | '|')) => (Some(order), chars.as_str()),
        _ => (None, descr),
    }
}

/// Whether this is numpy's `bool`, one byte of 0 or 1, which is a valid `u8`.
fn is_bool(kind_and_size: &str) -> bool {
    matches!(kind_and_size, "b1" | "?")
}

/// A descriptor as a message shows it: quoted unless it is a structured one, on one line, of bounded length.
fn shown_descr(descr: &str) -> String {
    let mut shown: String = descr.chars().take(SHOWN_DESCR_CHARS).flat_map(char::escape_debug).collect();
    shown = shown.replace("\\'", "'").replace("\\\"", "\"");
    if descr.chars().nth(SHOWN_DESCR_CHARS).is_some() {
        shown.push_str("..");
    }
    if descr.starts_with(['[', '(']) { format!("the structured dtype {shown}") } else { format!("'{shown}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stands for a user's own element type where `Pod` is needed, which cannot be derived here.
    type Own = [f32; 4];

    struct Atom;

    fn opposite(kind_and_size: &str) -> String {
        let order = if cfg!(target_endian = "little") { '>' } else { '<' };
        format!("{order}{kind_and_size}")
    }

    #[test]
    fn descriptors_are_those_that_numpy_writes() {
        assert_eq!(npy_descr::<i8>(), Some("|i1"));
        assert_eq!(npy_descr::<u8>(), Some("|u1"));
        assert_eq!(npy_descr::<i16>(), Some(native!("i2")));
        assert_eq!(npy_descr::<u16>(), Some(native!("u2")));
        assert_eq!(npy_descr::<i32>(), Some(native!("i4")));
        assert_eq!(npy_descr::<u32>(), Some(native!("u4")));
        assert_eq!(npy_descr::<i64>(), Some(native!("i8")));
        assert_eq!(npy_descr::<u64>(), Some(native!("u8")));
        assert_eq!(npy_descr::<f32>(), Some(native!("f4")));
        assert_eq!(npy_descr::<f64>(), Some(native!("f8")));
    }

    #[test]
    #[cfg(all(target_pointer_width = "64", target_endian = "little"))]
    fn pointer_sized_integers_are_written_by_their_width() {
        assert_eq!(npy_descr::<isize>(), Some("<i8"));
        assert_eq!(npy_descr::<usize>(), Some("<u8"));
        assert!(accepts_descr::<usize>("<u8") && !accepts_descr::<usize>("<i8"));
    }

    #[test]
    fn types_unknown_to_numpy_have_no_descriptor_and_accept_none() {
        assert_eq!(npy_descr::<i128>(), None);
        assert_eq!(npy_descr::<u128>(), None);
        assert_eq!(npy_descr::<Own>(), None);
        assert!(!accepts_descr::<Own>("<f4"));
        assert!(!accepts_descr::<u128>("|V16"));
    }

    #[test]
    #[cfg(feature = "half")]
    fn half_precision_is_f2_and_bfloat_is_nothing() {
        assert_eq!(npy_descr::<half::f16>(), Some(native!("f2")));
        assert_eq!(npy_descr::<half::bf16>(), None);
        assert!(accepts_descr::<half::f16>(native!("f2")));
        assert!(!accepts_descr::<half::bf16>("|V2"));
        assert_eq!(element_name::<half::bf16>(), "bf16");
    }

    #[test]
    #[cfg(feature = "complex")]
    fn complex_numbers_count_both_parts() {
        use num_complex::Complex;
        assert_eq!(npy_descr::<Complex<f32>>(), Some(native!("c8")));
        assert_eq!(npy_descr::<Complex<f64>>(), Some(native!("c16")));
        assert!(!accepts_descr::<Complex<f32>>(native!("c16")));
        assert_eq!(element_name::<Complex<f32>>(), "Complex<f32>");
    }

    #[test]
    fn every_type_accepts_its_own_descriptor_in_each_native_spelling() {
        fn check<T: Pod>() {
            let (_, kind_and_size) = split_order(npy_descr::<T>().unwrap());
            assert!(accepts_descr::<T>(npy_descr::<T>().unwrap()), "{}", element_name::<T>());
            assert!(accepts_descr::<T>(kind_and_size), "{kind_and_size}");
            assert!(accepts_descr::<T>(&format!("={kind_and_size}")), "={kind_and_size}");
            assert!(accepts_descr::<T>(&format!("|{kind_and_size}")), "|{kind_and_size}");
            assert_eq!(accepts_descr::<T>(&opposite(kind_and_size)), size_of::<T>() == 1, "{kind_and_size}");
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
        check::<f32>();
        check::<f64>();
    }

    #[test]
    fn booleans_open_as_unsigned_bytes_only() {
        for descr in ["|b1", "b1", "<b1", ">b1", "?", "|?"] {
            assert!(accepts_descr::<u8>(descr), "{descr}");
            assert!(!accepts_descr::<i8>(descr), "{descr}");
        }
    }

    #[test]
    fn another_kind_or_size_or_a_strange_text_is_refused() {
        let strange =
            ["", "<", "|", "<f", "<f44", "<<f4", " <f4", "<f4 ", "!f4", "<é4", "float32", "<M8[ns]", "|O"];
        for descr in
            strange.into_iter().chain(["<i4", "<u4", "<f8", "<c8", "|V4", "|S4", "<U1", "[('a', '<f4')]"])
        {
            assert!(!accepts_descr::<f32>(descr), "{descr:?}");
        }
    }

    #[test]
    fn names_are_without_modules() {
        assert_eq!(element_name::<f32>(), "f32");
        assert_eq!(element_name::<Atom>(), "Atom");
        assert_eq!(element_name::<[Atom; 3]>(), "[Atom; 3]");
        assert_eq!(element_name::<Option<std::num::Wrapping<u8>>>(), "Option<Wrapping<u8>>");
        assert_eq!(element_name::<(Atom, u8)>(), "(Atom, u8)");
    }

    #[test]
    fn a_mismatch_names_both_dtypes() {
        let error = dtype_mismatch::<u8>("open", "<M8[ns]");
        assert_eq!(error.kind(), ErrorKind::DtypeMismatch);
        let raw = "`Format::Raw` with `offset_bytes` opens the elements as any `Pod` type of their size";
        assert_eq!(
            error.to_string(),
            format!("open: expected elements of dtype '|u1' (u8), found '<M8[ns]'; {raw}")
        );
        let error = dtype_mismatch::<u8>("open", "[('a', '<f4')]");
        assert!(
            error.to_string().ends_with(&format!("found the structured dtype [('a', '<f4')]; {raw}")),
            "{error}"
        );
        let error = dtype_mismatch::<Own>("open", "<f4");
        assert!(
            error.to_string().contains("expected a raw file, as numpy has no dtype for [f32; 4]"),
            "{error}"
        );
    }

    #[test]
    fn a_mismatch_names_the_type_that_the_file_can_be_opened_as() {
        for (descr, way_out) in [
            ("|i1", "open it as i8"),
            ("|b1", "open it as u8"),
            ("?", "open it as u8"),
            (native!("u8"), "open it as u64"),
            (native!("f8"), "open it as f64"),
            (native!("f2"), "open it as f16 (feature `half`)"),
            (native!("c16"), "open it as Complex<f64> (feature `complex`)"),
            (">i1", "open it as i8"),
        ] {
            assert!(dtype_mismatch::<f32>("open", descr).to_string().ends_with(way_out), "{descr}");
        }
        let foreign = dtype_mismatch::<f32>("open", &opposite("f8")).to_string();
        assert!(foreign.contains("byte order") && foreign.contains(native!("f8")), "{foreign}");
    }

    #[test]
    fn a_hostile_descriptor_cannot_flood_or_colour_a_message() {
        let text = dtype_mismatch::<u8>("open", &format!("\u{1b}[31m\n{}", "x".repeat(9_000))).to_string();
        assert!(text.len() < 400 && !text.contains(['\u{1b}', '\n']), "{text}");
    }
}
