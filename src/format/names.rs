//! The format that the name of a file implies.

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

/// Returns true for names that end in `.npy`, in upper or lower case, and false for names of raw files.
///
/// # Errors
///
/// `InvalidInput` for the name of a [packed](is_packed_name) NPY file.
pub(crate) fn is_npy_name(path: &Path) -> Result<bool> {
    if !is_packed_name(path) {
        return Ok(lower_case_name(path).ends_with(".npy"));
    }
    let expected = "the name of an NPY (`.npy`) or a raw file";
    let found = "the name of a compressed, archived or unfinished NPY file";
    Err(Error::new(ErrorKind::InvalidInput, "open", expected, found)
        .with_remedy("unpack it first, or choose the format with `ArrayOptions::format`"))
}

/// Returns whether the name is that of an archive, a compressed NPY file or an unfinished NPY file: `a.npz`, `a.npy.gz`,
/// `a.npy.tmp`, `a.npy~`. Such a file may contain neither the NPY format nor raw data.
pub(crate) fn is_packed_name(path: &Path) -> bool {
    let name = lower_case_name(path);
    let mut extensions = name.split('.').skip(1).map(|extension| extension.trim_end_matches('~'));
    !name.ends_with(".npy") && extensions.any(|extension| matches!(extension, "npy" | "npz"))
}

fn lower_case_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_name_implies_npy_or_raw() {
        for name in ["a.npy", "a.NPY", "/b.npz/a.Npy", "a.gz.npy", "a.npy.npy", "a.npz.npy", ".npy"] {
            assert!(is_npy_name(Path::new(name)).unwrap(), "{name}");
        }
        for name in
            ["a.raw", "a", "npy", "npz", "", "/", "a.npy/b", "a.npy/..", "anpy", "a.npyx", "a.gz", "anpz.gz"]
        {
            assert!(!is_npy_name(Path::new(name)).unwrap(), "{name}");
        }
    }

    #[test]
    fn packed_and_unfinished_files_are_neither_npy_nor_raw() {
        for name in [
            "a.npz",
            "a.NPZ",
            ".npz",
            "a.npy.gz",
            "a.npy.xz",
            "a.npy.zst",
            "a.npy.bz2",
            "a.npy.tmp",
            "a.NPY.Gz",
            "a.npz.tmp",
            "a.npz.part",
            "a.npy.1.tmp",
            "a.npy.",
            "a.npy~",
            "a.npz~",
            "a.npy.raw",
            "dir/a.b.npy.lz4",
        ] {
            let error = is_npy_name(Path::new(name)).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().ends_with("choose the format with `ArrayOptions::format`"), "{error}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn names_that_are_not_utf8_are_read_too() {
        use std::os::unix::ffi::OsStrExt;
        let path = |name: &'static [u8]| Path::new(std::ffi::OsStr::from_bytes(name));
        assert!(is_npy_name(path(b"\xff.npy")).unwrap());
        assert!(!is_npy_name(path(b"\xff.raw")).unwrap());
        assert!(is_packed_name(path(b"\xff.npy.\xff")));
    }
}
