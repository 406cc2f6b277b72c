#!/usr/bin/env python3
"""A GGUF file with a tensor of every number format that is read and a key of every type, and the tensors' values.

    python make_gguf.py OUT

Needs gguf 0.19.0, numpy, safetensors. The bytes of blocks are random, so that every bit of every field matters; only the f16
scales in them are chosen, to be finite. The values are those that the package's own `dequantize` computes.
"""

import sys
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import GGUFWriter, GGUFValueType, dequantize
from gguf.constants import GGML_QUANT_SIZES
from safetensors.numpy import save_file

OUT = Path(sys.argv[1])
OUT.mkdir(parents=True, exist_ok=True)
rng = np.random.default_rng(14)

# Where in a block the f16 scales are.
HALVES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}

writer = GGUFWriter(OUT / "types.gguf", "none")
for kind, value in [
    (GGUFValueType.UINT8, 255),
    (GGUFValueType.INT8, -128),
    (GGUFValueType.UINT16, 65535),
    (GGUFValueType.INT16, -32768),
    (GGUFValueType.UINT32, 4294967295),
    (GGUFValueType.INT32, -2147483648),
    (GGUFValueType.FLOAT32, 0.1),
    (GGUFValueType.BOOL, True),
    (GGUFValueType.STRING, "ü▁"),
    (GGUFValueType.UINT64, 2**64 - 1),
    (GGUFValueType.INT64, -(2**63)),
    (GGUFValueType.FLOAT64, 0.1),
]:
    writer.add_key_value(f"test.{kind.name.lower()}", value, kind)
writer.add_array("test.strings", ["a", "", "ü▁"])
writer.add_array("test.numbers", [1, -2, 3])
writer.add_array("test.floats", [0.5, -1000.0])
writer.add_array("test.flags", [True, False])
writer.add_array("test.nested", [[1, 2], [3, 4]])

expected = {}
for kind in [T.F32, T.F16, T.BF16, T.F64, *HALVES]:
    block, size = GGML_QUANT_SIZES[kind]
    rows, columns = 2, block if block == 256 else 64
    data = rng.integers(0, 256, (rows, columns // block, size), dtype=np.uint8)
    for at in HALVES.get(kind, []):
        scales = (rng.standard_normal((rows, columns // block)) * 0.1).astype(np.float16)
        data[..., at : at + 2] = scales[..., None].view(np.uint8)
    if kind in (T.F32, T.F64):
        data = rng.standard_normal((rows, columns)).astype(np.float32 if kind == T.F32 else np.float64)
    elif kind in (T.F16, T.BF16):
        # Any bits but those of infinity and NaN.
        words = data.view(np.uint16).reshape(rows, columns)
        full = np.uint16(0x7C00 if kind == T.F16 else 0x7F80)
        data = np.where((words & full) == full, words & ~full, words)
        data = data.view(np.float16) if kind == T.F16 else data.view(np.uint8)
    else:
        data = data.reshape(rows, -1)
    writer.add_tensor(kind.name, data, raw_dtype=kind)
    values = data.astype(np.float32) if kind == T.F64 else dequantize(data, kind)
    expected[kind.name] = np.ascontiguousarray(values.reshape(rows, columns), dtype=np.float32)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
save_file(expected, OUT / "expected.safetensors")
