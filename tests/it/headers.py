"""The numpy part of numpy_inspect.rs: saves arrays of each dtype, and lists how numpy reads their headers.

Each line has these fields, separated by tabs: name, descriptor, shape, order, data offset, bytes of data, version, and the
sum of the elements as the bytes of one element in hexadecimal. The sum is `-` if the crate does not support the dtype.
"""

import os
import sys
import warnings

import numpy as np
from numpy.lib import format as npy

try:
    from numpy.lib._format_impl import _read_array_header  # its place in recent versions of numpy
except ImportError:
    _read_array_header = npy._read_array_header

FOLDER = sys.argv[1]

NUMBERS = ["|b1"] + [
    order + kind
    for order in "<>"
    for kind in ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "f16", "c8", "c16", "c32"]
]
OTHERS = [
    "<U5", ">U5", "|S5", "|V7", "<M8[ns]", ">M8[25s]", "<M8", "<m8[D]", "|O",
    [("x", "<f4"), ("y", ">i2")], [("é", "<f4")], [("a", "<f4", (2, 2))], [("in", [("ner", "|u1")])],
    np.dtype([("a", "u1"), ("b", "f8")], align=True), np.dtype({"names": ["t"], "formats": ["<i4"], "titles": ["T"]}),
]  # fmt: skip
SHAPES = [(), (0,), (7,), (3, 4), (2, 0, 3), (2, 3, 4)]


def readable(dtype):
    """Returns whether the crate supports this dtype, with every feature enabled."""
    return dtype.isnative and (dtype.kind in "biuf" or dtype.kind == "c") and dtype.itemsize <= (
        16 if dtype.kind == "c" else 8
    )


def array_of(dtype, shape, order):
    count = int(np.prod(shape))
    if dtype.kind in "biufc":
        values = np.arange(count) % 5
        if dtype.kind == "c":
            values = values + 1j * ((values + 2) % 3)
        return np.array(values.astype(dtype).reshape(shape), dtype, order=order)
    return np.zeros(shape, dtype, order=order)


def total(array):
    # The crate opens a `bool` as `u8`, so the sum is of `u8` too.
    dtype = np.dtype(np.uint8) if array.dtype == bool else array.dtype
    return np.asarray(array.sum(dtype=dtype), dtype).tobytes().hex()


def header_of(path):
    with open(path, "rb") as file:
        version = npy.read_magic(file)
        # numpy has no public function that reads a header of version 3.
        return version, *_read_array_header(file, version), file.tell()


def save(path, array, version):
    with open(path, "wb") as file:
        npy.write_array(file, array, version, allow_pickle=True)


def main():
    count = 0
    with open(os.path.join(FOLDER, "listing.txt"), "w", encoding="utf-8") as listing:
        for descr in NUMBERS + OTHERS:
            dtype = np.dtype(descr)
            for shape in SHAPES:
                for order in "CF":
                    array = array_of(dtype, shape, order)
                    for version in [(1, 0), (2, 0), (3, 0), None]:
                        name = f"{count}.npy"
                        path = os.path.join(FOLDER, name)
                        save(path, array, version)
                        version, read_shape, fortran, read_dtype, offset = header_of(path)
                        assert read_dtype == array.dtype and read_shape == shape
                        if not dtype.hasobject and array.size:
                            mapped = npy.open_memmap(path, mode="r")
                            assert mapped.offset == offset and mapped.dtype == dtype
                            assert os.path.getsize(path) == offset + mapped.nbytes
                        descr_read = npy.dtype_to_descr(read_dtype)
                        print(
                            name,
                            descr_read if isinstance(descr_read, str) else repr(descr_read),
                            str(read_shape),
                            "F" if fortran else "C",
                            offset,
                            os.path.getsize(path) - offset,
                            f"{version[0]}.{version[1]}",
                            total(array) if readable(dtype) else "-",
                            sep="\t",
                            file=listing,
                        )
                        count += 1
    print(count)


warnings.simplefilter("ignore")
main()
