//! Times of streams on sparse files, on filesystems that share space, and on files of other users. The tests are
//! ignored by default: see `main.rs` for the command.

use crate::loop_device::{Mount, make_image, run};
use crate::raw;
use ndarray::Ix2;
use ndarray_mmap::MmapArray;
use ndarray_mmap::stream::Stream;
use std::fs::File;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
const GIB: usize = 1 << 30;
const COLUMNS: usize = 1024;

fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("ndarray-mmap-test-").tempdir_in("/var/tmp").unwrap()
}

/// Measures each of the contenders in turn, and prints the medians and their ratios to the last contender.
fn race(contenders: &mut [(&str, &mut dyn FnMut() -> Duration)]) {
    let mut times = vec![Vec::new(); contenders.len()];
    for _ in 0..ROUNDS {
        for (times, (_, run)) in times.iter_mut().zip(&mut *contenders) {
            times.push(run());
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let medians: Vec<_> = times.iter_mut().map(median).collect();
    let last = medians[medians.len() - 1];
    for ((name, _), time) in contenders.iter().zip(&medians) {
        println!("{name:28} {:8.3} s  {:5.2}", time.as_secs_f64(), time.as_secs_f64() / last.as_secs_f64());
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Drops the pages of a file.
fn cool(path: &Path) {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    let of = format!("if={}", path.display());
    Command::new("dd").args([&of, "iflag=nocache", "count=0", "status=none"]).status().unwrap();
}

/// Makes a sparse file of `len` bytes. The file contains one GiB of data, divided into `islands` separate parts.
fn make(path: &Path, len: usize, islands: usize) {
    let file = File::create(path).unwrap();
    file.set_len(len as u64).unwrap();
    let block: Vec<f32> = (0..1 << 18).map(|index| (index % 1000) as f32).collect();
    for island in 0..islands {
        for mib in 0..1024 / islands {
            let at = len / islands * island + (mib << 20);
            file.write_all_at(bytemuck::cast_slice(&block), at as u64).unwrap();
        }
    }
    file.sync_all().unwrap();
}

#[test]
#[ignore = "measures"]
fn sparse_and_dense() {
    let folder = folder();
    let (sparse, dense, out) =
        (folder.path().join("sparse"), folder.path().join("dense"), folder.path().join("out"));
    make(&sparse, 1024 * GIB, 16);
    make(&dense, GIB, 1);
    let rows = |len: usize| (len / 4 / COLUMNS, COLUMNS);
    let mean = |path: &Path, len| {
        cool(path);
        let array = raw(rows(len), 0).open::<f32, Ix2>(path).unwrap();
        timed(|| _ = Stream::from(&array).mean().unwrap())
    };
    let copy = |path: &Path, len| {
        cool(path);
        let array = raw(rows(len), 0).open::<f32, Ix2>(path).unwrap();
        let time = timed(|| _ = Stream::from(&array).write_to(&out).unwrap());
        std::fs::remove_file(&out).unwrap();
        time
    };
    race(&mut [
        ("mean, 1 TiB sparse", &mut || mean(&sparse, 1024 * GIB)),
        ("mean, dense", &mut || mean(&dense, GIB)),
    ]);
    race(&mut [
        ("copy, 1 TiB sparse", &mut || copy(&sparse, 1024 * GIB)),
        ("copy, dense", &mut || copy(&dense, GIB)),
    ]);
}

#[test]
#[ignore = "measures"]
fn clone_on_xfs() {
    let folder = folder();
    let (image, at) = (folder.path().join("image"), folder.path().join("mounted"));
    make_image(&image, 12 << 30, false).unwrap();
    run(Command::new("mkfs.xfs").arg("-q").arg(&image)).unwrap();
    let _mount = Mount::image(&image, &at).unwrap();
    let (path, out) = (at.join("source.npy"), at.join("out.npy"));
    let mut source = MmapArray::<f32, Ix2>::create(&path, (GIB / COLUMNS, COLUMNS)).unwrap();
    for mut rows in source.axis_chunks_iter_mut(ndarray::Axis(0), 1 << 16) {
        rows.fill(1.5);
    }
    source.close().unwrap();
    let source = MmapArray::<f32, Ix2>::open(&path).unwrap();
    let ours = || timed(|| _ = Stream::from(&source).write_to(&out).unwrap());
    let cp = || {
        timed(|| {
            run(Command::new("cp").arg("--reflink=always").args([&path, &out])).unwrap();
            run(Command::new("sync").arg(&out)).unwrap();
        })
    };
    let mut ours = || (ours(), std::fs::remove_file(&out).unwrap()).0;
    let mut cp = || (cp(), std::fs::remove_file(&out).unwrap()).0;
    race(&mut [("write_to", &mut ours), ("cp --reflink=always, sync", &mut cp)]);
}

#[test]
#[ignore = "measures"]
fn warm_source_of_another_user() {
    let folder = folder();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let (own, other, out) =
        (folder.path().join("own"), folder.path().join("other"), folder.path().join("out"));
    for path in [&own, &other] {
        make(path, GIB, 1);
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o644)).unwrap();
        let _ = std::fs::read(path).unwrap().len();
    }
    std::os::unix::fs::chown(&own, Some(65_534), None).unwrap();
    std::os::unix::fs::chown(folder.path(), Some(65_534), None).unwrap();
    // SAFETY: the call changes the user of this thread, and of no other thread.
    assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, -1) }, 0, "needs root");
    let open = |path: &Path| raw((GIB / 4 / COLUMNS, COLUMNS), 0).open::<f32, Ix2>(path).unwrap();
    let mean = |path: &Path| {
        let array = open(path);
        timed(|| _ = Stream::from(&array).mean().unwrap())
    };
    let copy = |path: &Path| {
        let array = open(path);
        let time = timed(|| _ = Stream::from(&array).write_to(&out).unwrap());
        std::fs::remove_file(&out).unwrap();
        time
    };
    assert!(open(&other).residency().is_err(), "the kernel reports residency only to the owner");
    race(&mut [("mean, another user's", &mut || mean(&other)), ("mean, own", &mut || mean(&own))]);
    race(&mut [("copy, another user's", &mut || copy(&other)), ("copy, own", &mut || copy(&own))]);
    // SAFETY: as above. The folder is removed as root.
    unsafe { libc::syscall(libc::SYS_setresuid, 0, 0, -1) };
}
