//! The list of matches. Each match is a work, a page-cache state, a file size, and the contenders that run.

use super::options::Options;
use super::plan::Contender::{self, *};
use super::plan::{Cache, Entry, GIB, KIB, MIB, Match, Work};

/// The chunk size with which numpy copies fastest.
const NUMPY_CHUNK: u64 = MIB;
/// The chunk size with which a loop that flushes after each chunk is approximately fastest.
const FLUSHING_CHUNK: u64 = 8 * MIB;
/// Chunk sizes that callers may choose, from far too small to far too large.
const ALL_CHUNKS: &[u64] = &[256 * KIB, MIB, 4 * MIB, 8 * MIB, 64 * MIB];
const FEW_CHUNKS: &[u64] = &[256 * KIB, 8 * MIB, 64 * MIB];

/// Returns every match of a run, in order.
pub fn matches(options: &Options) -> Vec<Match> {
    let (small_bytes, large_bytes) = match options.large_gib.unwrap_or(4) * GIB {
        _ if options.quick => (256 * MIB, 256 * MIB),
        large_bytes => (GIB, large_bytes.max(GIB)),
    };
    let all = Work::ALL.into_iter().filter(|work| options.wants(work.name()));
    let mut matches: Vec<Match> = all.flat_map(|work| matches_of(work, small_bytes, large_bytes)).collect();
    if options.quick {
        matches.iter_mut().for_each(keep_quick_entries);
    }
    matches
}

/// Removes the entries that `--quick` leaves out. `--quick` runs each contender with only one chunk size. For cold
/// copies it keeps two chunk sizes, because a goal of the project concerns the smaller one.
fn keep_quick_entries(one: &mut Match) {
    let plain_copy = one.work == Work::Copy;
    let first_look = plain_copy && one.cache == Cache::Cold;
    let quick_chunks: &[u64] = if first_look { &[256 * KIB, FLUSHING_CHUNK] } else { &[FLUSHING_CHUNK] };
    one.entries.retain(|entry| match entry.contender {
        Ours => entry.chunk_bytes == 0 || quick_chunks.contains(&entry.chunk_bytes),
        NumpyMemmapUtils => plain_copy && quick_chunks.contains(&entry.chunk_bytes),
        DdDirect | DirectOneWorker | DirectTwoWorkers | MemmapEvict => first_look,
        _ if one.work.is_reduction() && one.work != Work::MeanAxis0 => true,
        NumpyReduceChunks | SequentialReadDirect | DirectReadAndAdd | DirectWriteOnly => false,
        _ => true,
    });
}

fn matches_of(work: Work, small: u64, large: u64) -> Vec<Match> {
    let on = |cache, source_bytes, entries| Match { work, cache, source_bytes, entries };
    let both = |entries: fn(Cache) -> Vec<Entry>| {
        vec![on(Cache::Cold, small, entries(Cache::Cold)), on(Cache::Warm, small, entries(Cache::Warm))]
    };
    match work {
        Work::Copy => {
            let mut matches = both(|_| copy_entries(ALL_CHUNKS));
            if large > small {
                matches.insert(1, on(Cache::Cold, large, copy_entries(FEW_CHUNKS)));
            }
            matches
        }
        Work::CopyNpy => both(|_| npy_entries()),
        Work::CopySmallBudget => vec![on(Cache::Cold, small, whole(&[Ours]))],
        Work::CopyLimited => vec![on(Cache::Cold, large, limited_entries())],
        Work::Scale | Work::HalfColumns => both(transform_entries),
        Work::Cast => both(cast_entries),
        Work::MeanAxis0 => both(mean_entries),
        Work::Mean | Work::Var | Work::MinMax => both(reduce_entries),
        Work::MedianAxis0 => {
            vec![on(
                Cache::Warm,
                small,
                vec![chunked(OursOneThread, 0), chunked(NumpyReduceChunks, NUMPY_CHUNK)],
            )]
        }
        Work::Zip => both(|_| whole(&[Ours, OursParts])),
        _ => vec![on(Cache::Cold, large, whole(&[Ours, UringDirect, NumpyFancy]))],
    }
}

/// Makes entries for contenders that process the whole array at once.
fn whole(contenders: &[Contender]) -> Vec<Entry> {
    contenders.iter().map(|&contender| chunked(contender, 0)).collect()
}

/// Makes an entry for a contender whose caller works in chunks.
fn chunked(contender: Contender, chunk_bytes: u64) -> Entry {
    Entry { contender, chunk_bytes }
}

fn copy_entries(chunks: &[u64]) -> Vec<Entry> {
    let mut entries = whole(&[Ours, CpSync, DdDirect, DirectOneWorker, DirectTwoWorkers, MemmapAssign]);
    entries.extend([chunked(MemmapEvict, FLUSHING_CHUNK), chunked(NumpyNaive, NUMPY_CHUNK)]);
    for &chunk_bytes in chunks {
        entries.extend([chunked(Ours, chunk_bytes), chunked(NumpyMemmapUtils, chunk_bytes)]);
    }
    entries
}

fn npy_entries() -> Vec<Entry> {
    let mut entries = whole(&[Ours, CpSync, DirectOneWorker, DirectTwoWorkers]);
    entries.extend([chunked(NumpyNaive, NUMPY_CHUNK), chunked(NumpyMemmapUtils, FLUSHING_CHUNK)]);
    entries
}

fn limited_entries() -> Vec<Entry> {
    let mut entries = whole(&[Ours, CpSync, DirectOneWorker]);
    entries.push(chunked(NumpyMemmapUtils, FLUSHING_CHUNK));
    entries
}

fn transform_entries(cache: Cache) -> Vec<Entry> {
    let mut entries = whole(&[Ours]);
    entries.extend([chunked(NumpyChunks, NUMPY_CHUNK), chunked(NumpyMemmapUtils, FLUSHING_CHUNK)]);
    if cache == Cache::Warm {
        entries.extend(whole(&[DirectWriteOnly]));
    }
    entries
}

fn cast_entries(cache: Cache) -> Vec<Entry> {
    let mut entries = transform_entries(cache);
    if cache == Cache::Cold {
        entries.extend(whole(&[DirectSameBytes]));
    }
    entries
}

fn reduce_entries(cache: Cache) -> Vec<Entry> {
    let mut entries = match cache {
        Cache::Cold => whole(&[Ours, SequentialRead, SequentialReadDirect]),
        Cache::Warm => whole(&[OursOneThread, Ours, ArrayViewReduce, MappedRead]),
    };
    entries.push(chunked(NumpyReduceChunks, NUMPY_CHUNK));
    entries
}

fn mean_entries(cache: Cache) -> Vec<Entry> {
    let mut entries = whole(&[Ours, OursOneThread, OursTwoThreads, NumpyMean, ArrayViewReduce]);
    entries.push(chunked(NumpyReduceChunks, NUMPY_CHUNK));
    if cache == Cache::Cold {
        entries.extend(whole(&[SequentialRead, SequentialReadDirect, DirectReadAndAdd]));
    }
    entries
}
