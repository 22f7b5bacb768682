"""Compares `analysis.rs` with numpy, and with MDAnalysis if it is installed.

    python -m pip install numpy MDAnalysis MDAnalysisTests
    python examples/analysis.py

For each analysis, `analysis.rs` has a function of the same name. The results of the two functions must be equal to 1e-12, and the
body of the function in Rust may have at most two lines more than the one in numpy. The data are a random trajectory, the trajectory
that the source package of the crate `molly` contains, and a trajectory of MDAnalysis' tests.
"""

import inspect
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import numpy as np
except ImportError as error:
    print(f"SKIPPED: the analyses are not compared with numpy: {sys.executable}: {error}")
    sys.exit(0)

PROJECT = Path(__file__).resolve().parent.parent
LAGS = [1, 2, 5]
MOST_EXTRA_LINES = 2


def mean_structure(trajectory):
    return trajectory.mean(axis=0, dtype=np.float64)


def rmsf(trajectory):
    return np.sqrt(trajectory.var(axis=0, dtype=np.float64).sum(axis=1))


def radius_of_gyration(trajectory, masses):
    positions = trajectory.astype(np.float64)
    centred = positions - np.average(positions, axis=1, weights=masses)[:, np.newaxis]
    squares = (centred**2).sum(axis=2)
    return np.sqrt(np.average(squares, axis=1, weights=masses))


def centre_of_mass_removed(trajectory, masses):
    positions = trajectory.astype(np.float64)
    return positions - np.average(positions, axis=1, weights=masses)[:, np.newaxis]


def mean_square_displacement(trajectory, lag):
    positions = trajectory.astype(np.float64)
    return ((positions[lag:] - positions[:-lag]) ** 2).sum(axis=2).mean()


def distances(trajectory, atoms):
    chosen = trajectory[:, atoms].astype(np.float64)
    return np.linalg.norm(chosen[:, :, np.newaxis] - chosen[:, np.newaxis], axis=3)


def median_structure(trajectory):
    return np.median(trajectory.astype(np.float64), axis=0)


def distance_to_nearest_medoid(trajectory, frames):
    positions = trajectory.astype(np.float64)
    medoids = positions[frames]
    differences = positions[:, np.newaxis] - medoids
    squares = (differences**2).sum(axis=(2, 3))
    return np.sqrt(squares.min(axis=1))


def features(energies, states):
    return np.hstack([energies, states], dtype=np.float64)


ANALYSES = {
    mean_structure: ["trajectory"],
    rmsf: ["trajectory"],
    radius_of_gyration: ["trajectory", "masses"],
    centre_of_mass_removed: ["trajectory", "masses"],
    mean_square_displacement: ["trajectory", "lags"],
    distances: ["trajectory", "atoms"],
    median_structure: ["trajectory"],
    distance_to_nearest_medoid: ["trajectory", "frames"],
    features: ["energies", "states"],
}


def check_lengths():
    """Counts the lines of the bodies of both functions of each analysis."""
    rust = (PROJECT / "examples" / "analysis.rs").read_text()
    for analysis in ANALYSES:
        name = analysis.__name__
        body = re.search(rf"^fn {name}\(.*?\{{\n(.*?)^\}}", rust, re.MULTILINE | re.DOTALL).group(1)
        lines, numpy_lines = len(body.splitlines()), len(inspect.getsource(analysis).splitlines()) - 1
        print(f"{name}: {lines} lines in Rust, {numpy_lines} in numpy")
        assert lines <= numpy_lines + MOST_EXTRA_LINES, name


def run_rust(*arguments):
    command = ["cargo", "run", "--quiet", "--release", "--example", "analysis", "--", *map(str, arguments)]
    subprocess.run(command, check=True, cwd=PROJECT)


def check_close(what, found, expected, limit=1e-12):
    """Asserts that results are equal to `limit`, relative to the largest magnitude of the result."""
    expected = np.asarray(expected)
    assert found.shape == expected.shape and found.dtype == np.float64, (what, found.shape, expected.shape)
    error = np.abs(found - expected).max() / np.abs(expected).max()
    print(f"{what}: {error:.1e}")
    assert error <= limit, what


def check(what, folder, masses=None):
    """Compares the results for `trajectory.npy` with those of numpy, and returns the results."""
    random = np.random.default_rng(1)
    trajectory = np.load(folder / "trajectory.npy")
    count, atoms = trajectory.shape[:2]
    inputs = {
        "masses": random.uniform(1, 32, atoms) if masses is None else masses,
        "energies": random.normal(-1e5, 100, (count, 5)).astype(np.float32),
        "states": random.integers(-9, 9, (count, 2)).astype(np.int16),
        "atoms": np.append(random.choice(atoms, 40, replace=False), [-1, -2]),
        "frames": random.choice(count, 4, replace=False),
    }
    for name, values in inputs.items():
        np.save(folder / f"{name}.npy", values)
    run_rust(folder)
    results = {analysis.__name__: np.load(folder / "results" / f"{analysis.__name__}.npy") for analysis in ANALYSES}
    inputs["trajectory"] = trajectory
    for analysis, names in ANALYSES.items():
        if names[-1] == "lags":
            expected = [analysis(trajectory, lag) for lag in LAGS]
        else:
            expected = analysis(*(inputs[name] for name in names))
        check_close(f"{what}: {analysis.__name__}, numpy", results[analysis.__name__], expected)
    return results


def check_against_mdanalysis(folder):
    try:
        import MDAnalysis
        from MDAnalysis.analysis.distances import distance_array
        from MDAnalysis.analysis.msd import EinsteinMSD
        from MDAnalysis.analysis.rms import RMSF
        from MDAnalysisTests.datafiles import GRO, XTC
    except ImportError as error:
        print(f"SKIPPED: the analyses are not compared with MDAnalysis: {sys.executable}: {error}")
        return
    universe = MDAnalysis.Universe(GRO, XTC, in_memory=True)
    atoms = universe.atoms
    np.save(folder / "trajectory.npy", universe.trajectory.timeseries(order="fac"))
    results = check("MDAnalysis' test trajectory", folder, atoms.masses)
    frames = universe.trajectory
    expected = {
        "rmsf": RMSF(atoms).run().results.rmsf,
        "radius_of_gyration": [atoms.radius_of_gyration() for _ in frames],
        "centre_of_mass_removed": [atoms.positions - atoms.center_of_mass() for _ in frames],
        "mean_square_displacement": EinsteinMSD(universe, fft=False).run().results.timeseries[LAGS],
    }
    chosen = np.load(folder / "atoms.npy")
    for name, values in expected.items():
        check_close(f"{name}, MDAnalysis", results[name], values)
    # MDAnalysis subtracts the positions in float32.
    pairs = [distance_array(atoms.positions[chosen], atoms.positions[chosen]) for _ in frames]
    check_close("distances, MDAnalysis", results["distances"], pairs, limit=1e-6)


def main():
    check_lengths()
    with tempfile.TemporaryDirectory(dir=os.environ.get("CARGO_TARGET_TMPDIR", "/var/tmp")) as folder:
        folders = [Path(folder) / name for name in ["random", "molly", "mdanalysis"]]
        for one in folders:
            one.mkdir()
        positions = np.random.default_rng(2).normal(0, 5, (2000, 60, 3)).cumsum(axis=0) + 100
        np.save(folders[0] / "trajectory.npy", positions.astype(np.float32))
        check("random trajectory", folders[0])
        run_rust("--import", folders[1])
        check("molly's trajectory", folders[1])
        check_against_mdanalysis(folders[2])


main()
