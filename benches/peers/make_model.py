"""Writes a checkpoint of a published model's shape with random weights, for benches that time shapes and not text.

    python make_model.py pythia-70m|pythia-410m|smollm2-135m|gemma-3-270m|llama-3.2-1b OUT_DIR

In the number format of the published checkpoint: float32 for Pythia, bfloat16 for the others.
"""

import sys

import torch

from shapes import SHAPES, config_of

if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in SHAPES:
        sys.exit(f"usage: make_model.py {'|'.join(SHAPES)} OUT_DIR")
    from transformers import AutoModelForCausalLM

    shape = SHAPES[sys.argv[1]]
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(config_of(shape))
    model.to(torch.float32 if shape["family"] == "gpt_neox" else torch.bfloat16).save_pretrained(sys.argv[2])
