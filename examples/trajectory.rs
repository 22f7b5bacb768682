//! Imports a molecular-dynamics trajectory into an array, repeats its frames until the array is large, copies the
//! array, and compares the copy with the decoded frames. The program needs little memory and page cache, whatever the
//! size of the array.
//!
//! ```text
//! cargo run --release --example trajectory -- --gib 4
//! cargo run --release --example trajectory -- --json my.xtc
//! ```
//!
//! If you name no file, the example decodes the trajectory that the source package of `molly` contains.

use molly::{Frame, XTCReader};
use ndarray::{ArrayView2, Ix3};
use ndarray_mmap::stream::{Budget, Stream};
use ndarray_mmap::{MmapArray, ReadOnly};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::{env, fs, iter, process::Command};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Positions in nanometres: frames x atoms x 3.
type Trajectory = MmapArray<f32, Ix3, ReadOnly>;

fn main() -> Result<()> {
    let (mut file, mut gib, mut json) = (None, 1.0, false);
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--gib" => gib = args.next().ok_or("--gib needs a number")?.parse()?,
            "--json" => json = true,
            _ if !arg.starts_with('-') => file = Some(PathBuf::from(arg)),
            _ => Err("usage: trajectory [--gib N] [--json] [FILE.xtc]")?,
        }
    }
    let file = file.map_or_else(shipped_xtc, Ok)?;
    let mut xtc = Xtc::open(&file)?;
    let folder = tempfile::tempdir_in("/var/tmp")?; // `/tmp` is often in memory, `/var/tmp` is on a disk

    let imported = import(&mut xtc, &folder.path().join("imported.npy"))?;
    let frame_bytes = imported.len() / xtc.frames * size_of::<f32>();
    let frames = ((gib * f64::from(1 << 30) / frame_bytes as f64).ceil() as usize).max(xtc.frames);

    // Repeat the imported frames. The file appears under its name when it is complete and synced.
    let repeated: Vec<usize> = (0..xtc.frames).cycle().take(frames).collect();
    let source = Stream::from(&imported).select_rows(&repeated).write_to(folder.path().join("source.npy"))?;

    // Copy the large array.
    let mut peak_cache_bytes = 0;
    fs::write("/proc/self/clear_refs", "5").ok(); // resets the peak of the resident memory on Linux
    let start = std::time::Instant::now();
    let copy = Stream::from(&source)
        .progress(|_, _| peak_cache_bytes = cached_bytes(&[&source]).max(peak_cache_bytes))
        .write_to(folder.path().join("copy.npy"))?;
    let (seconds, peak_rss_bytes) = (start.elapsed().as_secs_f64(), peak_rss_bytes());

    peak_cache_bytes = cached_bytes(&[&source, &copy]).max(peak_cache_bytes);
    let verified = verify(&copy, &mut xtc, &mut peak_cache_bytes)?;
    let bytes = frames * frame_bytes;
    let report = json!({
        "bytes": bytes, "seconds": seconds, "verified": verified,
        "peak_rss_bytes": peak_rss_bytes, "peak_cache_bytes": peak_cache_bytes,
    });
    if json {
        println!("{report}")
    } else {
        println!("{report:#}")
    }
    if verified { Ok(()) } else { Err("the copy differs from the decoded frames".into()) }
}

/// Decodes every frame into a new array, in chunks of a few MiB.
fn import(xtc: &mut Xtc, path: &Path) -> Result<Trajectory> {
    let atoms = xtc.positions(0)?.nrows();
    let mut imported = MmapArray::<f32, Ix3>::create(path, (xtc.frames, atoms, 3))?;
    let mut chunks = imported.row_chunks_mut(Budget::default());
    while let Some((rows, mut chunk)) = chunks.try_next()? {
        for (row, mut frame) in iter::zip(rows, chunk.outer_iter_mut()) {
            frame.assign(&xtc.positions(row)?);
        }
    }
    drop(chunks);
    Ok(imported.into_read_only()?)
}

/// Returns whether every row is, bit for bit, the frame that the XTC file contains.
fn verify(copy: &Trajectory, xtc: &mut Xtc, peak_cache_bytes: &mut usize) -> Result<bool> {
    let mut chunks = copy.row_chunks(Budget::default());
    while let Some((rows, chunk)) = chunks.try_next()? {
        for (row, frame) in iter::zip(rows, chunk.outer_iter()) {
            if frame.mapv(f32::to_bits) != xtc.positions(row)?.mapv(f32::to_bits) {
                return Ok(false);
            }
        }
        *peak_cache_bytes = cached_bytes(&[copy]).max(*peak_cache_bytes);
    }
    Ok(true)
}

/// An XTC file. After its last frame, the reader starts again with the first frame.
struct Xtc {
    reader: XTCReader<fs::File>,
    frames: usize,
    frame: Frame,
}

impl Xtc {
    fn open(path: &Path) -> Result<Self> {
        let mut reader = XTCReader::open(path).map_err(|error| format!("{path:?}: {error}"))?;
        let frames = reader.determine_offsets_exclusive(None)?.len();
        let found = Self { reader, frames, frame: Frame::default() };
        if frames > 0 { Ok(found) } else { Err(format!("{path:?} contains no frame").into()) }
    }

    /// Decodes the frame for a row of the array. The caller must ask for the rows in order, starting with row 0.
    fn positions(&mut self, row: usize) -> Result<ArrayView2<'_, f32>> {
        if row % self.frames == 0 {
            self.reader.home()?;
        }
        self.reader.read_frame(&mut self.frame)?;
        Ok(ArrayView2::from_shape((self.frame.natoms(), 3), &self.frame.positions)?)
    }
}

/// Returns how many bytes of the arrays are in the page cache.
fn cached_bytes(arrays: &[&Trajectory]) -> usize {
    arrays.iter().filter_map(|array| Some(array.residency().ok()?.resident_bytes)).sum()
}

/// Returns the peak of this process's resident memory, or `None` where the system does not report it.
fn peak_rss_bytes() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<usize>().ok().map(|kib| kib << 10)
}

/// Finds the trajectory in the source package of `molly`, which cargo has downloaded to build this example.
fn shipped_xtc() -> Result<PathBuf> {
    let program = env::var_os("CARGO").unwrap_or("cargo".into());
    let cargo = |args: &[&str]| Command::new(&program).args(args).output();
    let version = String::from_utf8(cargo(&["-vV"])?.stdout)?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let ask = ["metadata", "--format-version=1", "--filter-platform", host, "--manifest-path", manifest];
    let metadata: serde_json::Value = serde_json::from_slice(&cargo(&ask)?.stdout)?;
    let mut packages = metadata["packages"].as_array().into_iter().flatten();
    let molly = packages.find(|package| package["name"] == "molly").ok_or("cargo does not know `molly`")?;
    let manifest = molly["manifest_path"].as_str().unwrap_or_default();
    Ok(Path::new(manifest).with_file_name("tests").join("adk_oplsaa.xtc"))
}
