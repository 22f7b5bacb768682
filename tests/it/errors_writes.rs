//! Tests of `copy_into` when the kernel refuses a write: the error names the cause, and the array can still be used.

use crate::support::{Tmpfs, disk_folder, is_alone};
use ndarray::{Array2, ArrayViewMut2, Ix2, s};
use ndarray_mmap::stream::{Stream, Transfer};
use ndarray_mmap::{Allocation, ArrayOptions, ErrorKind, Format, MmapArray};
use std::error::Error as _;
use std::path::Path;

const TRANSFERS: [Transfer; 3] = [Transfer::Auto, Transfer::Direct, Transfer::Buffered];
const SHAPE: (usize, usize) = (4096, 1024);
const FIRST_ROWS: usize = 64;

/// Creates a sparse array that has disk space for its first rows only.
fn sparse(path: &Path) -> MmapArray<f32, Ix2> {
    let options = ArrayOptions::new().format(Format::Raw).allocation(Allocation::Sparse).shape(SHAPE);
    let mut array = options.create::<f32, Ix2>(path).unwrap();
    array.slice_mut(s![..FIRST_ROWS, ..]).fill(1.5);
    array.flush().unwrap();
    array
}

/// Returns a destination that covers all elements. If `strided` is true, the destination covers every second column.
fn destination(array: &mut MmapArray<f32, Ix2>, strided: bool) -> ArrayViewMut2<'_, f32> {
    if strided { array.slice_mut(s![.., ..;2]) } else { array.slice_mut(s![.., ..]) }
}

/// Asserts that the array lost no data: its first rows can be written, read and flushed.
#[track_caller]
fn assert_usable(mut array: MmapArray<f32, Ix2>, strided: bool) {
    array.flush().unwrap();
    let mut part = destination(&mut array, strided);
    let rows = Array2::from_elem((FIRST_ROWS, part.ncols()), 2.5);
    Stream::from(&rows).copy_into(&mut part.slice_mut(s![..FIRST_ROWS, ..])).unwrap();
    assert_eq!(part.slice(s![..FIRST_ROWS, ..]), rows);
    array.close().unwrap();
}

#[test]
fn a_full_disk_is_an_error_and_the_array_stays_usable() {
    let Some(disk) = Tmpfs::mount("size=8m") else { return };
    let path = disk.path().join("a");
    for (transfer, strided) in
        TRANSFERS.into_iter().flat_map(|transfer| [(transfer, false), (transfer, true)])
    {
        let mut array = sparse(&path);
        let rows = Array2::<f32>::ones((SHAPE.0, if strided { SHAPE.1 / 2 } else { SHAPE.1 }));
        let stream = Stream::from(&rows).transfer(transfer);
        let error = stream.copy_into(&mut destination(&mut array, strided)).unwrap_err();
        let text = error.to_string();
        assert_eq!((error.kind(), error.path()), (ErrorKind::StorageFull, Some(array.path())), "{text}");
        assert!(text.starts_with(&format!("copy_into {path:?}: expected ")), "{text}");
        for words in [" bytes of disk space, found a full disk; ", " bytes are free: make room"] {
            assert!(text.contains(words), "{words:?} is not in {text}");
        }
        if !strided {
            assert!(text.contains("expected 16777216 bytes"), "{text}");
        }
        assert_usable(array, strided);
    }
}

#[test]
fn a_file_size_limit_is_an_error_and_the_array_stays_usable() {
    if !is_alone("errors_writes::a_file_size_limit_is_an_error_and_the_array_stays_usable") {
        return;
    }
    let folder = disk_folder();
    let arrays = TRANSFERS.map(|transfer| {
        let open = |name: &str| sparse(&folder.path().join(format!("{transfer:?} {name}")));
        (transfer, [(open("contiguous"), false), (open("strided"), true)])
    });
    let limit = libc::rlimit { rlim_cur: 4 << 20, rlim_max: 4 << 20 };
    // SAFETY: the pointer is to a live structure; no other test runs in this process.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
    for (transfer, arrays) in arrays {
        for (mut array, strided) in arrays {
            let rows = Array2::<f32>::ones((SHAPE.0, if strided { SHAPE.1 / 2 } else { SHAPE.1 }));
            let copied =
                Stream::from(&rows).transfer(transfer).copy_into(&mut destination(&mut array, strided));
            if strided {
                // A store to a mapped page does not make the file longer, so the size limit does not affect the store.
                copied.unwrap();
                assert_eq!(destination(&mut array, true), rows);
            } else {
                let error = copied.unwrap_err();
                let text = error.to_string();
                assert_eq!(
                    (error.kind(), error.path()),
                    (ErrorKind::SizeOverflow, Some(array.path())),
                    "{text}"
                );
                assert!(
                    text.starts_with(&format!(
                        "copy_into {:?}: expected to write 16777216 bytes",
                        array.path()
                    ))
                );
                assert!(
                    text.contains("found a limit below this length; raise the limit `ulimit -f`"),
                    "{text}"
                );
                assert!(error.source().is_some_and(|source| source.to_string().ends_with("(os error 27)")));
            }
            assert_usable(array, strided);
        }
    }
}
