//! numpy's `.npy` header: bytes to [`Header`] and back.
//!
//! ```text
//! bytes  0..6   \x93NUMPY
//!        6..8   version, major and minor: 1.0, 2.0 or 3.0
//!        8..10  length of the text in bytes, little-endian (version 1; 8..12 in versions 2 and 3)
//!        then   the text: a Python dictionary, spaces up to a multiple of 64 bytes, a newline
//!        then   the data
//! ```

use std::io::Read;

use crate::error::{Error, ErrorKind, Result};

use super::dict::{self, Dict, LongSuffix, invalid};

/// What [`decode`] says it was doing, until the caller says it better.
pub(super) const READ: &str = "read NPY header";

/// numpy's own limit (`NPY_MAXDIMS`, since 2.0); a file of more dimensions is of no use to it.
pub(super) const MAX_DIMENSIONS: usize = 64;

/// The longest text that `np.load` takes from a file it was not told to trust, in characters.
const MAX_TEXT_CHARS: usize = 10_000;

/// Data starts at a multiple of this in what numpy writes (`ARRAY_ALIGN`).
const ALIGNMENT_BYTES: usize = 64;

/// numpy leaves room for this many digits in the length of the axis that can grow (`GROWTH_AXIS_MAX_DIGITS`), so that
/// rows can be appended and the header rewritten where it is.
const GROWTH_AXIS_DIGITS: usize = 21;

const MAGIC: &[u8] = b"\x93NUMPY";

/// What an NPY file says of its array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The dtype as the file spells it, without quotes: `<f4`. Of a structured dtype the Python list, `[('x', '<f4')]`.
    pub descr: String,
    /// Whether the first axis varies fastest.
    pub fortran_order: bool,
    /// The lengths of the axes. Those that are not zero multiply to at most `isize::MAX`.
    pub shape: Vec<usize>,
    /// Where the data starts, in bytes from the start of the file.
    pub data_offset: u64,
}

/// The header that numpy writes for such an array, to the byte; the data follows it directly.
///
/// npyz's writer spells shapes in its own way (`(3, 4, )`) and leaves no room to grow, so the text is made here.
///
/// # Errors
///
/// `InvalidInput` for more than 64 dimensions, or a descriptor that cannot stand in the text.
pub(crate) fn encode(descr: &str, fortran_order: bool, shape: &[usize]) -> Result<Vec<u8>> {
    if shape.len() > MAX_DIMENSIONS {
        let found = format!("{} dimensions", shape.len());
        return Err(unwritable("at most 64 dimensions, as numpy has them", found));
    }
    let mut text = dict_text(&quoted(descr)?, fortran_order, shape);
    let growing_length = if fortran_order { shape.last() } else { shape.first() };
    if let Some(length) = growing_length {
        let digits = length.to_string().len();
        text.extend(std::iter::repeat_n(' ', GROWTH_AXIS_DIGITS - digits));
    }
    wrap(&text)
}

/// Reads a header of version 1, 2 or 3 from the start of a file; `reader` then stands at the first byte of data.
///
/// Takes no more time and memory for a hostile header than for the longest honest one (10,000 characters).
///
/// # Errors
///
/// `InvalidHeader` for anything that numpy would not write, `SizeOverflow` for a shape that cannot be addressed,
/// or what the reader reported.
pub(crate) fn decode(reader: &mut impl Read) -> Result<Header> {
    let magic = read_exactly(reader, MAGIC.len(), "the magic bytes \\x93NUMPY at the start")?;
    if magic != MAGIC {
        let found = format!("`{}`", magic.escape_ascii());
        return Err(invalid("the magic bytes \\x93NUMPY at the start", found)
            .or_else_try("a file without a header is opened with Format::Raw"));
    }
    let version = Version::read(reader)?;
    let text_bytes = version.read_text_length(reader)?;
    let text = version.read_text(reader, text_bytes)?;
    let Dict { descr, fortran_order, shape } = dict::parse(&text, version.long_suffix())?;
    let data_offset = (version.prefix_bytes() + text_bytes) as u64;
    Ok(Header { descr, fortran_order, shape, data_offset })
}

/// The dictionary as Python's `repr` spells it; `descr` with its quotes.
fn dict_text(descr: &str, fortran_order: bool, shape: &[usize]) -> String {
    let order = if fortran_order { "True" } else { "False" };
    let lengths: Vec<String> = shape.iter().map(usize::to_string).collect();
    let comma = if shape.len() == 1 { "," } else { "" };
    let shape = lengths.join(", ");
    format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': ({shape}{comma}), }}")
}

