//! [`Judge`]: writes a state of the disk to a folder, opens its files, and decides whether the state is legal.

use super::model::Image;
use super::readers::{Numpy, elements, read_npy};
use super::table::{Array, Expected, Outcome, Scenario};
use crate::array::MmapArray;
use crate::file::Format;
use ndarray::Ix2;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// One of so many states is also loaded by numpy.
const NUMPY_EVERY: usize = 25;

/// One after so many states, the operation runs again on the state.
const AGAIN_EVERY: usize = 499;

pub(super) struct Judge {
    /// Lies in memory if possible.
    folder: TempDir,
    numpy: Option<Numpy>,
    written: Image,
    states: usize,
}

impl Judge {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let numpy = Numpy::start();
        if numpy.is_none() {
            println!("SKIPPED: no numpy, so only this crate and the strict reader open the states");
        }
        Self { folder, numpy, written: Image::default(), states: 0 }
    }

    /// Returns how many files numpy has loaded.
    pub(super) fn loaded_by_numpy(&self) -> usize {
        self.numpy.as_ref().map_or(0, |numpy| numpy.loaded)
    }

    /// Returns what is wrong with a state of the disk, after a number of acknowledged calls.
    pub(super) fn check(
        &mut self,
        scenario: &Scenario,
        image: &Image,
        legal: &[Expected],
        acknowledged: usize,
    ) -> Result<(), String> {
        self.write(image);
        self.states += 1;
        for Expected { path, outcomes } in legal {
            self.check_path(scenario, image, path, outcomes).map_err(|error| format!("{path}: {error}"))?;
        }
        (scenario.also)(image, acknowledged)?;
        let is_known = |path: &String| {
            let name = path.rsplit('/').next().unwrap_or(path);
            let is_staged = name.starts_with(".ndarray-mmap-") && name.ends_with(".staged");
            is_staged || legal.iter().any(|expected| expected.path.starts_with(path.as_str()))
        };
        if let Some(unknown) = image.files.keys().chain(&image.directories).find(|path| !is_known(path)) {
            return Err(format!("{unknown} exists"));
        }
        if self.states % AGAIN_EVERY == 0 && scenario.can_repeat {
            (scenario.run)(self.folder.path()).map_err(|error| format!("repeated: {error}"))?;
            self.written = Image::default();
            let end = (scenario.legal)(usize::MAX);
            for Expected { path, outcomes } in &end {
                if outcomes.contains(&Outcome::Absent) || outcomes.contains(&Outcome::Directory) {
                    continue;
                }
                let found =
                    self.open(scenario, path).map_err(|error| format!("repeated, {path}: {error}"))?;
                let is_legal = outcomes.iter().any(|outcome| outcome.contains(&found));
                is_legal.then_some(()).ok_or_else(|| format!("repeated, {path}: other elements"))?;
            }
        }
        Ok(())
    }

    /// Makes the folder contain exactly the image.
    fn write(&mut self, image: &Image) {
        let root = self.folder.path();
        if self.written.directories != image.directories
            || self.written.files.keys().any(|path| !image.files.contains_key(path))
            || self.written == Image::default()
        {
            for entry in fs::read_dir(root).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
            }
            image.directories.iter().for_each(|path| fs::create_dir_all(root.join(path)).unwrap());
            self.written = Image::default();
        }
        for (path, content) in &image.files {
            if self.written.files.get(path) != Some(content) {
                fs::write(root.join(path), Image::bytes(content)).unwrap();
            }
        }
        self.written = image.clone();
    }

    fn check_path(
        &mut self,
        scenario: &Scenario,
        image: &Image,
        path: &str,
        outcomes: &[Outcome],
    ) -> Result<(), String> {
        let may_be = |wanted: &Outcome| outcomes.contains(wanted);
        if image.directories.contains(path) {
            return may_be(&Outcome::Directory).then_some(()).ok_or("a directory".to_string());
        }
        let Some(content) = image.files.get(path) else {
            return may_be(&Outcome::Absent).then_some(()).ok_or("no such name".to_string());
        };
        if may_be(&Outcome::Anything) {
            return Ok(());
        }
        let found = self.open(scenario, path)?;
        let bytes = Image::bytes(content);
        let read = match scenario.raw {
            None => read_npy(&bytes)?,
            Some((shape, offset)) => elements(bytes.get(offset..).unwrap_or_default(), shape)?,
        };
        if found.dim() != read.dim() || found.as_slice() != read.as_slice() {
            return Err("the strict reader finds other elements".to_string());
        }
        if !outcomes.iter().any(|outcome| outcome.contains(&found)) {
            return Err(format!("illegal elements, shape {:?}", found.shape()));
        }
        match &mut self.numpy {
            Some(numpy) if self.states % NUMPY_EVERY == 0 && scenario.raw.is_none() => {
                numpy.check(&self.folder.path().join(path), &found)
            }
            _ => Ok(()),
        }
    }

    /// Opens a file as a user of the crate does.
    fn open(&self, scenario: &Scenario, path: &str) -> Result<Array, String> {
        let path: PathBuf = Path::new(self.folder.path()).join(path);
        let options = crate::ArrayOptions::new();
        let options = match scenario.raw {
            None => options,
            Some((shape, offset)) => options.format(Format::Raw).shape(shape).offset_bytes(offset as u64),
        };
        let array: MmapArray<u32, Ix2, crate::ReadOnly> =
            options.open(path).map_err(|error| error.to_string())?;
        Ok(array.to_owned())
    }
}
