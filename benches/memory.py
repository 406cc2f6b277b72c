"""Peak memory of sweep, evaluation and features at 1, 4 and 16 times the work, on the bundled models and the CPU.

    cargo build --release && python3 benches/memory.py target/release/assay [CASE]

With CASE only the cases whose names begin so are measured: sweep, eval or features.
Needs Linux and nothing but Python's standard library; about a quarter of an hour on two cores. Peak memory is the largest resident set of
the process (`ru_maxrss` of wait4). Prints a table in Markdown; exits with 1 where 16 times the work takes more than 1.25 times the memory.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUNDLED = ROOT / "models/bundled"
SAE = ROOT / "tests/golden/eval-small/L3_k8"
SIZES = [1, 4, 16]
MOST = 1.25


def spec(folder, budgets, sequences):
    """A sweep of two SAEs a budget on the bundled corpus."""
    path = folder / "memory.toml"
    path.write_text(f"""name = "memory"
k = [4, 8]
training_tokens = {budgets}
[[models]]
name = "small"
path = '{BUNDLED / "small"}'
layers = {{ mid = 3 }}
[tokens]
train = '{BUNDLED / "corpus.jsonl.zst"}'
eval = '{BUNDLED / "corpus-eval.jsonl.zst"}'
context_size = 128
[train]
expansion = 4
batch_size = 256
buffer_tokens = 16384
[eval]
sequences = {sequences}
context_size = 128
resamples = 200
""")
    return ["sweep", path, "--out", folder / "out"]


def on_corpus(command, sequences, more=()):
    """A command on so many sequences of the bundled corpus."""
    return [command, "--model", BUNDLED / "small", "--sae", SAE, "--text", BUNDLED / "corpus.jsonl.zst",
            "--context-size", 128, "--sequences", sequences, *more]


def eval_sequences(folder, times):
    """The evaluation of one SAE."""
    return on_corpus("eval", 8 * times, ["--resamples", 200])


# What grows, with the work at once its size, and the command.
CASES = [
    ("sweep, tokens of a training", "65,536 tokens", lambda folder, times: spec(folder, [65_536 * times], 8)),
    ("sweep, runs (two a group)", "2 runs", lambda folder, times: spec(folder, [4096 + 256 * n for n in range(times)], 8)),
    ("sweep, evaluation sequences", "8 sequences", lambda folder, times: spec(folder, [4096], 8 * times)),
    ("eval, sequences", "8 sequences", eval_sequences),
    ("features, tokens", "32,768 tokens",
     lambda folder, times: on_corpus("features", 256 * times, ["--ablate", 16, "--out", folder / "out"])),
]


def peak(program, arguments):
    """Peak memory of a process in MB."""
    command = [program, "--quiet", "--device", "cpu", "--threads", 2, *arguments]
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{arguments[0]} failed")
    return usage.ru_maxrss / 1000


def main():
    """Measures every case."""
    program = Path(sys.argv[1]).resolve()
    print("| what grows | at 1× | 1×, MB | 4×, MB | 16×, MB | 16× / 1× |\n| --- | --- | --- | --- | --- | --- |", flush=True)
    grown = []
    begins = sys.argv[2] if len(sys.argv) > 2 else ""
    for name, at_once, arguments in CASES:
        if not name.startswith(begins):
            continue
        found = []
        for times in SIZES:
            with tempfile.TemporaryDirectory() as folder:
                found.append(peak(program, arguments(Path(folder), times)))
        ratio = found[-1] / found[0]
        print(f"| {name} | {at_once} | {' | '.join(f'{mb:.0f}' for mb in found)} | {ratio:.2f} |", flush=True)
        if ratio > MOST:
            grown.append(name)
    if grown:
        sys.exit(f"more than {MOST} times the memory for 16 times the work: {', '.join(grown)}")


if __name__ == "__main__":
    main()
