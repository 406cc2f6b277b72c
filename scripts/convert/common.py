"""What the conversion scripts share: pickles are read as weights only, and an SAE is written as SAELens 6 keeps it.

Nothing is downloaded, and no code that a pickle holds is run (`torch.load(..., weights_only=True)`).
"""

import json
import os
import re
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file


def fail(why):
    sys.exit(f"error: {why}")


def load(path):
    """The tensors of a pickled state dict, by name."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        fail(f"{path}: a dictionary of tensors is expected, not {type(state).__name__}")
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


def take(state, path, **wanted):
    """Tensors by new names; each of `wanted` is the name of a tensor in the file."""
    missing = [name for name in wanted.values() if name not in state]
    if missing:
        fail(f"{path}: no tensor {', '.join(missing)}; it has {', '.join(sorted(state))}")
    return {new: state[old].float() for new, old in wanted.items()}


def save(target, cfg, metadata, tensors):
    """Writes `cfg.json` and `sae_weights.safetensors` into a new directory, whole or not at all."""
    target = Path(target)
    if target.exists():
        fail(f"{target} is there already; give another directory")
    d_in, d_sae = tensors["W_enc"].shape
    if tuple(tensors["W_dec"].shape) != (d_sae, d_in):
        fail(f"W_enc is {(d_in, d_sae)} and W_dec {tuple(tensors['W_dec'].shape)}: that is no SAE")
    whole = {
        "d_in": d_in,
        "d_sae": d_sae,
        "dtype": "float32",
        "device": "cpu",
        "normalize_activations": "none",
        "reshape_activations": "none",
        **cfg,
        "metadata": {"sae_lens_version": "6.54.12", "sae_lens_training_version": None, **metadata},
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".convert-") as staged:
        new = Path(staged) / "sae"
        new.mkdir()
        save_file({name: value.contiguous() for name, value in tensors.items()}, new / "sae_weights.safetensors")
        (new / "cfg.json").write_text(json.dumps(whole, indent=2) + "\n")
        os.rename(new, target)
    print(f"{target}: {cfg['architecture']}, d_in {d_in}, d_sae {d_sae}, {metadata['hook_name']} of {metadata['model_name']}")


def find_in_path(pattern, path):
    """The innermost part of an absolute path that a regular expression matches; None where none does."""
    parts = Path(os.path.abspath(path)).parts
    return next((found for part in reversed(parts) if (found := re.search(pattern, part))), None)
