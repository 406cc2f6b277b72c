"""Times one H1 of the same clouds by assay, ripser.py and giotto-ph, one thread each, in one run.

    pip install numpy ripser==0.6.15 giotto-ph==0.2.4
    cargo build --release
    python benches/peers/time_topology.py --assay target/release/assay --points 500,1000,2000 --large --audit

Clouds: a power-law Gaussian in 512 dimensions, as activations are, and a torus in space. ripser.py and giotto-ph are given distances, and their
computation is in their time, by numpy; assay's is that of the whole program: start, file, distances and bars. Times are CPU seconds of user and
system, which a machine that does other things too changes less, and in brackets those of a clock on the wall; the least of several (--repeats) is shown of each,
of ours and of theirs by turns. Of 5000 points (--large) one. Peak memory is of a process; theirs is not shown, as both share one with numpy.
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


def timed(run):
    """CPU and wall seconds of this process, and what was found."""
    starts = time.process_time(), time.perf_counter()
    result = run()
    return time.process_time() - starts[0], time.perf_counter() - starts[1], result


def child(command):
    """CPU and wall seconds and peak MiB of a program, and what it prints."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out)
        # ru_maxrss of a child is never less than what its parent had in memory, which is much here: the kernel's own mark is asked for.
        peak, status = 0, None
        while status is None:
            with open(f"/proc/{process.pid}/status") as file:
                peak = max([peak, *(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))])
            pid, ended, usage = os.wait4(process.pid, os.WNOHANG)
            if pid != 0:
                wall, status = time.perf_counter() - start, ended
            else:
                time.sleep(0.002)
        if status != 0:
            raise SystemExit(f"{' '.join(command)} failed")
        out.seek(0)
        return usage.ru_utime + usage.ru_stime, wall, peak / 1024, out.read()


def longest(bars):
    return max((death - birth for birth, death in bars), default=0.0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assay", default="target/release/assay")
    parser.add_argument("--points", default="500,1000,2000", help="numbers of points")
    parser.add_argument("--repeats", type=int, default=3, help="times that each cloud is timed")
    parser.add_argument("--large", action="store_true", help="also 5000 points of the first cloud, once")
    parser.add_argument("--audit", action="store_true", help="also audits: of 500 points with 199 draws, and one of the size of an earlier study")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    print(f"load of the machine: {os.getloadavg()[0]:.1f}\n")
    print("| cloud | n | assay, s | MiB | ripser.py, s | giotto-ph, s | assay / ripser.py | longest bars agree |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "cloud.npy")
        command = [args.assay, "topology", path, "--nulls", "none", "--rows", "1000000", "--threads", "1", "--json", "--quiet"]

        def row(name, x, repeats):
            np.save(path, x)
            times = []
            for _ in range(repeats):
                *ours, mib, printed = child(command)
                *ripsers, bars = timed(lambda: ripser(distances(x), distance_matrix=True, maxdim=1))
                *giottos, _ = timed(lambda: ripser_parallel(distances(x), metric="precomputed", maxdim=1, n_threads=1))
                times.append([ours, ripsers, giottos])
            ours, ripsers, giottos = np.min(times, axis=0)
            agree = abs(longest(json.loads(printed)["h1"]) - longest(bars["dgms"][1])) < 1e-5
            show = lambda pair: f"{pair[0]:.2f} ({pair[1]:.2f})"
            print(
                f"| {name} | {len(x)} | {show(ours)} | {mib:.0f} | {show(ripsers)} | {show(giottos)} | {ours[0] / ripsers[0]:.2f} | {'yes' if agree else 'NO'} |",
                flush=True,
            )

        for name, make in [("power-law Gaussian, 512 dimensions", power_law), ("torus in space", torus)]:
            for n in map(int, args.points.split(",")):
                row(name, make(n, rng), args.repeats)
        if args.large:
            row("power-law Gaussian, 512 dimensions", power_law(5000, rng), 1)
        if args.audit:
            for what, points, more in [
                ("500 points, 2 metrics, 3 nulls, 199 draws", 500, ["--metric", "euclidean,angular", "--nulls", "gaussian,axes,clusters"]),
                ("1000 points, 2 metrics, 2 nulls, 12 draws: 48 diagrams", 1000, ["--metric", "euclidean,cosine", "--nulls", "gaussian,columns", "--draws", "12", "--alpha", "0.1"]),
            ]:
                np.save(path, power_law(points, rng))
                seconds, wall, _, _ = child([args.assay, "topology", path, "--json", "--quiet", *more])
                print(f"\nAudit of {what}: {seconds:.0f} CPU s in {wall:.0f} s on {os.cpu_count()} cores", flush=True)
    print(f"\nload of the machine: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
