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

mod xtc;

use ndarray_mmap::stream::{Budget, Stream};
use serde_json::json;
use std::path::PathBuf;
use std::{env, fs, iter};
use xtc::{Trajectory, Xtc, shipped_xtc};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

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

    let imported = xtc.import(&folder.path().join("imported.npy"))?;
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
