#!/usr/bin/env python3
"""The models of `families/` as GGUF files, converted as llama.cpp does it.

    python make_gguf_families.py FAMILIES OUT [NAME ...]

Needs gguf 0.19.0, numpy, safetensors, torch (to read bf16). The names of tensors are those of the package's `get_tensor_name_map`;
which keys are written, and what is done to tensors, follows `conversion/{base,llama,gemma,gpt2,gpt_neox,olmo,qwen}.py` in
ggml-org/llama.cpp. One thing it cannot say, a `query_pre_attn_scalar` that is not `head_dim`, is folded into the queries.
All tensors are written as f32.
"""

import json
import math
import re
import sys
from pathlib import Path

import gguf
import numpy as np
from safetensors.torch import load_file

ARCH = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mistral": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "gemma": gguf.MODEL_ARCH.GEMMA,
    "gemma2": gguf.MODEL_ARCH.GEMMA2,
    "gemma3_text": gguf.MODEL_ARCH.GEMMA3,
    "gpt2": gguf.MODEL_ARCH.GPT2,
    "gpt_neox": gguf.MODEL_ARCH.GPTNEOX,
    "olmo2": gguf.MODEL_ARCH.OLMO2,
}


# Files do not say it: llama.cpp has one for each architecture.
ACTIVATION = {"gpt2": "gelu_new", "gpt_neox": "gelu", "gemma": "gelu_pytorch_tanh", "gemma2": "gelu_pytorch_tanh"}
ACTIVATION["gemma3_text"] = "gelu_pytorch_tanh"


def permute(w, heads):
    """conversion/llama.py, LlamaModel.permute."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def converted(name, w, c):
    kind = c["model_type"]
    heads = c.get("num_attention_heads", c.get("n_head"))
    if kind in ("llama", "mistral"):
        if name.endswith(("q_proj.weight", "q_proj.bias")):
            w = permute(w, heads)
        if name.endswith(("k_proj.weight", "k_proj.bias")):
            w = permute(w, c["num_key_value_heads"])
    if kind.startswith("gemma"):
        if name.endswith("norm.weight"):
            w = w + np.float32(1)
        folded = "q_norm.weight" if kind == "gemma3_text" else "q_proj.weight"
        if name.endswith(folded) and "query_pre_attn_scalar" in c:
            w = (w * math.sqrt(c["head_dim"] / c["query_pre_attn_scalar"])).astype(np.float32)
    if kind == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
        w = w.T
    if kind == "gpt_neox" and "query_key_value" in name:
        d = c["hidden_size"]
        by_head = w.reshape(heads, 3, d // heads, *w.shape[1:])
        w = np.concatenate([by_head[:, i].reshape(d, *w.shape[1:]) for i in range(3)])
    return np.ascontiguousarray(w)


def divisors(rope, dim):
    """conversion/llama.py, LlamaModel.generate_extra_tensors; with the original length where transformers has it."""
    low, high, old = rope["low_freq_factor"], rope["high_freq_factor"], rope["original_max_position_embeddings"]
    for freq in 1.0 / rope["rope_theta"] ** (np.arange(0, dim, 2, dtype=np.float32) / dim):
        wave = 2 * math.pi / freq
        if wave < old / high:
            yield 1
        elif wave > old / low:
            yield rope["factor"]
        else:
            smooth = (old / wave - low) / (high - low)
            yield 1 / ((1 - smooth) / rope["factor"] + smooth)


def keys(w, c):
    kind = c["model_type"]
    w.add_context_length(c.get("max_position_embeddings", c.get("n_positions")))
    w.add_embedding_length(c.get("hidden_size", c.get("n_embd")))
    w.add_block_count(c.get("num_hidden_layers", c.get("n_layer")))
    w.add_feed_forward_length(c.get("intermediate_size") or 4 * c["n_embd"])
    w.add_head_count(c.get("num_attention_heads", c.get("n_head")))
    if kind in ("gpt2", "gpt_neox"):
        w.add_layer_norm_eps(c.get("layer_norm_eps", c.get("layer_norm_epsilon")))
        if kind == "gpt_neox":
            rotary = c["rope_parameters"]["partial_rotary_factor"]
            w.add_rope_dimension_count(int(rotary * (c["hidden_size"] // c["num_attention_heads"])))
            w.add_parallel_residual(c["use_parallel_residual"])
        return
    w.add_head_count_kv(c["num_key_value_heads"])
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    if "head_dim" in c:
        w.add_key_length(c["head_dim"])
        w.add_value_length(c["head_dim"])
    if kind == "llama":
        w.add_rope_dimension_count(c["head_dim"])
    if kind in ("gemma2", "gemma3_text"):
        w.add_sliding_window(c["sliding_window"])
        if c.get("attn_logit_softcapping"):
            w.add_attn_logit_softcapping(c["attn_logit_softcapping"])
        if c.get("final_logit_softcapping"):
            w.add_final_logit_softcapping(c["final_logit_softcapping"])
    if kind in ("gemma", "gemma2"):
        return
    ropes = c["rope_parameters"]
    rope = ropes.get("full_attention", ropes)
    w.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] in ("linear", "yarn"):
        w.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        w.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        w.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if rope["rope_type"] == "llama3":
        w.add_tensor("rope_freqs.weight", np.array(list(divisors(rope, c["head_dim"])), dtype=np.float32))


def convert(folder, out):
    c = json.loads((folder / "config.json").read_text())
    arch = ARCH[c["model_type"]]
    activations = {c.get(key) for key in ("hidden_act", "hidden_activation", "activation_function")} - {None}
    assert activations == {ACTIVATION.get(c["model_type"], "silu")}, f"{folder}: {activations}"
    names = gguf.get_tensor_name_map(arch, c.get("num_hidden_layers", c.get("n_layer")))
    writer = gguf.GGUFWriter(out, gguf.MODEL_ARCH_NAMES[arch])
    keys(writer, c)
    for name, tensor in sorted(load_file(folder / "model.safetensors").items()):
        if re.search(r"\.attn\.(masked_)?bias$", name):
            continue
        mapped = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert mapped, name
        writer.add_tensor(mapped, converted(name, tensor.float().numpy(), c))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[3:] or sorted(p.name for p in source.iterdir() if (p / "config.json").is_file()):
        convert(source / name, out / f"{name}.gguf")
