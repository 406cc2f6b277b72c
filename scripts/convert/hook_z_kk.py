#!/usr/bin/env python3
"""Kissane and Krzyzanowski's SAEs on GPT-2 small's attention (ckkissane/attn-saes-gpt2-small-all-layers) to SAELens' format.

    python scripts/convert/hook_z_kk.py gpt2-small_L5_….pt DIRECTORY

`gpt2-small_L5_…_cfg.json` must lie beside the weights. They read all heads' z one after another, of a model that TransformerLens had
processed: without the values' biases b_V (fold_value_biases). Needs torch and safetensors; works offline.
"""

import json
import sys
from pathlib import Path

from common import fail, load, save, take


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, target = Path(sys.argv[1]), sys.argv[2]
    path = source.with_name(source.name.removesuffix(".pt") + "_cfg.json")
    if not path.is_file():
        fail(f"{path} is not there; it says which activation the SAE reads")
    config = json.loads(path.read_text())
    tensors = take(load(source), source, W_enc="W_enc", W_dec="W_dec", b_enc="b_enc", b_dec="b_dec")
    shape = (config["act_size"], config["dict_size"])
    if tuple(tensors["W_enc"].shape) != shape:
        fail(f"W_enc is {tuple(tensors['W_enc'].shape)}, {path} says {shape}")
    cfg = {"architecture": "standard", "apply_b_dec_to_input": True, "reshape_activations": "hook_z"}
    save(target, cfg, {"model_name": "gpt2", "hook_name": config["act_name"]}, tensors)


if __name__ == "__main__":
    main()
