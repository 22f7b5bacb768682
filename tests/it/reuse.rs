//! Tests of results that are built once and found again, in one process.

use crate::support::{Tmpfs, disk_folder, memory_folder, names_in, numpy, skipped};
use ndarray::{Array2, Ix1, Ix2, Ix3, ShapeBuilder};
use ndarray_mmap::reuse::{content_hash, open_or_build, open_or_build_with};
use ndarray_mmap::stream::Stream;
use ndarray_mmap::{ArrayOptions, ErrorKind, MmapArray, ReadOnly, Result};
use serde::Serialize;
use std::error::Error as _;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

type Table = MmapArray<u32, Ix2, ReadOnly>;

fn values(number: u32) -> Array2<u32> {
    Array2::from_shape_fn((50, 7), |(row, column)| number + (row * 10 + column) as u32)
}

/// Opens or builds the table for a number. Returns the table, and whether it was built.
fn table(path: &Path, number: u32) -> (Table, bool) {
    let mut is_built = false;
    let table = open_or_build(path, &number, |out| {
        is_built = true;
        Stream::from(&values(number)).write_to(out)
    })
    .unwrap();
    assert_eq!(table, values(number));
    assert_eq!(table.path(), fs::canonicalize(path).unwrap());
    (table, is_built)
}

fn is_built(path: &Path, number: u32) -> bool {
    table(path, number).1
}

#[test]
fn a_result_is_built_once_for_equal_parameters() {
    #[derive(Serialize)]
    struct Params<'a> {
        cutoff: f64,
        name: &'a str,
    }
    let folder = memory_folder();
    let path = folder.path().join("new/folder/a.npy");
    let builds = AtomicUsize::new(0);
    let build = |cutoff, name| -> Table {
        open_or_build(&path, &Params { cutoff, name }, |out| {
            builds.fetch_add(1, Ordering::Relaxed);
            Stream::from(&values(0)).write_to(out)
        })
        .unwrap()
    };
    for (cutoff, name, expected) in [
        (f64::NAN, "a", 1),
        (f64::NAN, "a", 1),
        (0.0, "a", 2),
        (-0.0, "a", 3),
        (-0.0, "b", 4),
        (-0.0, "b", 4),
    ] {
        build(cutoff, name);
        assert_eq!(builds.load(Ordering::Relaxed), expected, "{cutoff} {name}");
    }
    assert_eq!(names_in(path.parent().unwrap()), ["a.npy", "a.npy.reuse"]);
}

#[test]
fn every_way_to_fill_a_file_builds_a_result() {
    let folder = memory_folder();
    let path = folder.path().join("a.npy");
    let options = ArrayOptions::new().shape((50, 7).f());
    let check = |number: u32, build: &dyn Fn(&Path) -> Result<()>| {
        let table: Table = open_or_build(&path, &number, build).unwrap();
        assert_eq!(table, values(number), "{number}");
        assert!(!is_built(&path, number));
    };
    check(1, &|out| Stream::from(&values(1)).write_to(out).map(drop));
    check(2, &|out| {
        let mut table = MmapArray::<u32, Ix2>::create(out, (50, 7))?;
        table.assign(&values(2));
        table.close()
    });
    check(3, &|out| {
        let mut table = options.clone().publish_on_close(true).create_new::<u32, Ix2>(out)?;
        table.assign(&values(3));
        table.close()
    });
    check(4, &|out| {
        let mut table = options.create_new::<u32, Ix2>(out)?;
        table.assign(&values(4));
        drop(table);
        Ok(())
    });
    // An array that the function returns is closed.
    let returned: Table = open_or_build(&path, &5, |out| {
        let mut table = ArrayOptions::new().shape((50, 7)).publish_on_close(true).create::<u32, Ix2>(out)?;
        table.assign(&values(5));
        Ok::<_, ndarray_mmap::Error>(table)
    })
    .unwrap();
    assert_eq!(returned, values(5));
    assert!(!is_built(&path, 5));
    if let Some(mut python) = numpy() {
        let script = "import numpy, sys; numpy.save(sys.argv[1], numpy.full((3, 4), 2.5))";
        let saved: MmapArray<f64, Ix2, _> = open_or_build(&path, &6, |out| {
            assert!(python.args(["-c", script]).arg(out).status()?.success());
            Ok::<_, std::io::Error>(())
        })
        .unwrap();
        assert_eq!(saved, Array2::from_elem((3, 4), 2.5));
    }
    assert_eq!(names_in(folder.path()), ["a.npy", "a.npy.reuse"]);
}

