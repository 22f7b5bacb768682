"""The numpy part of numpy.rs: reads the files that the crate has written, and writes the files that the crate must read.

Comparisons are of bytes, in the logical (C) order of the elements. They also distinguish NaNs and signed zeros.
"""

import io
import math
import os
import sys

import numpy as np
from numpy.lib import format as npy

FOLDER = sys.argv[1]


def pattern(count):
    i = np.arange(count, dtype=np.uint64)
    return ((i * 167 + (i >> np.uint64(8)) * 13 + 7) % 256).astype(np.uint8)


def expected(descr, order, shape):
    dtype = np.dtype(descr)
    raw = pattern(math.prod(shape) * dtype.itemsize)
    if dtype == bool:
        raw %= 2
    return np.array(np.frombuffer(raw.tobytes(), dtype).reshape(shape), order=order)


def header_of(array):
    stream = io.BytesIO()
    npy.write_array(stream, array)
    return stream.getvalue()[: -array.nbytes or None]


def read_ours():
    count = 0
    for line in open(os.path.join(FOLDER, "ours.txt")):
        name, descr, order, *shape = line.split()
        path, wanted = os.path.join(FOLDER, name), expected(descr, order, tuple(map(int, shape)))
        for found in (np.load(path), np.load(path, mmap_mode="r"), npy.open_memmap(path, mode="r")):
            assert found.dtype == wanted.dtype, line
            assert found.shape == wanted.shape, line
            assert found.flags.f_contiguous == wanted.flags.f_contiguous, line
            assert found.flags.c_contiguous == wanted.flags.c_contiguous, line
            assert found.tobytes() == wanted.tobytes(), line
        header = header_of(wanted)
        assert open(path, "rb").read(len(header)) == header, (line, header)
        assert os.path.getsize(path) == len(header) + wanted.nbytes, line
        count += 1
    return count


def write_theirs():
    count = 0
    with open(os.path.join(FOLDER, "theirs.txt"), "w") as listing:
        for line in open(os.path.join(FOLDER, "wanted.txt")):
            descr, order, *shape = line.split()
            array = expected(descr, order, tuple(map(int, shape)))
            for version in [(1, 0), (2, 0), (3, 0), None, "memmap"]:
                name = f"theirs-{count}.npy"
                path = os.path.join(FOLDER, name)
                if version == "memmap":
                    target = npy.open_memmap(path, "w+", array.dtype, array.shape, order == "F")
                    target[...] = array
                    target.flush()
                else:
                    with open(path, "wb") as stream:
                        npy.write_array(stream, array, version)
                print(name, descr, order, *shape, file=listing)
                count += 1
    return count


REFUSED = [
    ">f4", ">f8", ">i2", ">i4", ">i8", ">u2", ">u8", ">c8", ">f2",
    "<M8[ns]", "<M8[D]", "<m8[s]", "<U7", "|S5", "|V7", "<f16", "<c32",
    [("x", "<f4"), ("y", "<i2")], [("é", "<f4")], [("a", "<f4", (2, 2))], [("in", [("ner", "|u1")])],
]


def write_refused():
    with open(os.path.join(FOLDER, "refused.txt"), "w") as listing:
        for index, descr in enumerate(REFUSED):
            np.save(os.path.join(FOLDER, f"refused-{index}.npy"), np.zeros((3, 4), np.dtype(descr)))
            shown = descr if isinstance(descr, str) else "the structured dtype [("
            print(f"refused-{index}.npy", shown, sep="\t", file=listing)
        np.save(os.path.join(FOLDER, "refused-object.npy"), np.array([None, "x"], object), allow_pickle=True)
        print("refused-object.npy", "|O", sep="\t", file=listing)
        count = len(REFUSED) + 1
    return count


def change_ours():
    shared = np.load(os.path.join(FOLDER, "shared.npy"), mmap_mode="r+")
    assert shared.sum() == 0
    shared += 5
    shared.flush()


print("read", read_ours(), "wrote", write_theirs(), "refused", write_refused())
change_ours()
