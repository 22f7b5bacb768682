//! Decodes and encodes numpy's `.npy` header ([`Header`]).
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

use super::dict::{self, Dict, LongSuffix, MAX_DIMENSIONS, READ, invalid};

/// The maximum length of the header text in characters. `np.load` has the same limit, unless its caller marks the file
/// as trusted.
const MAX_TEXT_CHARS: usize = 10_000;

/// The alignment of the data in bytes. numpy starts the data at a multiple of this number (`ARRAY_ALIGN`).
const ALIGNMENT_BYTES: usize = 64;

/// The number of digits that numpy reserves for the length of the axis that can grow (`GROWTH_AXIS_MAX_DIGITS`). With
/// this space a program can append rows and rewrite the header in place.
const GROWTH_AXIS_DIGITS: usize = 21;

const MAGIC: &[u8] = b"\x93NUMPY";

/// The header of an NPY file, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The dtype as the file spells it, without quotes, for example `<f4`. For a structured dtype it is the Python
    /// list, for example `[('x', '<f4')]`.
    pub descr: String,
    /// Whether the array is in Fortran order: the index of the first axis varies fastest.
    pub fortran_order: bool,
    /// The lengths of the axes. The product of the lengths that are not zero is at most `isize::MAX`.
    pub shape: Vec<usize>,
    /// The offset in the file at which the data starts, in bytes.
    pub data_offset: u64,
    /// The version of the format, major and minor.
    pub version: (u8, u8),
}

/// Returns an error if the crate was built without its feature `npy`.
pub(crate) fn check_enabled() -> Result<()> {
    if cfg!(feature = "npy") {
        return Ok(());
    }
    let expected = "the crate's feature `npy`";
    Err(Error::new(ErrorKind::Unsupported, "open", expected, "a build without it")
        .with_remedy("`Format::Raw` needs no feature"))
}

/// Returns the bytes of the header, which are the same as those that numpy writes for such an array. The data follows
/// the header directly.
///
/// This crate writes the text itself because npyz spells shapes differently (`(3, 4, )`) and reserves no space for a
/// growing length.
///
/// # Errors
///
/// `InvalidInput` for more than 64 dimensions, or for a descriptor that the text cannot contain.
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

/// Reads a header of version 1, 2 or 3 from the start of a file. Afterwards the next byte of `reader` is the first byte
/// of data.
///
/// A hostile header costs no more time and memory than the longest valid one (10,000 characters).
///
/// # Errors
///
/// - `InvalidHeader` for a header that numpy would not write.
/// - `SizeOverflow` for a shape that cannot be addressed.
/// - An error of the reader.
pub(crate) fn decode(reader: &mut impl Read) -> Result<Header> {
    read_magic(reader)?;
    decode_after_magic(reader)
}

/// Reads and checks the magic bytes with which every NPY file starts.
pub(crate) fn read_magic(reader: &mut impl Read) -> Result<()> {
    const EXPECTED: &str = "the magic bytes \\x93NUMPY at the start";
    let magic = read_exactly(reader, MAGIC.len(), EXPECTED)?;
    if magic == MAGIC {
        return Ok(());
    }
    Err(invalid(EXPECTED, format!("`{}`", magic.escape_ascii()))
        .with_remedy("a file without a header is opened with Format::Raw"))
}

/// Reads the rest of a header, which starts with the version.
pub(crate) fn decode_after_magic(reader: &mut impl Read) -> Result<Header> {
    let version = Version::read(reader)?;
    let text_bytes = version.read_text_length(reader)?;
    let text = version.read_text(reader, text_bytes)?;
    let Dict { descr, fortran_order, shape } = dict::parse(&text, version.long_suffix())?;
    let data_offset = (version.prefix_bytes() + text_bytes) as u64;
    Ok(Header { descr, fortran_order, shape, data_offset, version: (version.major(), 0) })
}

/// Returns the dictionary as Python's `repr` spells it. `descr` includes its quotes.
fn dict_text(descr: &str, fortran_order: bool, shape: &[usize]) -> String {
    let order = if fortran_order { "True" } else { "False" };
    format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {}, }}", python_tuple(shape))
}

/// Returns a shape as Python spells it: `()`, `(3,)`, `(3, 4)`.
pub(crate) fn python_tuple(shape: &[usize]) -> String {
    let lengths: Vec<String> = shape.iter().map(usize::to_string).collect();
    let comma = if shape.len() == 1 { "," } else { "" };
    format!("({}{comma})", lengths.join(", "))
}

/// Returns a plain descriptor in quotes, and a structured one unchanged.
fn quoted(descr: &str) -> Result<String> {
    let structured = descr.starts_with(['[', '(']);
    let refused = |c: char| !matches!(c, ' '..='~') || (!structured && matches!(c, '\'' | '"' | '\\'));
    if descr.is_empty() || descr.contains(refused) {
        return Err(unwritable("a dtype descriptor such as '<f4'", format!("{descr:?}")));
    }
    Ok(if structured { descr.to_owned() } else { format!("'{descr}'") })
}

/// Adds magic bytes, version and length before the text, and pads the text with spaces and a newline to the alignment.
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

/// Returns the length of the text with its padding and newline. If no padding is needed, numpy adds 64 spaces.
fn padded_text_bytes(text: &str, version: Version) -> usize {
    let unpadded = text.len() + 1;
    unpadded + ALIGNMENT_BYTES - (version.prefix_bytes() + unpadded) % ALIGNMENT_BYTES
}

fn unwritable(expected: &'static str, found: String) -> Error {
    Error::new(ErrorKind::InvalidInput, "write NPY header", expected, found)
        .with_remedy("`Format::Raw` takes any array")
}

/// Reads exactly `count` bytes. If there are fewer bytes, the error says how many.
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

/// A version of the format. The versions differ in the width of the length field and in the encoding of the text.
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

    /// Returns the number of bytes before the text.
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

    /// Reads the text, which is Latin-1 in versions 1 and 2, and UTF-8 in version 3.
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
