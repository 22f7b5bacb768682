//! Tests that cut a mapped file short. Streams and guarded loads must then return an error, and no signal may end the
//! process.

use super::{Layout, Outcome, TRANSFERS, counting};
use crate::jobs::Job;
use crate::place::Place;
use ndarray::{Array2, Array3, ArrayView3, Axis, Ix2, Ix3, s};
use ndarray_mmap::stream::{Budget, Source, Stream, Transfer};
use ndarray_mmap::{ArrayOptions, Error, ErrorKind, fault};
use std::path::{Path, PathBuf};

/// Returns the lengths to which the file is cut: zero, less than the header, inside a page, at the end of a page, and
/// inside the last page.
fn cuts(len: u64) -> [u64; 5] {
    [0, 60, len / 2 + 77, len / 2 / 4096 * 4096, len - 5]
}

const LAYOUTS: [Layout; 3] = [
    Layout { offset_bytes: None, fortran: false },
    Layout { offset_bytes: Some(4096), fortran: false },
    Layout { offset_bytes: Some(12_344), fortran: true },
];

/// Runs each layout in a separate process. The case fails if one of these processes fails.
fn in_jobs(place: &Place, size: &str) -> Outcome {
    for layout in 0..LAYOUTS.len() {
        let folder = place.path(&format!("{size}-{layout}"));
        std::fs::create_dir(&folder).unwrap();
        Job::start(&["truncate", size, &layout.to_string(), folder.to_str().unwrap()]).succeed();
    }
    Outcome::Done
}

pub fn small_sources_cut_short(place: &Place) -> Outcome {
    in_jobs(place, "small")
}

pub fn large_sources_cut_short(place: &Place) -> Outcome {
    in_jobs(place, "large")
}

pub fn arrays_cut_short(place: &Place) -> Outcome {
    in_jobs(place, "array")
}

/// The job. With `small` and `large`, streams read the file. With `array`, an array is accessed inside a fault guard.
pub fn run(size: &str, layout: usize, folder: &Path) {
    let layout = LAYOUTS[layout];
    match size {
        "small" => streams(layout, folder, 64 << 10, &[0, 1, 2, 3, 4]),
        "large" => streams(layout, folder, 1 << 20, &[1, 2, 3]),
        _ => guarded(layout, folder),
    }
}

fn cut(path: &Path, len: u64) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

/// A file that the test cuts short, and the settings of the streams that read the file.
struct Victim<'a> {
    path: PathBuf,
    folder: &'a Path,
    transfer: Transfer,
}

impl Victim<'_> {
    /// Runs several kinds of streams from the view. If `early`, the file is cut before each stream starts, else when
    /// the stream first reports progress.
    fn stream(&self, view: ArrayView3<'_, f32>, len: u64, early: bool) {
        let stream = || -> Stream<'_, Source<'_, f32, Ix3>> {
            if early {
                cut(&self.path, len);
            }
            let mut is_cut = early;
            let cut_once = move |_, _| {
                if !std::mem::replace(&mut is_cut, true) {
                    cut(&self.path, len);
                }
            };
            Stream::from(view)
                .transfer(self.transfer)
                .budget(Budget::bytes(1 << 17))
                .threads(2)
                .progress(cut_once)
        };
        let out = self.folder.join("out.npy");
        let list: Vec<usize> = (0..view.len_of(Axis(0))).rev().collect();
        self.check(stream().write_to(&out).err(), len, early, "write_to");
        self.check(stream().cast::<f64>().write_to(&out).err(), len, early, "cast");
        self.check(stream().select_rows(&list).fold((), |(), _| ()).err(), len, early, "select_rows");
        self.check(stream().mean_axis0().err(), len, early, "mean_axis0");
        let options = ArrayOptions::new().scratch_directory(self.folder).shape(view.raw_dim());
        let mut target = options.scratch::<f32, Ix3>().unwrap();
        self.check(stream().copy_into(&mut target).err(), len, early, "copy_into");
        let mut memory = Array3::<f32>::zeros(view.raw_dim());
        self.check(stream().copy_into(&mut memory).err(), len, early, "copy_into memory");
    }

    /// A stream that starts after the cut must fail. A stream that was already running may have read everything before
    /// the cut.
    fn check(&self, error: Option<Error>, len: u64, early: bool, end: &str) {
        let case = format!("{end} of {:?} cut to {len}, early {early}, {:?}", self.path, self.transfer);
        match error {
            None => assert!(!early, "no error: {case}"),
            Some(error) => {
                let is_right = matches!(error.kind(), ErrorKind::LengthMismatch | ErrorKind::Fault { .. });
                assert!(is_right, "{error}: {case}");
            }
        }
        assert!(!self.folder.join("out.npy").exists() || !early, "published: {case}");
        let _ = std::fs::remove_file(self.folder.join("out.npy"));
    }
}

/// Reads whole arrays, arrays that are repeated by `broadcast`, and copy-on-write arrays with changes. The file is cut
/// before a stream or during it.
fn streams(layout: Layout, folder: &Path, total_bytes: usize, places: &[usize]) {
    let values = counting(total_bytes, 1000);
    let path = folder.join("victim");
    let rounds = [true, false].into_iter().flat_map(|early| places.iter().map(move |&place| (early, place)));
    for (round, (early, place)) in rounds.enumerate() {
        let options = layout.store(&path, &values, round % 4 < 2);
        let len = std::fs::metadata(&path).unwrap().len();
        let victim =
            Victim { path: path.clone(), folder, transfer: TRANSFERS[(round / 3 + places.len()) % 3] };
        let array = options.open::<f32, Ix2>(&path).unwrap();
        let mut private = options.open_cow::<f32, Ix2>(&path).unwrap();
        private.row_mut(values.nrows() - 1).fill(-1.0);
        let repeated = (values.nrows(), 2, values.ncols());
        let rows = array.view().insert_axis(Axis(1));
        let view = match round % 3 {
            0 => rows,
            1 => rows.broadcast(repeated).unwrap(),
            _ => private.view().insert_axis(Axis(1)),
        };
        victim.stream(view, cuts(len)[place], early);
    }
}

/// Loads and stores beyond the new end of the file are faults, which the guard returns as errors. Streams into the
/// array also fail.
fn guarded(layout: Layout, folder: &Path) {
    let values = counting(300_000, 1000);
    let path = folder.join("victim");
    for len in cuts(300_000).into_iter().take(4) {
        let options: ArrayOptions = layout.store(&path, &values, true);
        let mut array = options.open_rw::<f32, Ix2>(&path).unwrap();
        cut(&path, len);
        let error = fault::guard(|| array.sum()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Fault { .. }), "{error}");
        let error = fault::guard(|| array.slice_mut(s![250.., ..]).fill(1.0)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Fault { .. }), "{error}");
        assert!(matches!(array.flush().unwrap_err().kind(), ErrorKind::Fault { .. }));
        let copied = Stream::from(&Array2::<f32>::zeros(values.dim())).copy_into(&mut array);
        assert!(copied.is_err());
        assert!(array.close().is_err());
        assert!(options.open::<f32, Ix2>(&path).is_err());
    }
}
