"""Writes the inputs of the throughput grid: two models of Pythia shapes with random weights, random tokens, and the sweep.

    python make_inputs.py OUT_DIR [TRAINING_TOKENS]
    assay sweep OUT_DIR/grid.toml --device cuda

2 models x 3 depths x 6 k, 10M tokens each, evaluated on 200 x 256 held-out tokens. The numbers of such a sweep mean nothing; its
times do. Needs torch, transformers, pyarrow and numpy.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SPEC = """# assay sweep grid.toml --device cuda
name = "throughput-grid"
k = [8, 16, 32, 64, 128, 256]
training_tokens = [{tokens}]
precision = "bf16"

[[models]]
name = "pythia-70m-shape"
path = "70m"

[[models]]
name = "pythia-410m-shape"
path = "410m"

[tokens]
train = "train.parquet"
eval = "eval.parquet"
context_size = 256

[train]
expansion = 32
batch_size = 4096
# No state is saved on the way: 18 SAEs of the larger model are 15 GB.
checkpoint_tokens = 1_000_000_000

[eval]
sequences = 200
context_size = 256
batch = 8
"""


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    out = Path(sys.argv[1])
    tokens = int(sys.argv[2]) if len(sys.argv) == 3 else 9_998_336  # 10M in whole batches of 4096
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name, rows in [("train", -(-tokens // 256)), ("eval", 200)]:
        values = rng.integers(0, 50_304, size=(rows, 256), dtype=np.int32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 256).cast(pa.list_(pa.int32()))
        pq.write_table(pa.table({"tokens": column}), out / f"{name}.parquet", row_group_size=1024)
    (out / "grid.toml").write_text(SPEC.format(tokens=tokens))
    maker = Path(__file__).parent.parent / "peers" / "make_model.py"
    for shape in ["70m", "410m"]:
        if not (out / shape / "config.json").exists():
            subprocess.run([sys.executable, str(maker), f"pythia-{shape}", str(out / shape)], check=True)


if __name__ == "__main__":
    main()