#[test]
fn a_build_that_fails_leaves_nothing_new() {
    let folder = memory_folder();
    let path = folder.path().join("a.npy");
    for old in [None, Some(7)] {
        if let Some(number) = old {
            table(&path, number);
        }
        let left = names_in(folder.path());
        let unchanged = || {
            assert_eq!(names_in(folder.path()), left);
            assert!(old.is_none_or(|number| !is_built(&path, number)));
        };
        let error = open_or_build::<u32, Ix2, _, (), _>(&path, &1, |out| {
            MmapArray::<u32, Ix2>::create(out, (50, 7)).unwrap();
            Err("mine".parse::<u8>().unwrap_err())
        })
        .unwrap_err();
        assert_eq!((error.kind(), error.path()), (ErrorKind::FunctionFailed, Some(path.as_path())));
        assert!(error.source().unwrap().is::<std::num::ParseIntError>());
        unchanged();

        let error = open_or_build::<u32, Ix2, _, _, _>(&path, &1, |_| {
            MmapArray::<u32, Ix2>::open("/nowhere/source.npy")
        })
        .unwrap_err();
        assert_eq!((error.kind(), error.path()), (ErrorKind::NotFound, Some("/nowhere/source.npy".as_ref())));
        unchanged();

        let panicked = std::panic::catch_unwind(|| {
            open_or_build::<u32, Ix2, _, (), ndarray_mmap::Error>(&path, &1, |out| {
                let _table = MmapArray::<u32, Ix2>::create(out, (50, 7))?;
                panic!("the function panics")
            })
        });
        assert!(panicked.is_err());
        unchanged();

        let kind = |build: &dyn Fn(&Path) -> Result<()>| {
            let kind = open_or_build::<u32, Ix2, _, _, _>(&path, &1, build).unwrap_err().kind();
            unchanged();
            kind
        };
        assert_eq!(kind(&|_| Ok(())), ErrorKind::NotFound);
        let store = |out: &Path| MmapArray::<u8, Ix2>::create(out, (50, 7))?.close();
        assert_eq!(kind(&store), ErrorKind::DtypeMismatch);
        assert_eq!(kind(&|out| MmapArray::<u32, Ix1>::create(out, 7)?.close()), ErrorKind::ShapeMismatch);
        // A writable array that is still open could change the result.
        let open = std::cell::RefCell::new(None);
        let leaks = |out: &Path| {
            *open.borrow_mut() = Some(MmapArray::<u32, Ix2>::create(out, (50, 7))?);
            Ok(())
        };
        assert_eq!(kind(&leaks), ErrorKind::InUse);
    }
}

#[test]
fn other_parameters_replace_the_result_and_readers_keep_the_old_one() {
    let folder = memory_folder();
    let path = folder.path().join("a.npy");
    let (first, _) = table(&path, 1);
    assert!(is_built(&path, 2) && is_built(&path, 1) && is_built(&path, 2));
    assert_eq!(first, values(1));
    assert!(!is_built(&path, 2));
}

