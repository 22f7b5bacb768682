//! Reads trajectories in the format XTC. Several examples use this module.

use molly::{Frame, XTCReader};
use ndarray::{ArrayView2, Ix3};
use ndarray_mmap::stream::Budget;
use ndarray_mmap::{MmapArray, ReadOnly};
use std::path::{Path, PathBuf};
use std::{env, fs, iter, process::Command};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Positions in nanometres: frames x atoms x 3.
pub type Trajectory = MmapArray<f32, Ix3, ReadOnly>;

/// An XTC file. After its last frame, the reader starts again with the first frame.
pub struct Xtc {
    reader: XTCReader<fs::File>,
    /// The number of frames.
    pub frames: usize,
    frame: Frame,
}

impl Xtc {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self> {
        let mut reader = XTCReader::open(path).map_err(|error| format!("{path:?}: {error}"))?;
        let frames = reader.determine_offsets_exclusive(None)?.len();
        let found = Self { reader, frames, frame: Frame::default() };
        if frames > 0 { Ok(found) } else { Err(format!("{path:?} contains no frame").into()) }
    }

    /// Decodes the frame for a row of the array. The caller must ask for the rows in order, starting with row 0.
    pub fn positions(&mut self, row: usize) -> Result<ArrayView2<'_, f32>> {
        if row % self.frames == 0 {
            self.reader.home()?;
        }
        self.reader.read_frame(&mut self.frame)?;
        Ok(ArrayView2::from_shape((self.frame.natoms(), 3), &self.frame.positions)?)
    }

    /// Decodes every frame into a new array, in chunks of a few MiB.
    pub fn import(&mut self, path: &Path) -> Result<Trajectory> {
        let atoms = self.positions(0)?.nrows();
        let mut imported = MmapArray::<f32, Ix3>::create(path, (self.frames, atoms, 3))?;
        let mut chunks = imported.row_chunks_mut(Budget::default());
        while let Some((rows, mut chunk)) = chunks.try_next()? {
            for (row, mut frame) in iter::zip(rows, chunk.outer_iter_mut()) {
                frame.assign(&self.positions(row)?);
            }
        }
        drop(chunks);
        Ok(imported.into_read_only()?)
    }
}

/// Finds the trajectory in the source package of `molly`, which cargo has downloaded to build this example.
pub fn shipped_xtc() -> Result<PathBuf> {
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
