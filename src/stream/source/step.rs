//! [`Source`] as the first step of a pipeline.

use super::{Place, Source, SourceState};
use crate::array::Placed;
use crate::error::Result;
use crate::stream::picked::Picked;
use crate::stream::reader::Reader;
use crate::stream::stage::sealed::Sealed;
use crate::stream::stage::{
    Choices, Element, Reduction, RowBytes, Stage, Whole, check_elements, row_bytes_of, rows_of, slice_rows,
};
use ndarray::{ArrayView, ArrayViewMut, Axis, Dimension};
use std::ops::Range;
use std::path::PathBuf;

impl<T, D: Dimension> Sealed for Source<'_, T, D> {}

impl<T: Element, D: Dimension> Stage for Source<'_, T, D> {
    type Item = T;
    type Dim = D;
    type State = SourceState;

    fn shape(&self) -> D {
        let rows = self.list.as_ref().map_or(rows_of(&self.view.raw_dim()), |list| list.len());
        self.block_shape(rows)
    }

    fn pick(&mut self, axis: Axis, picked: &Picked) {
        if axis.index() > 0 {
            return match picked {
                Picked::Steps(steps) if !self.kept.has(axis) => {
                    self.view.slice_axis_inplace(axis, steps.to_slice());
                }
                _ => self.kept.pick(axis, picked),
            };
        }
        let picked = match self.list.take() {
            Some(list) => Picked::List(list).then(picked),
            None => picked.clone(),
        };
        match picked {
            Picked::Steps(steps) => self.view.slice_axis_inplace(axis, steps.to_slice()),
            Picked::List(list) => self.list = Some(list),
        }
    }

    fn path(&self) -> Option<PathBuf> {
        self.mapping.as_ref().map(|mapping| mapping.path().to_owned())
    }

    fn held_bytes(&self) -> usize {
        self.list.as_ref().map_or(0, |list| size_of_val(&list[..]))
    }

    fn prepare(&mut self, choices: Choices) -> Result<()> {
        if let Some(mapping) = &self.mapping {
            // Check here whether the array is closed: a source without rows loads no block, so no later step would
            // detect it.
            mapping.check_usable("stream")?;
        }
        check_elements::<T, D>(&self.shape())?;
        let Some(placed) = Placed::find(&self.view).filter(Placed::has_bytes) else { return Ok(()) };
        let hull = placed.runs.hull();
        let start = placed.mapping.file_bytes().start;
        let bytes = start + hull.start as u64..start + hull.end as u64;
        self.place = Place::File { reader: Reader::new(placed.mapping, &bytes, choices.transfer), bytes };
        Ok(())
    }

    fn row_bytes(&self) -> RowBytes {
        let row_bytes = row_bytes_of::<T, D>(&self.loaded_shape(1));
        let loaded = match (&self.place, &self.list) {
            // A row can be larger than the bytes that are loaded for it: an axis that repeats one index is loaded once,
            // and a row in memory is not loaded at all. `widest` is at least the size of the whole row, because the
            // whole row is processed.
            (Place::Memory, None) => RowBytes { widest: row_bytes, ..RowBytes::default() },
            (Place::Memory, Some(_)) => RowBytes::default().and(row_bytes),
            (Place::File { .. }, _) => {
                let loaded = RowBytes::default().and(self.loaded_row_bytes());
                RowBytes { widest: loaded.widest.max(row_bytes), scattered: self.is_scattered(), ..loaded }
            }
        };
        if self.kept.is_empty() {
            return loaded;
        }
        let (between, count) = self.kept.buffers::<T, D>(&self.loaded_shape(1));
        (0..count).fold(loaded, |bytes, _| bytes.and(between)).and(row_bytes_of::<T, D>(&self.block_shape(1)))
    }

    fn is_warm(&self) -> bool {
        self.in_file().is_none_or(|(reader, _)| reader.file().is_warm())
    }

    fn is_standard_layout(&self) -> bool {
        let is_selected = !self.kept.is_empty();
        is_selected
            || match (&self.place, &self.list) {
                (Place::Memory, Some(_)) => true,
                (Place::Memory, None) => self.view.is_standard_layout(),
                (Place::File { .. }, _) => self.loads_standard_layout(),
            }
    }

    fn next_data(&self, rows: Range<usize>) -> Result<Range<usize>> {
        match &self.place {
            Place::File { reader, bytes } if self.list.is_none() => self.next_data_in(reader, bytes, rows),
            _ => Ok(rows),
        }
    }

    fn load(&self, state: &mut SourceState, rows: Range<usize>) -> Result<()> {
        self.load_rows(state, &rows)?;
        if self.kept.is_empty() {
            return Ok(());
        }
        let mut selected = std::mem::take(&mut state.selected);
        let room = selected.view_mut(self.block_shape(rows.len()))?;
        self.select_loaded(state, &rows, room)?;
        state.selected = selected;
        Ok(())
    }

    fn view<'s>(&'s self, state: &'s SourceState, rows: Range<usize>) -> ArrayView<'s, T, D> {
        match self.kept.is_empty() {
            true => self.loaded(state, &rows),
            false => state.selected.view(self.block_shape(rows.len())),
        }
    }

    fn reduce(
        &self,
        state: &mut SourceState,
        rows: Range<usize>,
        reduce: &mut Reduction<'_, T, D>,
    ) -> Result<()> {
        if let Some((reader, bytes)) = self.run_of_numbers(&rows) {
            if reader.in_place(&bytes, || reduce(&slice_rows(&self.view, &rows)))?.is_some() {
                return Ok(());
            }
        }
        self.load(state, rows.clone())?;
        reduce(&self.view(state, rows));
        Ok(())
    }

    fn fill(
        &self,
        state: &mut SourceState,
        rows: Range<usize>,
        mut out: ArrayViewMut<'_, T, D>,
    ) -> Result<()> {
        if let (Place::File { reader, bytes }, Some(list)) = (&self.place, &self.list) {
            if self.gathers_straight_to(&out) {
                let out = bytemuck::cast_slice_mut(
                    out.as_slice_mut().expect("`gathers_straight_to` checks that it is in C order"),
                );
                let spare = (&mut state.runs, &mut state.batches);
                return self.read_list(reader, bytes.start, &list[rows], out, spare);
            }
        }
        self.load_rows(state, &rows)?;
        self.select_loaded(state, &rows, out)
    }

    fn whole(&self) -> Option<Whole<'_>> {
        let everything = self.list.is_none() && self.kept.is_empty();
        let items = self.view.to_slice().filter(|_| everything)?;
        Some(Whole { bytes: bytemuck::cast_slice(items), in_file: self.in_file() })
    }

    fn reverse_axes(&mut self) -> bool {
        let everything = self.list.is_none() && self.kept.is_empty();
        if everything {
            self.view = self.view.clone().reversed_axes();
        }
        everything
    }

    fn reads(&self, note: &mut dyn FnMut(&Reader, Range<u64>)) {
        if let Some((reader, bytes)) = self.in_file() {
            note(reader, bytes);
        }
    }
}

impl<T: Element, D: Dimension> Source<'_, T, D> {
    /// Copies the loaded rows to `out`, with the selected indices of each axis.
    fn select_loaded(
        &self,
        state: &mut SourceState,
        rows: &Range<usize>,
        out: ArrayViewMut<'_, T, D>,
    ) -> Result<()> {
        let mut between = std::mem::take(&mut state.between);
        let selected = self.kept.select_into(&self.loaded(state, rows), out, &mut between);
        state.between = between;
        selected
    }
}
