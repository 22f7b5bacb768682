//! [`ForeignDtype`]: a dtype that numpy can save and no array of this crate can hold.

use std::fmt::{self, Write};

use super::order::split_order;

/// A dtype that no array of this crate can hold, as its file spells it.
///
/// `Display` prints the descriptor on one line, with control characters escaped.
///
/// ```
/// use ndarray_mmap::{ByteOrder, Dtype, inspect};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("network.npy");
/// let mut bytes = b"\x93NUMPY\x01\x00\x3a\x00{'descr': '>f4', 'fortran_order': False, 'shape': (1,)}   \n".to_vec();
/// bytes.extend(1.5_f32.to_be_bytes());
/// std::fs::write(&path, bytes)?;
///
/// let description = inspect(&path)?;
/// assert_eq!(description.dtype().to_string(), ">f4");
/// assert_eq!(description.dtype().byte_order(), Some(ByteOrder::Big));
/// # if cfg!(target_endian = "little") {
/// assert!(matches!(description.dtype(), Dtype::Foreign(_)));
/// # }
/// assert_eq!(description.dtype().in_native_order(), Some(Dtype::F32));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ForeignDtype {
    descr: Box<str>,
}

impl ForeignDtype {
    pub(super) fn new(descr: &str) -> Self {
        Self { descr: descr.into() }
    }

    /// Returns the descriptor as the file spells it, without quotes, for example `>f4`, `<U7` or `|O`. For a structured
    /// dtype it is the Python list, for example `[('x', '<f4')]`.
    pub fn descr(&self) -> &str {
        &self.descr
    }

    /// Returns whether the dtype is a structure of named fields, or has an array in each element.
    pub fn is_structured(&self) -> bool {
        self.descr.starts_with(['[', '('])
    }

    /// Returns what a user can do to read the data.
    pub(super) fn way_out(&self) -> &'static str {
        match split_order(&self.descr).1.chars().next() {
            _ if self.is_structured() => {
                "open it as `Format::Raw` with a `#[repr(C)]` element type, a shape and the `offset_bytes` that \
                 `inspect` returns"
            }
            Some('O') => "numpy pickles objects: load it with `allow_pickle=True` and save numbers",
            Some('M' | 'm') => "save its integers with numpy: `a.view('i8')`",
            Some('U' | 'S' | 'a' | 'V') => {
                "save its bytes with numpy, `a.view('u1')`, or open it as `Format::Raw` with an array of bytes as the \
                 element type"
            }
            _ => "convert with numpy's `astype` to a dtype that `AnyArray` has a variant for",
        }
    }
}

impl fmt::Display for ForeignDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        printable(self.descr.chars()).try_for_each(|c| f.write_char(c))
    }
}

/// Escapes the characters that are not printable. Does not escape quotes and backslashes, because a structured
/// descriptor contains them.
pub(super) fn printable(chars: impl Iterator<Item = char>) -> impl Iterator<Item = char> {
    chars.flat_map(|c| {
        let plain = matches!(c, ' '..='~').then_some(c);
        let escaped = plain.is_none().then(|| c.escape_debug());
        plain.into_iter().chain(escaped.into_iter().flatten())
    })
}

/// Returns the size in bytes of an element, from a descriptor without its byte order: `f4`, `U7`, `M8[ns]`. `None` if the
/// descriptor contains no size, or a size that cannot be addressed.
pub(super) fn item_bytes(kind_and_size: &str) -> Option<usize> {
    let mut chars = kind_and_size.chars();
    let unit_bytes = match chars.next()? {
        'b' | 'i' | 'u' | 'f' | 'c' | 'm' | 'M' | 'S' | 'a' | 'V' => 1,
        'U' => 4,
        _ => return None,
    };
    let rest = chars.as_str();
    let digits = rest.find(|c: char| !c.is_ascii_digit()).map_or(rest, |end| &rest[..end]);
    let is_date = kind_and_size.starts_with(['m', 'M']);
    let unit = &rest[digits.len()..];
    let well_formed = unit.is_empty() || (is_date && unit.starts_with('[') && unit.ends_with(']'));
    let item_bytes = digits.parse::<usize>().ok()?.checked_mul(unit_bytes)?;
    (well_formed && isize::try_from(item_bytes).is_ok()).then_some(item_bytes)
}

#[cfg(test)]
mod tests {
    use crate::element::{ByteOrder, Dtype};

    #[test]
    fn sizes_come_from_the_descriptor() {
        for (descr, size_bytes) in [
            ("<U7", Some(28)),
            ("|S5", Some(5)),
            ("|V7", Some(7)),
            ("|S0", Some(0)),
            ("<M8[ns]", Some(8)),
            ("<m8[25s]", Some(8)),
            ("<M8", Some(8)),
            (">f4", Some(4)),
            ("<f16", Some(16)),
            (">c32", Some(32)),
            ("|O", None),
            ("[('x', '<f4')]", None),
            ("('<f4', (2,))", None),
            ("<f4,<i4", None),
            ("<M8[ns", None),
            ("<f4[ns]", None),
            ("float32", None),
            ("", None),
            ("<", None),
            ("<f", None),
            ("<é4", None),
            ("<U18446744073709551615", None),
            ("|S9223372036854775808", None),
            ("|S99999999999999999999999", None),
        ] {
            let dtype = Dtype::from_descr(descr);
            assert!(matches!(dtype, Dtype::Foreign(_)), "{descr}");
            assert_eq!((dtype.size_bytes(), dtype.descr()), (size_bytes, descr));
        }
    }

    #[test]
    fn byte_orders_are_given_only_where_they_matter() {
        for (descr, byte_order) in [
            ("<U7", Some(ByteOrder::Little)),
            (">M8[ns]", Some(ByteOrder::Big)),
            (">f16", Some(ByteOrder::Big)),
            ("|S5", None),
            ("<S5", None),
            ("|O", None),
            ("[('x', '>f4')]", None),
        ] {
            let dtype = Dtype::from_descr(descr);
            assert_eq!(dtype.byte_order(), byte_order, "{descr}");
            assert_eq!(dtype.in_native_order(), None, "{descr}");
        }
    }

    #[test]
    fn display_is_one_line_without_control_characters() {
        let hostile = "[('a\u{1b}[31m\n\u{202e}', '<f4'), (\"é\\'\", '<f4')]";
        let dtype = Dtype::from_descr(hostile);
        assert_eq!(dtype.to_string(), "[('a\\u{1b}[31m\\n\\u{202e}', '<f4'), (\"é\\'\", '<f4')]");
        assert_eq!(dtype.descr(), hostile);
    }

    #[test]
    fn every_kind_of_foreign_dtype_has_its_own_way_out() {
        for (descr, words) in [
            (">f8", "byte order"),
            ("[('x', '<f4')]", "offset_bytes"),
            ("('<f4', (2,))", "#[repr(C)]"),
            ("|O", "allow_pickle"),
            ("<M8[ns]", "a.view('i8')"),
            ("<U3", "a.view('u1')"),
            ("<c32", "astype"),
        ] {
            let descr = if cfg!(target_endian = "big") { descr.replace('>', "<") } else { descr.to_owned() };
            let way_out = super::super::dtype_mismatch::<f32>(&Dtype::from_descr(&descr)).to_string();
            assert!(way_out.contains(words), "{descr}: {way_out}");
        }
    }
}
