//! Tests of streams that read and write parts of files, Fortran order, views, and dirty pages.

use crate::stream::{TRANSFERS, counting, read, stored};
use crate::support::disk_folder;
use ndarray::{Array1, Array3, ArrayView, Axis, Ix1, Ix2, Ix3, ShapeBuilder, s};
use ndarray_mmap::stream::{Budget, Stream, copy};
use ndarray_mmap::{ArrayOptions, MmapArray};

#[test]
fn bytes_around_a_destination_do_not_change() {
    let folder = disk_folder();
    let path = folder.path().join("around");
    for (before, after) in [(1, 1), (4096, 8192), (5000, 123), (4095, 4097)] {
        for len in [1, 100, 4096, 3_000_001] {
            for transfer in TRANSFERS {
                std::fs::write(&path, vec![7_u8; before + len + after]).unwrap();
                let mut target = ArrayOptions::new()
                    .shape(len)
                    .offset_bytes(before as u64)
                    .open_rw::<u8, Ix1>(&path)
                    .unwrap();
                let values = Array1::from_shape_fn(len, |index| (index % 251) as u8);
                Stream::from(&values).transfer(transfer).copy_into(&mut target).unwrap();
                assert_eq!(target, values);
                target.close().unwrap();
                let bytes = std::fs::read(&path).unwrap();
                assert_eq!(bytes.len(), before + len + after);
                assert!(bytes[..before].iter().chain(&bytes[before + len..]).all(|&byte| byte == 7));
                assert_eq!(bytes[before..before + len], values.to_vec());
            }
        }
    }
}

#[test]
fn a_mapped_destination_shows_the_written_rows_and_keeps_the_others() {
    let folder = disk_folder();
    let mut target = MmapArray::<f32, Ix2>::create(folder.path().join("target.npy"), (3000, 1000)).unwrap();
    let values = counting((1000, 1000));
    for (transfer, first) in TRANSFERS.into_iter().zip([0, 999, 2000]) {
        target.fill(first as f32); // every page is dirty and mapped
        let mut middle = target.slice_mut(s![first..first + 1000, ..]);
        Stream::from(&values).transfer(transfer).copy_into(&mut middle).unwrap();
        assert_eq!(middle, values, "{transfer:?}");
        let untouched = first as f32;
        assert!(target.slice(s![..first, ..]).iter().all(|&value| value == untouched), "{transfer:?}");
        assert!(target.slice(s![first + 1000.., ..]).iter().all(|&value| value == untouched), "{transfer:?}");
    }
    target.slice_mut(s![2000.., ..]).fill(0.5); // stores through the mapping still reach the file
    target.close().unwrap();
    let again = read::<f32, Ix2>(&folder.path().join("target.npy"));
    assert!(again.slice(s![2000.., ..]).iter().all(|&value| value == 0.5));
}

#[test]
fn changes_that_are_only_in_memory_are_copied() {
    let folder = disk_folder();
    let mut source = MmapArray::<f32, Ix2>::create(folder.path().join("source.npy"), (2000, 1000)).unwrap();
    source.evict().unwrap();
    for transfer in TRANSFERS {
        source.slice_mut(s![500..700, ..]).mapv_inplace(|value| value + 1.5); // these rows are dirty and not flushed
        let written =
            Stream::from(&source).transfer(transfer).write_to(folder.path().join("copy.npy")).unwrap();
        assert_eq!(written, source, "{transfer:?}");
    }
    source.close().unwrap();
    let mut private = MmapArray::<f32, Ix2>::open_cow(folder.path().join("source.npy")).unwrap();
    private.row_mut(3).fill(9.0);
    let written = Stream::from(&private).write_to(folder.path().join("copy.npy")).unwrap();
    assert_eq!(written, private);
    assert_eq!(written[[3, 5]], 9.0);
}

