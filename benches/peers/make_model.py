"""Writes a GPT-NeoX checkpoint of a Pythia shape with random weights, for benches that time shapes and not text.

    python make_model.py 70m OUT_DIR
"""

import sys

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

SHAPES = {
    "70m": dict(num_hidden_layers=6, hidden_size=512, num_attention_heads=8, intermediate_size=2048),
    "410m": dict(num_hidden_layers=24, hidden_size=1024, num_attention_heads=16, intermediate_size=4096),
}

if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in SHAPES:
        sys.exit(f"usage: make_model.py {'|'.join(SHAPES)} OUT_DIR")
    torch.manual_seed(0)
    config = GPTNeoXConfig(vocab_size=50304, max_position_embeddings=2048, rotary_pct=0.25, **SHAPES[sys.argv[1]])
    GPTNeoXForCausalLM(config).save_pretrained(sys.argv[2])
