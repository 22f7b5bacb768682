//! The description of a random stream as plain data. `roll` makes a description from a seed. `simpler` returns
//! descriptions in which one part is simpler.

use crate::dice::Dice;
use crate::filesystems::Filesystem;
use ndarray_mmap::stream::{Budget, Transfer};

/// The array that a stream reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceSpec {
    pub element: Element,
    pub shape: Vec<usize>,
    pub fortran: bool,
    /// The offset of the data in a raw file, in bytes; `None` for an NPY file.
    pub offset_bytes: Option<u64>,
    pub access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    U8,
    U16,
    F32,
    F64,
    I64,
    /// `[f32; 3]`. NPY files cannot hold this type, so these arrays are in raw files.
    Triple,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    ReadOnly,
    ReadWrite,
    /// Some elements of the private copy are changed.
    CopyOnWrite,
}

/// The page-cache state of the source when the stream starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cache {
    AsItIs,
    Cold,
    /// Only the first third of the rows is in the page cache.
    PartlyCached,
    /// All pages are in the page cache.
    Cached,
    /// Some pages of the source are dirty, if the source array is read-write.
    Dirty,
}

/// A slice along an axis. `start` is reduced modulo the length of the axis plus one, and `len` is limited to the rest
/// of the axis.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    pub axis: usize,
    pub start: usize,
    pub len: usize,
    pub step: isize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Steps {
    None,
    Boxed,
    CastToF64,
    CastToU16,
    Map,
    MapRows,
    CastMapBoxed,
    MapCastMap,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    WriteNpy,
    WriteRaw,
    CopyToMemory,
    CopyToFortranMemory,
    CopyToStridedMemory,
    /// The stream copies its rows to a mapped array, but not to the first and the last rows of this array.
    CopyToPart,
    CopyToFortran,
    CopyToStrided,
    Fold,
    Mean,
    MinMax,
}

#[derive(Clone, Debug)]
pub struct StreamSpec {
    pub filesystem: String,
    pub source: SourceSpec,
    pub cache: Cache,
    /// The slices that make the view of the array from which the stream reads.
    pub cuts: Vec<Cut>,
    /// The number of positions by which the order of the axes is rotated.
    pub rotated: usize,
    /// The index and the length of an axis that is inserted by broadcasting.
    pub broadcast: Option<(usize, usize)>,
    pub rows: Option<Cut>,
    pub select_rows: Option<Vec<usize>>,
    pub select: Option<(usize, Vec<usize>)>,
    /// The axis along which two streams are joined. For axis 0, the second stream has every second row. For other axes,
    /// the second stream has all rows.
    pub concat: Option<usize>,
    /// Whether the two joined streams are boxed.
    pub boxed_parts: bool,
    pub steps: Steps,
    pub end: End,
    pub target_offset_bytes: u64,
    pub budget: Budget,
    pub threads: usize,
    pub transfer: Transfer,
}

const TRANSFERS: [Transfer; 3] = [Transfer::Auto, Transfer::Direct, Transfer::Buffered];

const ENDS: [End; 11] = [
    End::WriteNpy,
    End::WriteRaw,
    End::CopyToMemory,
    End::CopyToFortranMemory,
    End::CopyToStridedMemory,
    End::CopyToPart,
    End::CopyToFortran,
    End::CopyToStrided,
    End::Fold,
    End::Mean,
    End::MinMax,
];

const STEPS: [Steps; 8] = [
    Steps::None,
    Steps::Boxed,
    Steps::CastToF64,
    Steps::CastToU16,
    Steps::Map,
    Steps::MapRows,
    Steps::CastMapBoxed,
    Steps::MapCastMap,
];

impl End {
    /// Returns whether the terminal operation waits for the disk.
    fn syncs(self) -> bool {
        use End::{CopyToFortran, CopyToPart, CopyToStrided, WriteNpy, WriteRaw};
        matches!(self, WriteNpy | WriteRaw | CopyToPart | CopyToFortran | CopyToStrided)
    }
}

impl SourceSpec {
    fn roll(seed: u64, most_elements: usize) -> Self {
        let mut dice = Dice::new(seed);
        let element =
            dice.of(&[Element::U8, Element::U16, Element::F32, Element::F64, Element::I64, Element::Triple]);
        let mut elements = if dice.one_in(300) { most_elements } else { dice.log_up_to(1 << 13) };
        let mut shape = Vec::new();
        for _ in 0..dice.of(&[0, 1, 1, 2, 2, 2, 3, 3, 4]) {
            let len = if dice.one_in(60) { 0 } else { dice.log_up_to(elements) };
            elements = (elements / len.max(1)).max(1);
            shape.push(len);
        }
        if dice.one_in(2) {
            shape.reverse();
        }
        let is_raw = element == Element::Triple || dice.one_in(2);
        let offset_bytes = is_raw.then(|| dice.of(&[0, 8, 4096, 12_344, 8 * dice_below(seed)]));
        let access = dice.of(&[Access::ReadOnly, Access::ReadWrite, Access::CopyOnWrite]);
        Self { element, shape, fortran: dice.one_in(3), offset_bytes, access }
    }
}

fn dice_below(seed: u64) -> u64 {
    Dice::new(!seed).roll() % 1000
}

fn roll_cut(dice: &mut Dice, axis: usize) -> Cut {
    Cut { axis, start: dice.below(50), len: dice.log_up_to(1 << 14), step: dice.of(&[1, 1, 1, 2, 3, -1, -2]) }
}

fn roll_list(dice: &mut Dice, most: usize) -> Vec<usize> {
    let len = dice.log_up_to(most) - 1;
    (0..len).map(|_| dice.below(1 << 20)).collect()
}

