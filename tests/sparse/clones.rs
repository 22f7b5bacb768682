//! Streams that share disk space between files.

use crate::filesystems;
use ndarray::{Array2, Axis, Ix2, s};
use ndarray_mmap::stream::{Stream, Transfer};
use ndarray_mmap::{ErrorKind, MmapArray, close_path};
use std::path::Path;
use std::process::Command;

const SHAPE: (usize, usize) = (3000, 1001);

fn values() -> Array2<f32> {
    Array2::from_shape_fn(SHAPE, |(row, column)| (row * 7 + column) as f32)
}

/// Returns whether the file shares an extent with another file. Returns `None` if the machine has no program that
/// reports extents.
fn shares_space(path: &Path) -> Option<bool> {
    let output = Command::new("filefrag").arg("-v").arg(path).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).contains("shared"))
}

fn check(path: &Path, shares: bool, case: &str) {
    match shares_space(path) {
        Some(found) => assert_eq!(found, shares, "{case}"),
        None => println!("SKIPPED: no `filefrag`"),
    }
}

#[test]
fn unchanged_rows_share_disk_space() {
    for filesystem in filesystems(&["xfs", "btrfs", "plain"]) {
        let folder = &filesystem.directory;
        let can_share = filesystem.name != "plain";
        let (path, out) = (folder.join("source.npy"), folder.join("out.npy"));
        let mut source = MmapArray::<f32, Ix2>::create(&path, SHAPE).unwrap();
        source.assign(&values()); // every page is dirty
        let name = &filesystem.name;
        let copied = Stream::from(&source).write_to(&out).unwrap();
        assert_eq!(copied, values(), "{name}");
        check(&out, can_share, name);
        source.fill(5.0);
        source.flush().unwrap();
        assert_eq!(copied, values(), "{name}: the copy has its own content");
        source.assign(&values());
        drop(copied);

        for transfer in [Transfer::Direct, Transfer::Buffered] {
            let copied = Stream::from(&source).transfer(transfer).write_to(&out).unwrap();
            assert_eq!(copied, values(), "{name}, {transfer:?}");
            check(&out, false, &format!("{name}, {transfer:?}"));
        }
        // A part of a file is cloned only if the caller asks for it.
        for (transfer, shares) in [(Transfer::Auto, false), (Transfer::Clone, can_share)] {
            let copied = Stream::from(&source).rows(..2048).transfer(transfer).write_to(&out).unwrap();
            assert_eq!(copied, values().slice(s![..2048, ..]), "{name}, {transfer:?}");
            check(&out, shares, &format!("{name}, {transfer:?}, part"));
        }
        // Rows that start at another offset within a page are copied.
        let stream = Stream::from(&source).rows(1..).transfer(Transfer::Clone);
        assert_eq!(stream.write_to(&out).unwrap(), values().slice(s![1.., ..]), "{name}");
        let mapped =
            Stream::from(&source).transfer(Transfer::Clone).map(|rows, mut out| out.assign(&(&rows * 2.0)));
        assert_eq!(mapped.write_to(&out).unwrap(), values() * 2.0, "{name}");
    }
}

#[test]
fn a_destination_shares_its_inner_pages_and_keeps_its_other_rows() {
    for filesystem in filesystems(&["xfs", "btrfs", "plain"]) {
        let folder = &filesystem.directory;
        let name = &filesystem.name;
        let source = MmapArray::<f32, Ix2>::create(folder.join("source.npy"), SHAPE);
        let mut source = source.unwrap();
        source.assign(&values());
        let path = folder.join("target.npy");
        let mut target = MmapArray::<f32, Ix2>::create(&path, SHAPE).unwrap();
        target.fill(3.0); // every page is dirty and mapped
        let stream = || Stream::from(&source).rows(1024..2900).transfer(Transfer::Clone);
        stream().copy_into(&mut target.slice_mut(s![1024..2900, ..])).unwrap();
        assert_eq!(target.slice(s![1024..2900, ..]), values().slice(s![1024..2900, ..]), "{name}");
        let mut others = target.slice(s![..1024, ..]).into_iter().chain(target.slice(s![2900.., ..]));
        assert!(others.all(|&value| value == 3.0), "{name}");
        check(&path, name != "plain", name);
        target.index_axis_mut(Axis(0), 2000).fill(8.0); // a store to shared pages
        target.close().unwrap();
        assert_eq!(source, values(), "{name}: the source is unchanged");
        let target = MmapArray::<f32, Ix2>::open(&path).unwrap();
        assert_eq!((target[(2000, 0)], target[(2001, 0)]), (8.0, values()[(2001, 0)]), "{name}");
    }
}

#[test]
fn a_source_that_is_closed_by_its_path_is_not_cloned() {
    for filesystem in filesystems(&["xfs"]) {
        let folder = &filesystem.directory;
        let path = folder.join("source.npy");
        let mut source = MmapArray::<f32, Ix2>::create(&path, SHAPE).unwrap();
        source.assign(&values());
        let close = |_, _| drop(close_path(&path));
        let error = Stream::from(&source).progress(close).write_to(folder.join("out.npy")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1);
    }
}
