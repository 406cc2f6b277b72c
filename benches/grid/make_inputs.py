"""Writes the inputs of the throughput grid: two models of Pythia shapes with random weights, random tokens, and two sweeps.

    python make_inputs.py OUT_DIR [TRAINING_TOKENS]
    assay --device cuda sweep OUT_DIR/grid.toml
    assay --device cuda sweep OUT_DIR/one.toml

`grid.toml`: 2 models x 3 depths x 6 k, 10M tokens each, evaluated on 200 x 256 held-out tokens. `one.toml`: one SAE of 32,768 latents at layer
12 of the larger model, k 32, 2M tokens, evaluated on 32 x 256; what `benches/peers/time_end_to_end.py` times in SAELens. The numbers of such
sweeps mean nothing; their times do. Needs torch, transformers, pyarrow and numpy.
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

[eval]
sequences = 200
context_size = 256
batch = 8
"""

ONE = """# assay --device cuda sweep one.toml
name = "one"
k = [32]
training_tokens = [1_998_848]
precision = "bf16"

[[models]]
name = "pythia-410m-shape"
path = "410m"
layers = {{ mid = 12 }}

[tokens]
train = "train.parquet"
eval = "eval.parquet"
context_size = 256

[train]
expansion = 32
batch_size = 4096

[eval]
sequences = 32
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
    (out / "one.toml").write_text(ONE.format())
    maker = Path(__file__).parent.parent / "peers" / "make_model.py"
    for shape in ["70m", "410m"]:
        if not (out / shape / "config.json").exists():
            subprocess.run([sys.executable, str(maker), f"pythia-{shape}", str(out / shape)], check=True)


if __name__ == "__main__":
    main()
