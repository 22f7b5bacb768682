//! Checks that random programs leave nothing: no array, no mapping, no open file, no lock and no staged file.

use crate::harness::{Dice, judge, traces_of};
use crate::table::{CELLS, Table};
use crate::world::World;
use ndarray_mmap::{closed_arrays, open_arrays, sweep_staged};

/// Checks what this process has left. The caller has already dropped all arrays.
pub fn check_process(world: &World) {
    let (open, closed) = (open_arrays(), closed_arrays());
    judge(open.is_empty() && closed.is_empty(), || format!("arrays are left: {open:?}, {closed:?}"));
    let traces = traces_of(&world.folder);
    judge(traces.is_empty(), || format!("mappings or open files are left: {traces:?}"));
    let holds = Table::open(&world.table).with(|state| state.holds_of(std::process::id()));
    judge(holds == 0, || format!("{holds} holds are left in the table"));
}

fn staged_in(world: &World) -> usize {
    let entries = std::fs::read_dir(&world.folder).unwrap().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().contains(".staged")).count()
}

/// Checks the folder after all processes have ended. Only a killed process may leave staged files. Returns how many
/// staged files `sweep_staged` has removed.
pub fn check_folder(world: &World, some_were_killed: bool) -> usize {
    let staged = staged_in(world);
    judge(staged == 0 || some_were_killed, || format!("{staged} staged files are left"));
    let swept = sweep_staged(&world.folder).unwrap();
    judge(swept == staged && staged_in(world) == 0, || {
        format!("{swept} of {staged} staged files were swept")
    });
    for file in world.files.iter().filter(|file| !file.fragile && file.path.exists()) {
        let options = world.options(file, &(0..CELLS), &mut Dice::new(1));
        let opened = options.open_rw::<u64, ndarray::Ix2>(&file.path);
        judge(opened.is_ok(), || format!("a lock is left: {opened:?}"));
    }
    swept
}
