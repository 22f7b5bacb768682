//! The main job: a molecular-dynamics trajectory moved through arrays that are larger than the memory it takes.
//!
//! ```text
//! cargo run --release --example trajectory -- --gib 4
//! ```
//!
//! Decodes an XTC file frame by frame into a file-backed array, repeats it until the array is large enough, copies that
//! array into a second one, and compares both with the decoded frames: bounded memory and a bounded page cache all the
//! way. Start reading at [`run`]; the modules hold what every program has around its work.

mod args;
mod folder;
mod interrupt;
mod meter;
mod report;
mod shipped;
#[cfg(test)]
mod tests;
mod xtc;

use args::Args;
use interrupt::Interrupt;
use meter::Meter;
use ndarray::{ArrayRef, ArrayView2, Axis, Ix3, s};
use ndarray_mmap::{AccessPattern, ArrayOptions, MmapArray, ReadOnly, ReadWrite};
use report::Report;
use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;
use xtc::Xtc;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Positions in nanometres: frames, atoms, and x, y, z.
type Trajectory<A = ReadWrite> = MmapArray<f32, Ix3, A>;

/// How much is written, copied or compared between two evictions; at least one frame.
const CHUNK_BYTES: usize = 16 << 20;

/// Fills one array, copies it into another, compares both, and says what that took.
fn run(args: &Args) -> Result<Report> {
    let mut xtc = Xtc::open(&args.xtc_path()?)?;
    let mut meter = Meter::new(Interrupt::watch()?);
    let folder = folder::temporary(args.dir.as_deref())?;
    let [source_path, copy_path] = ["source.npy", "copy.npy"].map(|name| folder.path().join(name));
    let shape = (xtc.frames_to_reach(args.at_least_bytes), xtc.atoms(), 3);

    let mut source = streaming().shape(shape).create::<f32, Ix3>(&source_path)?;
    fill(&mut source, &mut xtc, &mut meter)?;
    let source = source.into_read_only()?;

    let whole_run = !meter::reset_peak_rss();
    let start = Instant::now();
    let mut copy = streaming().shape(shape).create::<f32, Ix3>(&copy_path)?;
    copy_rows(&source, &mut copy, &mut meter)?;
    copy.close()?; // from here on it is on disk, come what may
    let (elapsed, peak_rss_bytes) = (start.elapsed(), meter::peak_rss_bytes());

    let copy = streaming().open::<f32, Ix3>(&copy_path)?;
    let cached_bytes = [source.residency()?.resident_bytes, copy.residency()?.resident_bytes];
    let verified = verify([&source, &copy], &mut xtc, &mut meter)?;
    let report = Report {
        xtc: xtc.to_string(),
        frames: shape.0,
        bytes: shape.0 * row_bytes(&copy),
        elapsed,
        peak_rss_bytes,
        peak_rss_is_of_whole_run: whole_run,
        peak_cache_bytes: meter.peak_cache_bytes(),
        cached_bytes,
        verified,
    };
    source.close()?;
    copy.close()?;
    folder.close()?;
    Ok(report)
}

/// Arrays that are read and written from front to back. Told so, the kernel reads ahead only; otherwise it also reads what
/// lies before a page that is missing, and so brings back what was evicted a moment ago.
fn streaming() -> ArrayOptions {
    ArrayOptions::new().access_pattern(AccessPattern::Sequential)
}

/// Decodes frame after frame into the array.
fn fill(array: &mut Trajectory, xtc: &mut Xtc, meter: &mut Meter) -> Result<()> {
    xtc.rewind()?;
    meter.start("fill", array);
    for rows in chunks(array) {
        for row in rows.clone() {
            array.index_axis_mut(Axis(0), row).assign(&xtc.next_positions()?);
        }
        meter.record(&rows, &[array.residency()?])?;
        array.evict_rows(rows)?;
    }
    Ok(())
}

/// Copies chunk after chunk; the memory of each is free again before the next one is read.
fn copy_rows(source: &Trajectory<ReadOnly>, copy: &mut Trajectory, meter: &mut Meter) -> Result<()> {
    meter.start("copy", copy);
    for rows in chunks(source) {
        let chunk = s![rows.clone(), .., ..];
        copy.slice_mut(chunk).assign(&source.slice(chunk));
        meter.record(&rows, &[source.residency()?, copy.residency()?])?;
        copy.evict_rows(rows.clone())?;
        source.evict_rows(rows)?;
    }
    Ok(())
}

/// Whether every row of both arrays is, bit for bit, the frame that was decoded into it.
fn verify(arrays: [&Trajectory<ReadOnly>; 2], xtc: &mut Xtc, meter: &mut Meter) -> Result<bool> {
    let [source, copy] = arrays;
    xtc.rewind()?;
    meter.start("verify", copy);
    for rows in chunks(source) {
        for row in rows.clone() {
            let positions = xtc.next_positions()?;
            for array in arrays {
                if !same_bits(&positions, &array.index_axis(Axis(0), row)) {
                    meter.say(&format!("row {row} of {:?} is not what was decoded", array.path()));
                    return Ok(false);
                }
            }
        }
        meter.record(&rows, &[source.residency()?, copy.residency()?])?;
        source.evict_rows(rows.clone())?;
        copy.evict_rows(rows)?;
    }
    Ok(true)
}

/// Equality that also holds for NaN.
fn same_bits(one: &ArrayView2<'_, f32>, other: &ArrayView2<'_, f32>) -> bool {
    one.iter().map(|x| x.to_bits()).eq(other.iter().map(|x| x.to_bits()))
}

/// The ranges of rows that are handled together.
fn chunks(array: &ArrayRef<f32, Ix3>) -> impl Iterator<Item = Range<usize>> + use<> {
    let rows = array.len_of(Axis(0));
    let rows_per_chunk = (CHUNK_BYTES / row_bytes(array)).max(1);
    (0..rows).step_by(rows_per_chunk).map(move |start| start..rows.min(start + rows_per_chunk))
}

/// The size of one frame; never zero, as there is no trajectory without atoms.
fn row_bytes(array: &ArrayRef<f32, Ix3>) -> usize {
    array.len_of(Axis(1)) * array.len_of(Axis(2)) * size_of::<f32>()
}

fn main() -> ExitCode {
    let args = match Args::parse() {
        Ok(Some(args)) => args,
        Ok(None) => return ExitCode::SUCCESS, // `--help`, and it is printed
        Err(error) => {
            eprintln!("error: {error}; `--help` says what there is");
            return ExitCode::from(2);
        }
    };
    match run(&args).and_then(|report| report.print(args.json)) {
        Ok(verified) => ExitCode::from(u8::from(!verified)),
        Err(error) => {
            eprintln!("error: {error}");
            interrupt::exit_code(&*error)
        }
    }
}