#[test]
fn fortran_order_on_either_side() {
    let folder = disk_folder();
    let c = counting((700, 30, 11));
    let f = {
        let mut array = Array3::zeros((700, 30, 11).f());
        array.assign(&c);
        array
    };
    for cold in [true, false] {
        let source = stored(&folder.path().join("source.npy"), &f, 0, cold);
        assert_eq!(Stream::from(&source).write_to(folder.path().join("c.npy")).unwrap(), c);
        assert_eq!(
            Stream::from(&source).rows(3..200).cast::<f64>().write_to(folder.path().join("c.npy")).unwrap(),
            c.slice(s![3..200, .., ..]).mapv(f64::from)
        );
        let rows = [600, 1, 1, 77];
        assert_eq!(
            Stream::from(&source).select_rows(&rows).write_to(folder.path().join("c.npy")).unwrap(),
            c.select(Axis(0), &rows)
        );
        let mut target = ArrayOptions::new()
            .shape((700, 30, 11).f())
            .create::<f32, Ix3>(folder.path().join("f.npy"))
            .unwrap();
        for transfer in TRANSFERS {
            target.fill(-1.0);
            Stream::from(&source).transfer(transfer).copy_into(&mut target).unwrap();
            assert_eq!(target, c, "Fortran to Fortran, {transfer:?}");
            target.fill(-1.0);
            Stream::from(&c)
                .transfer(transfer)
                .map(|chunk, mut out| out.assign(&chunk))
                .copy_into(&mut target)
                .unwrap();
            assert_eq!(target, c, "C to Fortran, {transfer:?}");
        }
        target.close().unwrap();
        assert_eq!(read::<f32, Ix3>(&folder.path().join("f.npy")), c);
    }
}

#[test]
fn views_that_are_not_contiguous() {
    let folder = disk_folder();
    let values = counting((400, 9, 70));
    let path = folder.path().join("out.npy");
    for offset_bytes in [0, 52] {
        let source = stored(&folder.path().join("source"), &values, offset_bytes, true);
        let check = |view: ArrayView<'_, f32, Ix3>| {
            let written = Stream::from(view).budget(Budget::bytes(1 << 20)).write_to(&path).unwrap();
            assert_eq!(written, view);
        };
        check(source.slice(s![.., 2..7;2, 60..]));
        check(source.slice(s![..;-3, ..;-1, ..;-9]));
        check(source.view().permuted_axes([2, 0, 1]));
        check(source.view().permuted_axes([1, 2, 0]));
        check(source.view().reversed_axes().slice_move(s![5..40, .., 100..300]));
        check(source.slice(s![100..101, .., ..]).broadcast((50, 9, 70)).unwrap());
        let inner = source.slice(s![7, .., 1..]);
        assert_eq!(Stream::from(&inner).write_to(&path).unwrap(), inner);
    }
    let mut target = MmapArray::<f32, Ix3>::create(folder.path().join("target.npy"), (400, 9, 140)).unwrap();
    let mut odd = target.slice_mut(s![.., .., 1..;2]);
    copy(&values, &mut odd).unwrap();
    assert_eq!(target.slice(s![.., .., 1..;2]), values);
    assert!(target.slice(s![.., .., ..;2]).iter().all(|&value| value == 0.0));
}

#[test]
fn elements_that_interlock_in_one_array_do_not_overlap() {
    let folder = disk_folder();
    let mut array = MmapArray::<f32, Ix2>::create(folder.path().join("a.npy"), (3000, 200)).unwrap();
    array.assign(&counting((3000, 200)));
    let expected = array.slice(s![..1500, ..]).to_owned();
    let (upper, mut lower) = array.view_mut().split_at(Axis(0), 1500);
    copy(&upper, &mut lower).unwrap();
    assert_eq!(array.slice(s![1500.., ..]), expected);
    let expected = array.slice(s![.., ..100]).to_owned();
    let (left, mut right) = array.view_mut().split_at(Axis(1), 100);
    copy(&left, &mut right).unwrap();
    assert_eq!(array.slice(s![.., 100..]), expected);
}

#[test]
fn a_file_in_memory() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let values = counting((3000, 500));
    let source = stored(&folder.path().join("source.npy"), &values, 0, true);
    for transfer in TRANSFERS {
        let written =
            Stream::from(&source).transfer(transfer).write_to(folder.path().join("out.npy")).unwrap();
        assert_eq!(written, values);
        let list = [5, 2, 2999, 2];
        let picked = Stream::from(&source)
            .transfer(transfer)
            .select_rows(&list)
            .write_to(folder.path().join("out.npy"));
        assert_eq!(picked.unwrap(), values.select(Axis(0), &list));
        let mut target =
            MmapArray::<f32, Ix2>::create(folder.path().join("target.npy"), (3000, 500)).unwrap();
        copy(&source, &mut target).unwrap();
        assert_eq!(target, values);
    }
}
