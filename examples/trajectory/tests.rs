//! The example's own promises: what it copies is what was decoded, it leaves nothing behind, and no input brings it down.

use super::*;
use molly::{Frame, XTCWriter};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Writes a trajectory whose coordinates are all different.
fn xtc_file(folder: &TempDir, frames: u32, atoms: u32) -> PathBuf {
    let path = folder.path().join(format!("{frames}x{atoms}.xtc"));
    let mut writer = XTCWriter::create(&path).unwrap();
    for step in 0..frames {
        let positions = (0..3 * atoms).map(|index| (index + 3 * atoms * step) as f32 / 100.0).collect();
        writer.write_frame(&Frame { step, positions, ..Frame::default() }).unwrap();
    }
    path
}

/// A folder on a disk: the figures mean nothing in memory.
fn disk_folder() -> TempDir {
    folder::temporary(None).unwrap()
}

fn meter() -> Meter {
    Meter::new(Interrupt::watch().unwrap())
}

fn file_count(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn a_run_copies_what_was_decoded_and_leaves_nothing() {
    let (input, dir) = (disk_folder(), disk_folder());
    let at_least_bytes = 40 << 20; // more than one chunk
    let args = Args {
        xtc: Some(xtc_file(&input, 7, 1000)),
        at_least_bytes,
        dir: Some(dir.path().to_owned()),
        json: true,
    };
    let report = run(&args).unwrap();
    assert!(report.verified);
    assert_eq!(report.bytes, report.frames * 12_000);
    assert_eq!(report.frames as u64, at_least_bytes.div_ceil(12_000));
    assert!(
        report.peak_cache_bytes > 0 && report.peak_cache_bytes < 128 << 20,
        "{}",
        report.peak_cache_bytes
    );
    assert_eq!(file_count(dir.path()), 0);
}

#[test]
fn one_changed_bit_is_found() {
    let folder = disk_folder();
    let mut xtc = Xtc::open(&xtc_file(&folder, 3, 20)).unwrap();
    let [one, two] = ["one.npy", "two.npy"].map(|name| folder.path().join(name));
    for path in [&one, &two] {
        fill(&mut Trajectory::create(path, (8, 20, 3)).unwrap(), &mut xtc, &mut meter()).unwrap();
    }
    let mut verified = || {
        let arrays = [&one, &two].map(|path| Trajectory::open(path).unwrap());
        verify([&arrays[0], &arrays[1]], &mut xtc, &mut meter()).unwrap()
    };
    assert!(verified());
    for path in [&one, &two] {
        let flip = || {
            let mut array = Trajectory::open_rw(path).unwrap();
            let x = &mut array[[7, 19, 2]];
            *x = f32::from_bits(x.to_bits() ^ 1);
        };
        flip();
        assert!(!verified());
        flip();
    }
    assert!(verified());
}

#[test]
fn a_request_to_stop_is_an_error_with_the_signal_in_its_exit_code() {
    let folder = disk_folder();
    let mut xtc = Xtc::open(&xtc_file(&folder, 3, 20)).unwrap();
    let mut meter = Meter::new(Interrupt::as_if_caught(15));
    let error =
        fill(&mut Trajectory::create(folder.path().join("a.npy"), (8, 20, 3)).unwrap(), &mut xtc, &mut meter);
    let error = error.unwrap_err();
    assert!(error.to_string().contains("signal 15"), "{error}");
    assert_eq!(format!("{:?}", interrupt::exit_code(&*error)), format!("{:?}", ExitCode::from(128 + 15)));
}

#[test]
fn frames_are_decoded_and_repeat() {
    let folder = disk_folder();
    for atoms in [1, 9, 10, 500] {
        let mut xtc = Xtc::open(&xtc_file(&folder, 4, atoms)).unwrap();
        assert_eq!(xtc.atoms(), atoms as usize);
        for frame in 0..10 {
            let positions = xtc.next_positions().unwrap();
            assert_eq!(positions.dim(), (atoms as usize, 3));
            let first = (frame % 4 * 3 * atoms) as f32;
            for (index, x) in positions.iter().enumerate() {
                assert!((x - (first + index as f32) / 100.0).abs() < 1e-3, "{x} at {index} of frame {frame}");
            }
        }
        assert_eq!(xtc.frames_to_reach(0), 4);
        assert_eq!(xtc.frames_to_reach(u64::from(atoms) * 12 * 9 + 1), 10);
    }
}

/// Opens and decodes everything; all that matters is that it comes back.
fn read_whole(path: &Path) -> Result<usize> {
    let mut xtc = Xtc::open(path)?;
    let frames = xtc.frames_to_reach(0);
    (0..frames).try_for_each(|_| xtc.next_positions().map(|_| ()))?;
    Ok(frames)
}

#[test]
fn a_trajectory_cut_off_anywhere_is_an_error() {
    let folder = disk_folder();
    for atoms in [5, 30] {
        let whole = fs::read(xtc_file(&folder, 3, atoms)).unwrap();
        let frame_bytes = whole.len() / 3;
        let cut = folder.path().join("cut.xtc");
        for len in 0..whole.len() {
            fs::write(&cut, &whole[..len]).unwrap();
            match read_whole(&cut) {
                Ok(frames) => assert_eq!(frames * frame_bytes, len),
                Err(error) => assert!(error.to_string().contains("cut.xtc"), "{error}"),
            }
        }
    }
}

#[test]
fn no_damaged_byte_brings_the_reader_down() {
    let folder = disk_folder();
    let whole = fs::read(xtc_file(&folder, 2, 30)).unwrap();
    let damaged_path = folder.path().join("damaged.xtc");
    let mut refused = 0;
    for index in 0..whole.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[index] = value;
            fs::write(&damaged_path, &damaged).unwrap();
            refused += usize::from(read_whole(&damaged_path).is_err());
        }
    }
    assert!(refused > 100, "only {refused} of {} refused", 5 * whole.len());
}
