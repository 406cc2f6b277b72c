"""Times one H1 of the same clouds by assay, ripser.py and giotto-ph, one thread each, in one run.

    pip install numpy ripser==0.6.15 giotto-ph==0.2.4
    cargo build --release
    python benches/peers/time_topology.py --assay target/release/assay --points 500,1000,2000 --large --audit

Clouds: a power-law Gaussian in 512 dimensions, as activations are, and a torus in space. ripser.py and giotto-ph are given distances, and their
computation is in their time, by numpy; assay's is that of the whole program: start, file, distances and bars. Times are CPU seconds of user and
system, so that a machine that does other things too gives nearly the same; the least of three is shown, of ours and of theirs by turns.
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


def cpu(run):
    """CPU seconds of this process, and what was found."""
    start = time.process_time()
    result = run()
    return time.process_time() - start, result


def child(command):
    """CPU seconds and peak MiB of a program, and what it prints."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{' '.join(command)} failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, printed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assay", default="target/release/assay")
    parser.add_argument("--points", default="500,1000,2000", help="numbers of points")
    parser.add_argument("--large", action="store_true", help="also 5000 points of the first cloud, once, by assay alone")
    parser.add_argument("--audit", action="store_true", help="also audits: of 500 points with 199 draws, and one of the size of an earlier study")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    print(f"load of the machine: {os.getloadavg()[0]:.1f}\n")
    print("| cloud | n | assay, s | MiB | ripser.py, s | giotto-ph, s | longest bars agree |\n| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "cloud.npy")

        def assay():
            seconds, mib, printed = child(
                [args.assay, "topology", path, "--nulls", "none", "--rows", "1000000", "--threads", "1", "--json", "--quiet"]
            )
            return seconds, mib, json.loads(printed)

        for name, make in [("power-law Gaussian, 512 dimensions", power_law), ("torus in space", torus)]:
            for n in map(int, args.points.split(",")):
                x = make(n, rng)
                np.save(path, x)
                times = []
                for _ in range(3):
                    ours, mib, found = assay()
                    ripsers, bars = cpu(lambda: ripser(distances(x), distance_matrix=True, maxdim=1))
                    giottos, _ = cpu(lambda: ripser_parallel(distances(x), metric="precomputed", maxdim=1, n_threads=1))
                    times.append([ours, ripsers, giottos])
                ours, ripsers, giottos = np.min(times, axis=0)
                longest = lambda bars: max((death - birth for birth, death in bars), default=0.0)
                agree = abs(longest(found["h1"]) - longest(bars["dgms"][1])) < 1e-5
                print(f"| {name} | {n} | {ours:.2f} | {mib:.0f} | {ripsers:.2f} | {giottos:.2f} | {'yes' if agree else 'NO'} |", flush=True)
        if args.large:
            np.save(path, power_law(5000, rng))
            ours, mib, _ = assay()
            print(f"\n5000 points of the power law: {ours:.1f} CPU s, {mib:.0f} MiB")
        if args.audit:
            for what, points, more in [
                ("500 points, 2 metrics, 3 nulls, 199 draws", 500, ["--metric", "euclidean,angular", "--nulls", "gaussian,axes,clusters"]),
                ("1000 points, 2 metrics, 2 nulls, 12 draws: 48 diagrams", 1000, ["--metric", "euclidean,cosine", "--nulls", "gaussian,columns", "--draws", "12", "--alpha", "0.1"]),
            ]:
                np.save(path, power_law(points, rng))
                start = time.perf_counter()
                seconds, _, _ = child([args.assay, "topology", path, "--json", "--quiet", *more])
                print(f"\nAudit of {what}: {seconds:.0f} CPU s in {time.perf_counter() - start:.0f} s on {os.cpu_count()} cores")
    print(f"\nload of the machine: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
