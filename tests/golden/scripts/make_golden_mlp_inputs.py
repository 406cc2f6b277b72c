"""What the MLPs of the golden decoders read, by transformers (eager attention, float32, CPU).

    python make_golden_mlp_inputs.py GOLDEN OUT.safetensors

GOLDEN holds families/*, neox-parallel and neox-sequential, as make_golden_families.py and make_golden.py write them. For each model
NAME, of the first sequence at layer 1: NAME.mlp_in [T, d], what the MLP's module is given; NAME.mlp_normalized [T, d], the input of
the norm before it, normalised in float64 without gain and bias, where there is such a norm.
"""
import sys
from pathlib import Path

import torch
import transformers as tf
from safetensors.torch import load_file, save_file

golden, out = Path(sys.argv[1]), Path(sys.argv[2])
LAYER = 1


def layer_of(m):
    t = m.config.model_type
    if t == "gpt2":
        l = m.transformer.h[LAYER]
        return l, l.ln_2
    if t == "gpt_neox":
        l = m.gpt_neox.layers[LAYER]
        return l, l.post_attention_layernorm
    l = m.model.layers[LAYER]
    if t in ("gemma2", "gemma3_text"):
        return l, l.pre_feedforward_layernorm
    return l, None if t == "olmo2" else l.post_attention_layernorm


def normalised(norm, x):
    x = x.double()
    eps = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
    if isinstance(norm, torch.nn.LayerNorm):
        x = x - x.mean(-1, keepdim=True)
    return (x / (x.square().mean(-1, keepdim=True) + eps).sqrt()).float()


found = {}
for folder in sorted((golden / "families").iterdir()) + [golden / "neox-parallel", golden / "neox-sequential"]:
    expected = load_file(folder / "expected.safetensors")
    m = tf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    layer, norm = layer_of(m)
    got = {}
    layer.mlp.register_forward_pre_hook(lambda mod, args: got.__setitem__("mlp", args[0]))
    if norm is not None:
        norm.register_forward_pre_hook(lambda mod, args: got.__setitem__("norm", args[0]))
    with torch.no_grad():
        logits = m(input_ids=expected["tokens"], use_cache=False).logits
    error = (logits - expected["logits"]).norm() / expected["logits"].norm()
    print(folder.name, m.config.model_type, f"logits {error:.1e}")
    if error > 1e-5:
        continue  # stored are those of a model that was cast to two bytes with its buffers
    found[f"{folder.name}.mlp_in"] = got["mlp"][0].contiguous()
    if norm is not None:
        found[f"{folder.name}.mlp_normalized"] = normalised(norm, got["norm"][0]).contiguous()
save_file(found, str(out))
