"""Writes random arrays and numpy's reductions of them. Each printed line is the name of an array and its dtype.

The arguments are a directory and a seed. For an array `name.npy`, the file `name_columns.npy` contains the reductions along axis 0,
and `name_all.npy` those of all elements: first with NaN as any other element, then ignoring NaN.
"""

import sys
import warnings
from fractions import Fraction

import numpy as np

warnings.simplefilter("ignore")
folder, random = sys.argv[1], np.random.default_rng(int(sys.argv[2]))
QUANTILES = [0.1, 0.5, 1]


def values(dtype, shape, kind):
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if kind == "limits":
            return random.choice(np.array([limits.min, limits.min + 1, limits.max - 1, limits.max], dtype), shape)
        return random.integers(max(limits.min, -1000), min(limits.max, 1000), shape, dtype, endpoint=True)
    array = np.asarray(random.normal(100, 3, shape)).astype(dtype)
    if kind != "finite":
        array[random.random(shape) < 0.1] = np.nan if kind == "nan" else np.inf
        if kind == "inf":
            array[random.random(shape) < 0.1] = -np.inf
    if kind == "nan" and array.ndim == 2 and array.size:
        array[:, 0] = np.nan
    return array


divide = np.frompyfunc(lambda a, b: float(Fraction(int(a), int(b))) if b else np.nan, 2, 1)


def integer_moments(array, axis, rows):
    """Returns the sum, mean, variances and deviation of integers, from exact sums."""
    integers = array.astype(object)
    total, squares = integers.sum(axis), np.asarray(integers * integers).sum(axis)
    variances = [divide(rows * squares - total * total, rows * max(rows - ddof, 0)) for ddof in (0, 1)]
    return [total, divide(total, rows), *variances, np.sqrt(np.asarray(variances[0], np.float64))]


def reductions(array, axis, skip):
    """Returns the count, sum, mean, variances, deviation, extremes and quantiles."""
    shape = array.shape[1:] if axis == 0 else ()
    rows = array.shape[0] if axis == 0 else array.size
    exact = array.astype(np.longdouble)
    double = array.astype(np.float64)
    none = np.full(shape, np.nan)
    count = np.sum(~np.isnan(double), axis) if skip else np.full(shape, rows)
    f = (lambda name: getattr(np, "nan" + name)) if skip else (lambda name: getattr(np, name))
    if array.dtype.kind in "iu":
        results = [count, *integer_moments(array, axis, rows)]
    else:
        results = [count, f("sum")(exact, axis), f("mean")(exact, axis)]
        results += [f("var")(exact, axis), f("var")(exact, axis, ddof=1), f("std")(exact, axis)]
    results += [f("min")(double, axis), f("max")(double, axis)] if rows else [none, none]
    for q in QUANTILES:
        results.append(f("quantile")(double, q, axis) if rows and axis == 0 else none)
    return np.stack([np.asarray(result, np.float64) for result in results])


def write(name, array):
    np.save(f"{folder}/{name}.npy", array)
    for axis, part in [(0, "columns"), (None, "all")]:
        if array.ndim or axis is None:
            both = np.stack([reductions(array, axis, skip) for skip in [False, True]])
            np.save(f"{folder}/{name}_{part}.npy", both)
    print(name, array.dtype.name)


SHAPES = [(0, 3), (1, 3), (5, 0), (7,), (), (300, 3), (60, 5, 7), (5000, 2), (9, 300)]
for dtype in ["f4", "f8", "i1", "i8", "u8"]:
    for shape in SHAPES:
        kinds = ["small", "limits"] if dtype[0] in "iu" else ["finite", "nan", "inf"]
        for kind in kinds:
            array = np.asarray(values(np.dtype(dtype), shape, kind))
            name = "_".join([dtype, kind, *map(str, shape)])
            write(name, array)
            if array.ndim == 3:
                write(name + "_f", np.asfortranarray(array))