#[test]
fn another_element_type_or_shape_is_built_again() {
    let folder = memory_folder();
    let path = folder.path().join("a.npy");
    let zeros = |shape: (usize, usize)| move |out: &Path| MmapArray::<i32, Ix2>::create(out, shape)?.close();
    table(&path, 1);
    let signed: MmapArray<i32, Ix2, _> = open_or_build(&path, &1, zeros((50, 7))).unwrap();
    assert_eq!(signed.sum(), 0);
    let deep: MmapArray<i32, Ix3, _> =
        open_or_build(&path, &1, |out| MmapArray::<i32, Ix3>::create(out, (1, 50, 7))).unwrap();
    assert_eq!(deep.shape(), [1, 50, 7]);
    for (shape, is_built) in [((50, 7), true), ((50, 7), false), ((7, 50), true), ((7, 50), false)] {
        let options = ArrayOptions::new().shape(shape);
        let mut called = false;
        let table: MmapArray<i32, Ix2, _> = open_or_build_with(&options, &path, &1, |out| {
            called = true;
            zeros(shape)(out)
        })
        .unwrap();
        assert_eq!((table.dim(), called), (shape, is_built));
    }
    // The bytes of a raw file do not tell its shape, order or type, but the record does.
    let raw = folder.path().join("a.raw");
    let built = |options: &ArrayOptions| {
        let mut called = false;
        let table: MmapArray<i32, Ix2, _> = open_or_build_with(options, &raw, &1, |out| {
            called = true;
            options.create::<i32, Ix2>(out)?.close()
        })
        .unwrap();
        drop(table);
        called
    };
    for options in [
        ArrayOptions::new().shape((6, 4)),
        ArrayOptions::new().shape((4, 6)),
        ArrayOptions::new().shape((4, 6).f()),
        ArrayOptions::new().shape((4, 5)).offset_bytes(16),
    ] {
        assert!(built(&options));
        assert!(!built(&options));
    }
    for shape in [(0, 3), (3, 0)] {
        assert!(built(&ArrayOptions::new().shape(shape)));
        assert!(!built(&ArrayOptions::new().shape(shape)));
    }
}

#[test]
fn a_file_that_changed_after_the_build_is_built_again() {
    let folder = disk_folder();
    let (path, record) = (folder.path().join("a.npy"), folder.path().join("a.npy.reuse"));
    let other = folder.path().join("b.npy");
    let changes: [&dyn Fn(); 8] = [
        &|| MmapArray::<u32, Ix2>::open_rw(&path).unwrap()[[3, 3]] = 9,
        &|| File::options().write(true).open(&path).unwrap().set_len(1000).unwrap(),
        &|| fs::write(&path, fs::read(&path).unwrap()).unwrap(),
        &|| fs::remove_file(&path).unwrap(),
        &|| fs::remove_file(&record).unwrap(),
        &|| fs::write(&record, "").unwrap(),
        &|| {
            // A file of the same length, for other parameters.
            table(&other, 2);
            fs::rename(&other, &path).unwrap();
        },
        &|| {
            table(&other, 2);
            fs::rename(other.with_extension("npy.reuse"), &record).unwrap();
        },
    ];
    for (index, change) in changes.iter().enumerate() {
        for _ in 0..3 {
            table(&path, 1);
            change();
            assert!(is_built(&path, 1), "change {index}");
            assert!(!is_built(&path, 1), "change {index}");
        }
    }
}

#[test]
fn a_copy_with_its_times_is_finished() {
    let (folder, copies) = (disk_folder(), disk_folder());
    let path = folder.path().join("a.npy");
    table(&path, 1);
    for (options, is_copied) in [("--preserve=timestamps", true), ("--no-preserve=timestamps", false)] {
        let mut copy = Command::new("cp");
        copy.arg(options).args([&path, &folder.path().join("a.npy.reuse")]).arg(copies.path());
        assert!(copy.status().unwrap().success());
        assert_eq!(is_built(&copies.path().join("a.npy"), 1), !is_copied);
    }
}

#[test]
fn threads_build_a_result_once() {
    let folder = disk_folder();
    let builds = AtomicUsize::new(0);
    for round in 0..5 {
        let path = folder.path().join(format!("{round}.npy"));
        let hashes: Vec<_> = std::thread::scope(|scope| {
            let get = || {
                let table: Table = open_or_build(&path, &round, |out| {
                    builds.fetch_add(1, Ordering::Relaxed);
                    Stream::from(&values(round)).write_to(out)
                })?;
                content_hash(&table)
            };
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(get)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
        });
        assert_eq!(builds.load(Ordering::Relaxed), round as usize + 1);
        assert!(hashes.iter().all(|hash| *hash == content_hash(&values(round)).unwrap()));
    }
}

