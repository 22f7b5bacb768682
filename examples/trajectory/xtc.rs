//! Real input: the frames of an XTC trajectory, decoded by the crate `molly`.

mod heads;

use crate::Result;
use molly::{Frame, XTCReader};
use ndarray::ArrayView2;
use std::fs::File;
use std::io::{self, BufReader, Seek};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

/// A trajectory of frames that all have the same number of atoms.
pub struct Xtc {
    path: PathBuf,
    reader: XTCReader<BufReader<File>>,
    /// How many frames the reader has given since the first.
    given: usize,
    frames: usize,
    atoms: usize,
    /// The frame decoded last; its memory is used again.
    frame: Frame,
}

impl Xtc {
    /// Opens a trajectory and counts its frames; none of them is decoded yet.
    pub fn open(path: &Path) -> Result<Self> {
        let failed =
            |reason: &dyn std::fmt::Display| format!("cannot read the trajectory {path:?}: {reason}");
        if !path.metadata().map_err(|error| failed(&error))?.is_file() {
            return Err(failed(&"it is not a regular file").into());
        }
        let file = File::open(path).map_err(|error| failed(&error))?;
        let (frames, atoms) = heads::count_frames_and_atoms(&file).map_err(|error| failed(&error))?;
        if frames == 0 || atoms == 0 {
            return Err(failed(&"it has no frames, or no atoms").into());
        }
        let mut reader = XTCReader::new(BufReader::new(file));
        reader.file.rewind()?;
        Ok(Self { path: path.to_owned(), reader, given: 0, frames, atoms, frame: Frame::default() })
    }

    pub fn atoms(&self) -> usize {
        self.atoms
    }

    /// How many frames make at least so many bytes of positions, and the whole trajectory at least once.
    pub fn frames_to_reach(&self, bytes: u64) -> usize {
        let frame_bytes = self.atoms as u64 * size_of::<[f32; 3]>() as u64;
        usize::try_from(bytes.div_ceil(frame_bytes)).unwrap_or(usize::MAX).max(self.frames)
    }

    /// Starts over with the first frame.
    pub fn rewind(&mut self) -> Result<()> {
        self.given = 0;
        Ok(self.reader.file.rewind()?)
    }

    /// Decodes the positions of the next frame, in nanometres, atom by atom. After the last frame comes the first again.
    pub fn next_positions(&mut self) -> Result<ArrayView2<'_, f32>> {
        if self.given == self.frames {
            self.rewind()?;
        }
        decode(&mut self.reader, &mut self.frame)
            .map_err(|error| format!("cannot decode frame {} of {:?}: {error}", self.given, self.path))?;
        self.given += 1;
        Ok(ArrayView2::from_shape((self.atoms, 3), &self.frame.positions)?)
    }
}

impl std::fmt::Display for Xtc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} frames of {} atoms", self.path.display(), self.frames, self.atoms)
    }
}

/// Decodes the next frame. `molly` panics on damaged positions; here that is an error like any other.
fn decode(reader: &mut XTCReader<BufReader<File>>, frame: &mut Frame) -> io::Result<()> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let decoded = panic::catch_unwind(AssertUnwindSafe(|| reader.read_frame(frame)));
    panic::set_hook(hook);
    decoded.unwrap_or_else(|_| Err(io::Error::other("its positions are damaged")))
}
