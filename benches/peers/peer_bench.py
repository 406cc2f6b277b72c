"""What both timing scripts share: the clock, peak memory, versions, and the rows."""

import gc
import importlib.metadata
import json
import platform
import statistics
import sys
import time

import torch


def pick_device(wanted):
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device is visible to torch; try --device cpu (tiny shapes, only to see that the script works)")
    return wanted


def add_clock(parser, unit, steps, warmup):
    """The options that both scripts have; `unit` is what is timed."""
    parser.add_argument("--steps", type=int, default=steps, help=f"{unit} a repeat (default {steps})")
    parser.add_argument("--repeats", type=int, default=3, help="timed repeats, at least 3 (default 3)")
    parser.add_argument("--warmup", type=int, default=warmup, help=f"{unit} before the clock starts (default {warmup})")
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "cpu"])
    parser.add_argument("--json", metavar="FILE", help="write the rows there, one JSON object a line (replaces the file)")


def parse(parser):
    """The arguments, with a device that is there and enough repeats."""
    args = parser.parse_args()
    args.device = pick_device(args.device)
    args.repeats = max(args.repeats, 3)
    return args


def check_known(parser, given, known):
    if unknown := set(given) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(sorted(known))}")


def ints(text):
    return [int(part) for part in text.split(",") if part]


def names(text):
    return [part.strip() for part in text.split(",") if part.strip()]


def version(distribution):
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions(*distributions):
    found = {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda}
    found.update({name: version(name) for name in distributions})
    return found


def float32_matmul(precision):
    """TF32 on for `tf32`, off for everything else (a bf16 product does not depend on it)."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")


def synchronise(device):
    if device == "cuda":
        torch.cuda.synchronize()


def free(device):
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def allocated_mib(device):
    return torch.cuda.memory_allocated() / 2**20 if device == "cuda" else None


def peak_mib(device, held_mib=None):
    """Peak of torch's allocator since `free`, less what the inputs held before; None without a GPU."""
    if device != "cuda":
        return None
    return round(torch.cuda.max_memory_allocated() / 2**20 - (held_mib or 0.0), 1)


def measure(step, device, warmup, steps, repeats):
    """Warm-up, then `repeats` times `steps` calls on a synchronised host clock.

    `ms_median` is the median over the repeats of the mean per call, `ms_min` the fastest repeat. The host clock counts
    what the host does between launches, which CUDA events around single kernels would not.
    """
    for _ in range(warmup):
        step()
    synchronise(device)
    each = []
    for _ in range(repeats):
        started = time.perf_counter()
        for _ in range(steps):
            step()
        synchronise(device)
        each.append((time.perf_counter() - started) / steps * 1e3)
    return {"ms_median": round(statistics.median(each), 4), "ms_min": round(min(each), 4), "steps": steps, "repeats": repeats}


class Rows:
    """Prints every row as it comes and, with --json, writes it as a line of JSON."""

    def __init__(self, path, device):
        self.file = open(path, "w", encoding="utf-8") if path else None
        self.device_name = torch.cuda.get_device_name() if device == "cuda" else (platform.processor() or platform.machine()) + " (cpu)"
        self.device = device
        self.all = []
        print(f"# {self.device_name}; torch {torch.__version__}; python {platform.python_version()}", flush=True)

    def add(self, row, run):
        """`run` returns the measured part of the row. A failure becomes the row's `error` and the next row is taken."""
        free(self.device)
        try:
            row.update(run())
        except ModuleNotFoundError as missing:
            row["error"] = f"not installed: {missing.name}"
        except Exception as failure:  # noqa: BLE001: whatever a peer raises belongs in its row
            message = (str(failure).strip().splitlines() or [""])[0]
            row["error"] = f"{type(failure).__name__}: {message}"[:300]
            failure.__traceback__ = None  # it holds the peer's tensors
        row["device"] = self.device_name
        self.all.append(row)
        if self.file:
            self.file.write(json.dumps(row) + "\n")
            self.file.flush()
        print(describe(row), flush=True)
        return row

    def close(self):
        if self.file:
            self.file.close()
        failed = sum("error" in row for row in self.all)
        print(f"# {len(self.all)} rows, {failed} of them with an error", flush=True)


def describe(row):
    keys = ("model", "class", "d_model", "d_sae", "k", "batch", "context", "data")
    where = " ".join(f"{key}={row[key]}" for key in keys if row.get(key) is not None)
    head = f"{row['peer']:<16} {row['work']:<14} {row['precision']:<5} {where}"
    if "error" in row:
        return f"{head}: ERROR {row['error']}"
    text = f"{head}: {row['ms_median']:.3f} ms (min {row['ms_min']:.3f})"
    if row.get("tokens_per_s"):
        text += f", {row['tokens_per_s']:,.0f} tokens/s"
    if row.get("tflops"):
        text += f", {row['tflops']:.1f} TFLOP/s"
    if row.get("peak_mib") is not None:
        text += f", peak {row['peak_mib']:,.0f} MiB"
    return text