#[test]
fn a_thread_takes_over_from_a_build_that_failed() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    let builds = AtomicUsize::new(0);
    let failures = std::thread::scope(|scope| {
        let get = || {
            open_or_build::<u32, Ix2, _, _, _>(&path, &1, |out| {
                std::thread::sleep(std::time::Duration::from_millis(20));
                if builds.fetch_add(1, Ordering::Relaxed) < 3 {
                    return Err("the build fails".into());
                }
                Stream::from(&values(1))
                    .write_to(out)
                    .map_err(Box::<dyn std::error::Error + Send + Sync>::from)
            })
            .is_err()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(get)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).filter(|failed| *failed).count()
    });
    assert_eq!((failures, builds.load(Ordering::Relaxed)), (3, 4));
}

#[test]
fn a_build_that_asks_for_itself_fails_and_others_can_be_nested() {
    let folder = memory_folder();
    let (path, other) = (folder.path().join("a.npy"), folder.path().join("b.npy"));
    let error = open_or_build::<u32, Ix2, _, _, _>(&path, &1, |_| {
        open_or_build::<u32, Ix2, _, _, _>(&path, &2, |out| Stream::from(&values(2)).write_to(out))
    });
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InUse);
    let nested: Table = open_or_build(&path, &1, |out| {
        Stream::from(&table(&other, 5).0).map(|rows, mut to| to.assign(&rows)).write_to(out)
    })
    .unwrap();
    assert_eq!(nested, values(5));
}

#[test]
fn names_that_cannot_be_built_are_errors() {
    let folder = memory_folder();
    let kind = |name: &str| {
        let path = folder.path().join(name);
        let built =
            open_or_build::<u32, Ix2, _, _, _>(&path, &1, |out| Stream::from(&values(1)).write_to(out));
        built.map(drop).map_err(|error| error.kind())
    };
    fs::create_dir(folder.path().join("folder.npy")).unwrap();
    fs::create_dir(folder.path().join("a.npy.reuse")).unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    assert_eq!(kind("folder.npy"), Err(ErrorKind::NotAFile));
    assert_eq!(kind("a.npy"), Err(ErrorKind::NotAFile));
    assert_eq!(kind("file/a.npy"), Err(ErrorKind::NotAFile));
    assert_eq!(kind("folder/"), Err(ErrorKind::NotAFile));
    assert_eq!(kind(""), Err(ErrorKind::NotAFile));
    assert_eq!(kind(&format!("{}.npy", "x".repeat(250))), Err(ErrorKind::InvalidInput));
    assert_eq!(kind("a.npz"), Err(ErrorKind::InvalidInput));
    assert_eq!(kind(&format!("{}.npy", "x".repeat(240))), Ok(()));
    assert_eq!(names_in(folder.path()).len(), 5);
}

#[test]
fn a_finished_result_needs_no_write_access() {
    let Some(tmpfs) = Tmpfs::mount("size=1m") else { return };
    let path = tmpfs.path().join("a.npy");
    table(&path, 1);
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(tmpfs.path()).status().unwrap();
    if !remounted.success() {
        return skipped("this process may not mount a filesystem read-only");
    }
    assert!(!is_built(&path, 1));
    for name in ["a.npy", "b.npy"] {
        let error =
            open_or_build::<u32, Ix2, _, (), ndarray_mmap::Error>(tmpfs.path().join(name), &2, |_| {
                panic!("there is no place for a result")
            });
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("write access to its directory"), "{error}");
    }
}

#[test]
fn a_full_disk_leaves_the_old_result() {
    let Some(tmpfs) = Tmpfs::mount("size=256k") else { return };
    let path = tmpfs.path().join("a.npy");
    table(&path, 1);
    let error =
        open_or_build::<u32, Ix2, _, _, _>(&path, &2, |out| MmapArray::<u32, Ix2>::create(out, (1000, 1000)));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(names_in(tmpfs.path()), ["a.npy", "a.npy.reuse"]);
    assert!(!is_built(&path, 1));
    // Without space for the record, the function is not called.
    fs::remove_file(tmpfs.path().join("a.npy.reuse")).unwrap();
    while fs::write(tmpfs.path().join(format!("{}", names_in(tmpfs.path()).len())), [1; 4096]).is_ok() {}
    let error =
        open_or_build::<u32, Ix2, _, (), ndarray_mmap::Error>(&path, &2, |_| panic!("the disk is full"));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::StorageFull);
    assert!(!tmpfs.path().join("a.npy.reuse").exists());
}
