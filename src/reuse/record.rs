//! The record file of a result: which file is complete, and for which parameters.
//!
//! The record file has two slots of 512 bytes. A record describes one file by its length and by the time of its last
//! change. A new record replaces the record that does not describe the current file of the result. So the old result
//! stays complete until the new file gets its name. A slot is text:
//!
//! ```text
//! ndarray-mmap reuse 1
//! params <64 digits>         blake3 of the canonical bytes of the parameters
//! layout <64 digits>         blake3 of element type, shape, order and offset
//! bytes <n>                  the length of the file
//! modified <s>.<ns>          the time of the last change to the file
//! check <64 digits>          blake3 of the lines above
//! ```
//!
//! The rest of a slot consists of newlines.

use crate::error::{Error, ErrorKind, Result};
use crate::sys::{self, FileStatus};
use std::fs::File;
use std::io;
use std::path::Path;

pub(super) use blake3::Hash;

pub(super) const SLOT_BYTES: usize = 512;

pub(super) const FILE_BYTES: usize = 2 * SLOT_BYTES;

/// The length of a file, and the time of its last change. If a file is moved, or is copied together with its times, the
/// stamp stays the same. If the file is changed, the stamp changes, except on filesystems that do not update the time of
/// a file when a program stores to a mapping (tmpfs).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) bytes: u64,
    pub(super) modified: (i64, i64),
}

impl Stamp {
    pub(super) fn of(status: &FileStatus) -> Self {
        Self { bytes: status.len, modified: status.modified }
    }
}

/// The record of a complete file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) params: Hash,
    pub(super) layout: Hash,
    pub(super) stamp: Stamp,
}

impl Record {
    fn text(&self) -> String {
        let Self { params, layout, stamp: Stamp { bytes, modified: (seconds, nanoseconds) } } = self;
        let text = format!(
            "ndarray-mmap reuse 1\nparams {params}\nlayout {layout}\nbytes {bytes}\nmodified {seconds}.{nanoseconds:09}\n"
        );
        let check = blake3::hash(text.as_bytes());
        format!("{text}check {check}\n")
    }

    pub(super) fn encode(&self) -> [u8; SLOT_BYTES] {
        let (mut slot, text) = ([b'\n'; SLOT_BYTES], self.text());
        slot[..text.len()].copy_from_slice(text.as_bytes());
        slot
    }

    /// Decodes a slot. `None` if the slot is empty, damaged or only partly written.
    fn decode(slot: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(slot).ok()?;
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let (seconds, nanoseconds) = value("modified")?.split_once('.')?;
        let record = Self {
            params: Hash::from_hex(value("params")?).ok()?,
            layout: Hash::from_hex(value("layout")?).ok()?,
            stamp: Stamp {
                bytes: value("bytes")?.parse().ok()?,
                modified: (seconds.parse().ok()?, nanoseconds.parse().ok()?),
            },
        };
        // The text of the record contains the check, so a slot with any other text is damaged.
        (text.trim_end() == record.text().trim_end()).then_some(record)
    }
}

/// Reads both slots of an open record file.
pub(super) fn read_slots(file: &File) -> io::Result<[Option<Record>; 2]> {
    let mut bytes = [0; FILE_BYTES];
    match sys::fs::read_exact_at(file, &mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok([None, None]),
        read => read?,
    }
    let (first, second) = bytes.split_at(SLOT_BYTES);
    Ok([Record::decode(first), Record::decode(second)])
}

/// Reads the records at a path. There are none if the file does not exist.
pub(super) fn read_records(path: &Path) -> Result<Vec<Record>> {
    let slots = match sys::fs::open(path, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.and_then(|file| read_slots(&file)),
    };
    let slots = slots.map_err(|error| failed("a record file that can be read", error).at(path))?;
    Ok(slots.into_iter().flatten().collect())
}

/// Returns the error for a failed system call.
pub(super) fn failed(expected: &'static str, error: io::Error) -> Error {
    let error = Error::io("open_or_build", expected, error);
    match error.kind() {
        ErrorKind::PermissionDenied => error.with_remedy(
            "build the result with write access to its directory; a finished result needs read access to both files",
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(modified: (i64, i64)) -> Record {
        let stamp = Stamp { bytes: u64::MAX, modified };
        Record { params: blake3::hash(b"params"), layout: blake3::hash(b"layout"), stamp }
    }

    #[test]
    fn a_record_survives_its_slot() {
        for modified in [(0, 0), (-1, 5), (i64::MAX, 999_999_999), (i64::MIN, 1)] {
            let slot = record(modified).encode();
            assert_eq!(Record::decode(&slot), Some(record(modified)));
        }
        assert_eq!(Record::decode(&[0; SLOT_BYTES]), None);
        assert_eq!(Record::decode(&[b'\n'; SLOT_BYTES]), None);
    }

    #[test]
    fn a_damaged_slot_has_no_record() {
        let slot = record((1_700_000_000, 123_456_789)).encode();
        let text_bytes = slot.trim_ascii_end().len();
        for place in 0..text_bytes {
            let mut damaged = slot;
            damaged[place] ^= 1;
            assert_eq!(Record::decode(&damaged), None, "byte {place}");
        }
        for torn in 0..text_bytes {
            for rest in [0, b'\n'] {
                let mut damaged = slot;
                damaged[torn..].fill(rest);
                assert_eq!(Record::decode(&damaged), None, "{torn} bytes");
            }
        }
    }
}