/// A plain descriptor in quotes, a structured one as it stands.
fn quoted(descr: &str) -> Result<String> {
    let structured = descr.starts_with(['[', '(']);
    let refused = |c: char| !matches!(c, ' '..='~') || (!structured && matches!(c, '\'' | '"' | '\\'));
    if descr.is_empty() || descr.contains(refused) {
        return Err(unwritable("a dtype descriptor such as '<f4'", format!("{descr:?}")));
    }
    Ok(if structured { descr.to_owned() } else { format!("'{descr}'") })
}

/// Puts magic, version and length before the text, and after it spaces and a newline up to the alignment.
fn wrap(text: &str) -> Result<Vec<u8>> {
    let one = padded_text_bytes(text, Version::One);
    let (version, length_field) = match u16::try_from(one) {
        Ok(text_bytes) => (Version::One, text_bytes.to_le_bytes().to_vec()),
        Err(_) => (Version::Two, long_length_field(padded_text_bytes(text, Version::Two))?),
    };
    let mut header = Vec::with_capacity(version.prefix_bytes() + padded_text_bytes(text, version));
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&[version.major(), 0]);
    header.extend_from_slice(&length_field);
    header.extend_from_slice(text.as_bytes());
    header.resize(version.prefix_bytes() + padded_text_bytes(text, version) - 1, b' ');
    header.push(b'\n');
    Ok(header)
}

fn long_length_field(text_bytes: usize) -> Result<Vec<u8>> {
    let text_bytes = u32::try_from(text_bytes)
        .map_err(|_| unwritable("a header shorter than 4 GiB", format!("one of {text_bytes} bytes")))?;
    Ok(text_bytes.to_le_bytes().to_vec())
}

/// The length of the text with its padding and newline. numpy adds 64 spaces rather than none.
fn padded_text_bytes(text: &str, version: Version) -> usize {
    let unpadded = text.len() + 1;
    unpadded + ALIGNMENT_BYTES - (version.prefix_bytes() + unpadded) % ALIGNMENT_BYTES
}

fn unwritable(expected: &'static str, found: String) -> Error {
    Error::new(ErrorKind::InvalidInput, "write NPY header", expected, found)
}

/// Exactly `count` bytes, or an error that says how many there were.
fn read_exactly(reader: &mut impl Read, count: usize, expected: &'static str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(count);
    let found = reader
        .by_ref()
        .take(count as u64)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io(READ, expected, error))?;
    if found < count {
        return Err(invalid(expected, format!("the end of the file after {found} of {count} bytes")));
    }
    Ok(bytes)
}

/// The versions of the format; they differ in the width of the length and in the encoding of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
    Three,
}

impl Version {
    fn read(reader: &mut impl Read) -> Result<Self> {
        const EXPECTED: &str = "version 1.0, 2.0 or 3.0";
        match read_exactly(reader, 2, EXPECTED)?[..] {
            [1, 0] => Ok(Self::One),
            [2, 0] => Ok(Self::Two),
            [3, 0] => Ok(Self::Three),
            ref other => Err(invalid(EXPECTED, format!("version {}.{}", other[0], other[1]))),
        }
    }

    fn major(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Three => 3,
        }
    }

    /// How many bytes come before the text.
    fn prefix_bytes(self) -> usize {
        if self == Self::One { 10 } else { 12 }
    }

    fn long_suffix(self) -> LongSuffix {
        if self == Self::Three { LongSuffix::Refused } else { LongSuffix::Allowed }
    }

    fn read_text_length(self, reader: &mut impl Read) -> Result<usize> {
        let field_bytes = self.prefix_bytes() - MAGIC.len() - 2;
        let field = read_exactly(reader, field_bytes, "the length of the header")?;
        let text_bytes = field.iter().rev().fold(0_u64, |length, &byte| length << 8 | u64::from(byte));
        match usize::try_from(text_bytes) {
            Ok(text_bytes) if text_bytes <= self.max_text_bytes() => Ok(text_bytes),
            _ => Err(too_long(format!("one of {text_bytes} bytes"))),
        }
    }

    fn max_text_bytes(self) -> usize {
        if self == Self::Three { MAX_TEXT_CHARS * char::MAX.len_utf8() } else { MAX_TEXT_CHARS }
    }

    /// The text: Latin-1 in versions 1 and 2, UTF-8 in version 3.
    fn read_text(self, reader: &mut impl Read, text_bytes: usize) -> Result<String> {
        let bytes = read_exactly(reader, text_bytes, "as much text as the header says it has")?;
        if self != Self::Three {
            return Ok(bytes.into_iter().map(char::from).collect());
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            invalid("text in UTF-8, as version 3.0 has it", error.utf8_error().to_string())
        })?;
        match text.chars().count() {
            0..=MAX_TEXT_CHARS => Ok(text),
            chars => Err(too_long(format!("one of {chars}"))),
        }
    }
}

fn too_long(found: String) -> Error {
    invalid("a header of at most 10000 characters, as numpy has it", found)
}

#[cfg(test)]
mod tests;
