"""Times one H1 of the same clouds by assay, ripser.py and giotto-ph, one thread each, in one run.

    pip install numpy ripser==0.6.15 giotto-ph==0.2.4
    cargo build --release
    python benches/peers/time_topology.py --assay target/release/assay --points 500,1000,2000

Clouds: a power-law Gaussian in 512 dimensions, as activations are, and a torus in space. ripser.py and giotto-ph are given distances, and their
computation is in their time, by numpy; assay's is that of the whole program: start, file, distances and bars. The least of three is shown.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from gph import ripser_parallel
from ripser import ripser


def power_law(n, rng):
    return rng.normal(size=(n, 512)) * np.arange(1, 513) ** -0.75


def torus(n, rng):
    a, b = rng.random((2, n)) * 2 * np.pi
    return np.c_[(2 + np.cos(b)) * np.cos(a), (2 + np.cos(b)) * np.sin(a), np.sin(b)]


def distances(x):
    squares = (x * x).sum(1)
    return np.sqrt(np.maximum(squares[:, None] + squares - 2 * x @ x.T, 0) * (1 - np.eye(len(x))))


def least(run, times=3):
    found = []
    for _ in range(times):
        start = time.perf_counter()
        result = run()
        found.append(time.perf_counter() - start)
    return min(found), result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assay", default="target/release/assay")
    parser.add_argument("--points", default="500,1000,2000", help="numbers of points")
    parser.add_argument("--audit", action="store_true", help="also the default audit of 500 points: 2 nulls, 2 metrics, 199 draws")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    print("| cloud | n | assay, s | ripser.py, s | giotto-ph, s | longest bars agree |\n| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "cloud.npy")

        def assay(*more):
            command = [args.assay, "topology", path, "--nulls", "none", "--rows", "1000000", "--threads", "1", "--json", "--quiet", *more]
            return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)

        for name, make in [("power-law Gaussian, 512 dimensions", power_law), ("torus in space", torus)]:
            for n in map(int, args.points.split(",")):
                x = make(n, rng)
                np.save(path, x)
                ours, found = least(assay)
                ripsers, bars = least(lambda: ripser(distances(x), distance_matrix=True, maxdim=1))
                giottos, _ = least(lambda: ripser_parallel(distances(x), metric="precomputed", maxdim=1, n_threads=1))
                longest = lambda bars: max((death - birth for birth, death in bars), default=0.0)
                agree = abs(longest(found["h1"]) - longest(bars["dgms"][1])) < 1e-5
                print(f"| {name} | {n} | {ours:.2f} | {ripsers:.2f} | {giottos:.2f} | {'yes' if agree else 'NO'} |")
        if args.audit:
            np.save(path, power_law(500, rng))
            command = [args.assay, "topology", path, "--metric", "euclidean,angular", "--json", "--quiet"]
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            print(f"\nThe audit of 500 points (2 metrics, 2 nulls, 199 draws): {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