impl StreamSpec {
    pub fn roll(seed: u64, number: u64, filesystems: &[Filesystem]) -> Self {
        let mut dice = Dice::new(seed.wrapping_mul(0x1234_5678_9abc_def1) ^ number);
        let is_first = filesystems.len() == 1 || !dice.one_in(4);
        let filesystem = if is_first { 0 } else { 1 + dice.below(filesystems.len() - 1) };
        let filesystem = filesystems[filesystem].name.clone();
        let on_disk = filesystem != "tmpfs";
        // Streams with similar numbers share a few sources, so the pool already contains most of them.
        let (period, at_a_time) = if on_disk { (100_000, 12) } else { (3000, 40) };
        let source_number = number / period * at_a_time + dice.roll() % at_a_time;
        let source = SourceSpec::roll(
            seed.wrapping_add(source_number << 20),
            if on_disk || cfg!(debug_assertions) { 1 << 17 } else { 1 << 20 },
        );
        let mut end = dice.of(&ENDS);
        while on_disk && end.syncs() && !dice.one_in(60) {
            end = dice.of(&ENDS);
        }
        let cache = dice.of(&[Cache::AsItIs, Cache::Cold, Cache::PartlyCached, Cache::Cached, Cache::Dirty]);
        let cache = if on_disk && cache == Cache::Dirty && !dice.one_in(60) { Cache::Cold } else { cache };
        let dimensions = source.shape.len();
        let mut maybe = |times| dice.one_in(times).then_some(());
        let (cut_1, cut_2, rotate, broadcast) = (maybe(3), maybe(5), maybe(5), maybe(8));
        let (rows, select_rows, select, concat) = (maybe(3), maybe(3), maybe(3), maybe(6));
        let cuts = [cut_1, cut_2].into_iter().flatten().map(|()| roll_cut(&mut dice, 0));
        let cuts: Vec<_> = cuts.map(|cut| Cut { axis: cut.start % dimensions.max(1), ..cut }).collect();
        Self {
            filesystem,
            source,
            cache,
            cuts,
            rotated: rotate.map_or(0, |()| dice.below(4)),
            broadcast: broadcast.map(|()| (dice.below(dimensions + 1), dice.below(6))),
            rows: rows.map(|()| roll_cut(&mut dice, 0)),
            select_rows: select_rows.map(|()| roll_list(&mut dice, 60)),
            select: select.map(|()| (dice.below(dimensions + 1), roll_list(&mut dice, 20))),
            concat: concat.map(|()| dice.below(2)),
            boxed_parts: dice.one_in(2),
            steps: dice.of(&STEPS),
            end,
            target_offset_bytes: 8 * dice.of(&[0, 1, 512, 1543, 511]),
            budget: match dice.below(4) {
                0 => Budget::default(),
                1 => Budget::bytes(dice.log_up_to(1 << 22)),
                _ => Budget::chunk_rows(dice.log_up_to(1 << 12)),
            },
            threads: 1 + dice.below(4),
            transfer: dice.of(&TRANSFERS),
        }
    }

    /// Returns simpler descriptions. In each of them, one part of this description is removed or simplified.
    pub fn simpler(&self) -> Vec<Self> {
        let mut all = Vec::new();
        let mut with = |is_simpler: bool, change: &dyn Fn(&mut Self)| {
            if is_simpler {
                let mut simpler = self.clone();
                change(&mut simpler);
                all.push(simpler);
            }
        };
        with(self.filesystem != "tmpfs", &|spec| "tmpfs".clone_into(&mut spec.filesystem));
        with(self.steps != Steps::None, &|spec| spec.steps = Steps::None);
        with(self.concat.is_some(), &|spec| spec.concat = None);
        with(self.boxed_parts, &|spec| spec.boxed_parts = false);
        with(self.broadcast.is_some(), &|spec| spec.broadcast = None);
        with(self.rotated != 0, &|spec| spec.rotated = 0);
        with(!self.cuts.is_empty(), &|spec| _ = spec.cuts.pop());
        with(self.rows.is_some(), &|spec| spec.rows = None);
        with(self.select_rows.is_some(), &|spec| spec.select_rows = None);
        with(self.select.is_some(), &|spec| spec.select = None);
        let halve = |list: &mut Vec<usize>| list.truncate(list.len() / 2);
        let is_long = |list: &Vec<usize>| list.len() > 1;
        with(self.select_rows.as_ref().is_some_and(is_long), &|spec| {
            spec.select_rows.iter_mut().for_each(halve)
        });
        with(self.select.as_ref().is_some_and(|(_, list)| is_long(list)), &|spec| {
            spec.select.iter_mut().for_each(|(_, list)| halve(list));
        });
        with(self.threads != 1, &|spec| spec.threads = 1);
        with(self.transfer != Transfer::Auto, &|spec| spec.transfer = Transfer::Auto);
        with(self.budget != Budget::default(), &|spec| spec.budget = Budget::default());
        with(self.cache != Cache::AsItIs, &|spec| spec.cache = Cache::AsItIs);
        with(self.target_offset_bytes != 0, &|spec| spec.target_offset_bytes = 0);
        with(self.source.access != Access::ReadOnly, &|spec| spec.source.access = Access::ReadOnly);
        with(self.source.fortran, &|spec| spec.source.fortran = false);
        with(self.source.offset_bytes != Some(0), &|spec| spec.source.offset_bytes = Some(0));
        with(self.source.element != Element::U8, &|spec| spec.source.element = Element::U8);
        for axis in 0..self.source.shape.len() {
            with(self.source.shape[axis] > 1, &|spec| spec.source.shape[axis] /= 2);
        }
        all
    }
}
