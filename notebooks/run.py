#!/usr/bin/env python3
"""Runs notebooks from top to bottom with the evcxr Rust kernel and saves their outputs.

    python notebooks/run.py                 # all of them, in place
    python notebooks/run.py --check         # run, save nothing
    python notebooks/run.py notebooks/01-read-results.ipynb

Needs the kernel (see README.md) and `pip install nbclient nbformat`. Prints, for each notebook, the seconds until its first plot
was there and until it was done. Exit status: 0 if every cell ran, 1 if one failed (its error is printed).
"""

import argparse
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).parent


def run(path: Path, save: bool, timeout: int) -> bool:
    notebook = nbformat.read(path, as_version=4)
    first_plot = None
    started = time.monotonic()

    def executed(cell, **_):
        nonlocal first_plot
        if first_plot is None and any("image/svg+xml" in output.get("data", {}) for output in cell.get("outputs", [])):
            first_plot = time.monotonic() - started

    # What the kernel says of compiling goes to standard error of the cell; times of execution would change with every run.
    client = NotebookClient(notebook, kernel_name="rust", timeout=timeout, record_timing=False, on_cell_executed=executed,
                            resources={"metadata": {"path": str(path.parent)}})
    try:
        client.execute()
    except CellExecutionError as error:
        print(f"{path.name}: FAILED\n{error}", file=sys.stderr)
        for output in (output for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == "error"):
            print(output.ename, output.evalue, *output.traceback, sep="\n", file=sys.stderr)
        return False
    seconds = time.monotonic() - started
    plot = f"first plot after {first_plot:.0f} s, " if first_plot is not None else ""
    print(f"{path.name}: {plot}done in {seconds:.0f} s", flush=True)
    if save:
        notebook.metadata.pop("widgets", None)
        nbformat.write(notebook, path)
    return True


def main() -> int:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("notebooks", nargs="*", type=Path, help="which [default: all in this directory]")
    ap.add_argument("--check", action="store_true", help="save nothing")
    ap.add_argument("--timeout", type=int, default=3600, metavar="S", help="seconds for one cell; the first compiles everything [3600]")
    args = ap.parse_args()
    paths = args.notebooks or sorted(HERE.glob("*.ipynb"))
    return 0 if all([run(path, not args.check, args.timeout) for path in paths]) else 1


if __name__ == "__main__":
    sys.exit(main())
