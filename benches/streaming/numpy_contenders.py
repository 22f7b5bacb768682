"""The numpy contenders of the streaming benchmark.

Reports "ready" when numpy is imported, reads one job, and reports the time and memory of the work. Each message is one line of JSON.
"""

import json
import mmap
import resource
import sys
import time

try:
    import numpy as np
except ImportError as error:
    print(json.dumps({"skipped": f"{sys.executable}: {error}"}), flush=True)
    sys.exit(0)

FACTOR = np.float32(1.5)


def open_source(job):
    if job["source"].endswith(".npy"):
        return np.load(job["source"], mmap_mode="r")
    return np.memmap(job["source"], np.float32, "r", shape=(job["rows"], job["columns"]))


def create_target(job, shape, dtype=np.float32):
    if job["target"].endswith(".npy"):
        return np.lib.format.open_memmap(job["target"], "w+", dtype, shape)
    return np.memmap(job["target"], dtype, "w+", shape=shape)


def target_of(job, source):
    rows, columns = source.shape
    if job["work"] == "half_columns":
        return create_target(job, (rows, columns // 2))
    return create_target(job, source.shape, np.float64 if job["work"] == "cast" else np.float32)


def chunks(job):
    for start in range(0, job["rows"], job["chunk_rows"]):
        yield slice(start, min(start + job["chunk_rows"], job["rows"]))


def apply(work, source, target):
    """Does the work for one chunk, in as few passes as numpy can."""
    if work == "scale":
        np.multiply(source, FACTOR, out=target)
    elif work == "half_columns":
        target[:] = source[:, : target.shape[1]]
    else:
        target[:] = source


def drop_rows(array, rows):
    """Calls MADV_DONTNEED on the pages that hold these rows."""
    row_bytes = array.strides[0]
    first = array.offset % mmap.ALLOCATIONGRANULARITY + rows.start * row_bytes
    start = first // mmap.PAGESIZE * mmap.PAGESIZE
    array._mmap.madvise(mmap.MADV_DONTNEED, start, first + (rows.stop - rows.start) * row_bytes - start)


def in_chunks(job, _index):
    source = open_source(job)
    target = target_of(job, source)
    for rows in chunks(job):
        apply(job["work"], source[rows], target[rows])
    target.flush()


def memmap_utils(job, _index):
    source = open_source(job)
    target = target_of(job, source)
    for rows in chunks(job):
        apply(job["work"], source[rows], target[rows])
        target.flush()
        drop_rows(target, rows)
        drop_rows(source, rows)


def fancy(job, index):
    source = open_source(job)
    target = create_target(job, (len(index), job["columns"]))
    target[:] = source[index]
    target.flush()


def mean(job, _index):
    return open_source(job).mean(axis=0, dtype=np.float64)


def reduce_chunks(job, _index):
    source = open_source(job)
    return REDUCTIONS[job["work"]](source, [source[rows] for rows in chunks(job)])


def reduce_mean_axis0(source, chunks):
    return sum(chunk.sum(axis=0, dtype=np.float64) for chunk in chunks) / len(source)


def reduce_mean(source, chunks):
    return np.array([sum(chunk.sum(dtype=np.float64) for chunk in chunks) / source.size])


def reduce_var(source, chunks):
    count, mean, squares = 0, 0.0, 0.0
    for chunk in chunks:
        size, chunk_mean = chunk.size, chunk.mean(dtype=np.float64)
        difference = chunk_mean - mean
        squares += chunk.var(dtype=np.float64) * size + difference**2 * count * size / (count + size)
        count += size
        mean += difference * size / count
    return np.array([squares / source.size])


def reduce_min_max(_source, chunks):
    extremes = np.array([(chunk.min(), chunk.max()) for chunk in chunks], np.float64)
    return np.array([extremes[:, 0].min(), extremes[:, 1].max()])


def reduce_median(source, _chunks):
    """Takes blocks of columns of 16 MiB."""
    rows, columns = source.shape
    width = max(1, (16 << 20) // (rows * source.itemsize))
    blocks = (source[:, first : first + width] for first in range(0, columns, width))
    return np.concatenate([np.quantile(block, 0.5, axis=0) for block in blocks]).astype(np.float64)


REDUCTIONS = {
    "mean_axis0": reduce_mean_axis0,
    "mean": reduce_mean,
    "var": reduce_var,
    "min_max": reduce_min_max,
    "median_axis0": reduce_median,
}

CONTENDERS = {
    "numpy_naive": in_chunks,
    "numpy_chunks": in_chunks,
    "numpy_memmap_utils": memmap_utils,
    "numpy_fancy": fancy,
    "numpy_mean": mean,
    "numpy_reduce_chunks": reduce_chunks,
}


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def forget_peak_rss():
    with open("/proc/self/clear_refs", "w") as clear_refs:
        clear_refs.write("5")


def peak_rss_bytes():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def read_bytes():
    with open("/proc/self/io") as counters:
        return next(int(line.split()[1]) for line in counters if line.startswith("read_bytes:"))


def measure(job):
    contender = CONTENDERS[job["contender"]]
    index = np.fromfile(job["index"], np.int64) if job["index"] else None
    forget_peak_rss()
    read = read_bytes()
    cpu, start = cpu_seconds(), time.perf_counter()
    result = contender(job, index)
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    read = read_bytes() - read
    if result is not None:
        result.tofile(job["target"])
    measured = {"seconds": seconds, "cpu_seconds": cpu, "peak_rss_bytes": peak_rss_bytes(), "read_bytes": read}
    return {"done": measured}


def main():
    print(json.dumps("ready"), flush=True)
    line = sys.stdin.readline()
    if not line:
        return
    try:
        reply = measure(json.loads(line))
    except Exception as error:
        reply = {"failed": f"{type(error).__name__}: {error}"}
    print(json.dumps(reply), flush=True)


main()
