"""Samples of further layouts, with what the tools themselves compute: sparsify's transcoders by sparsify; Llama Scope and circuit-tracer,
which need their models or a network to run, by their published equations in float64.

    python make_formats_2.py OUT        (torch, safetensors, numpy, eai-sparsify)

In each folder: `io.safetensors` with x [16, d_in], latents [16, d_sae], recon [16, d_out], and the SAE in a directory below.
"""
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
from sparsify import SparseCoder, SparseCoderConfig

OUT = Path(sys.argv[1])
D, N, K = 20, 96, 6


def save(path, **tensors):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: torch.as_tensor(value).contiguous().clone() for name, value in tensors.items()}, str(path))


def io(name, x, latents, recon):
    save(OUT / name / "io.safetensors", **{n: np.asarray(v, np.float32) for n, v in dict(x=x, latents=latents, recon=recon).items()})


def sparsify(name, seed, skip, groups=False):
    torch.manual_seed(seed)
    cfg = SparseCoderConfig(num_latents=N, k=K, transcode=True, skip_connection=skip, activation="groupmax" if groups else "topk")
    coder = SparseCoder(D, cfg)
    with torch.no_grad():
        for p in coder.parameters():
            p.normal_(0, 0.3)
    coder.save_to_disk(OUT / name / "model.layers.3.mlp")
    x = torch.randn(16, D)
    with torch.no_grad():
        out = coder(x)
    latents = torch.zeros(16, N).scatter_(-1, out.latent_indices, out.latent_acts)
    io(name, x, latents, out.sae_out)


def llama_scope(name, seed, act_fn, threshold, centred):
    """`SparseAutoEncoder` of lm_saes 1e710367 on raw activations: x·s_in in, W_dec·z + b_dec over s_out out; the latent of a token is
    measured in norms of its decoder column, and over s_out, as after `from_config`."""
    r = np.random.default_rng(seed)
    w_enc, w_dec = r.normal(0, 0.4, (N, D)), r.normal(0, 0.4, (D, N)) * r.uniform(0.5, 2.5, N)
    b_enc, b_dec = r.normal(0, 0.3, N), r.normal(0, 0.3, D)
    norms = {"in": 7.5, "out": 3.1}
    # As they are stored: bf16.
    w_enc, w_dec, b_enc, b_dec = (torch.tensor(v).bfloat16().double().numpy() for v in (w_enc, w_dec, b_enc, b_dec))
    x = np.float32(r.normal(0, 1.7, (16, D))).astype(np.float64)
    s_in, s_out = (D**0.5 / norms[key] for key in ("in", "out"))
    column = np.linalg.norm(w_dec, axis=0)
    # After loading b_dec is in the output's units, and is subtracted from raw x where it is at all.
    pre = (x - (b_dec / s_out if centred else 0)) @ w_enc.T + b_enc / s_in
    z = pre * column * s_in / s_out
    if act_fn == "topk" and not threshold:
        kept = np.zeros_like(z)
        for row, of in zip(kept, z):
            best = np.argsort(-np.maximum(of, 0), kind="stable")[:K]
            row[best] = np.maximum(of[best], 0)
        z = kept
    else:
        z = np.where(z > threshold, z, 0)
    recon = z @ (w_dec / column).T + b_dec / s_out
    folder = OUT / name / "Llama3_1-8B-Base-L3M-8x"
    bf16 = {"encoder.weight": w_enc, "encoder.bias": b_enc, "decoder.weight": w_dec, "decoder.bias": b_dec}
    save(folder / "checkpoints" / "final.safetensors", **{n: torch.tensor(v).bfloat16() for n, v in bf16.items()})
    hyperparams = {
        "hook_point_in": "blocks.3.hook_mlp_out", "hook_point_out": "blocks.3.hook_mlp_out", "use_decoder_bias": True,
        "apply_decoder_bias_to_pre_encoder": centred, "expansion_factor": 5, "d_model": D, "d_sae": N, "act_fn": act_fn, "top_k": K,
        "jump_relu_threshold": threshold, "norm_activation": "dataset-wise", "dataset_average_activation_norm": norms,
        "sparsity_include_decoder_norm": True, "use_glu_encoder": False, "dtype": "torch.bfloat16",
    }
    json.dump(hyperparams, open(folder / "hyperparams.json", "w"), indent=4)
    json.dump({"model_name": "meta-llama/Llama-3.1-8B", "d_model": D}, open(folder / "lm_config.json", "w"), indent=4)
    io(name, x, z, recon)


def llama_scope_r1(name, seed):
    """lm_saes b6471ee4 as it trains: x·s_in in, latents whose pre-activation times the norm of their decoder column exceeds their threshold, and
    the decoder's output over s_out."""
    r = np.random.default_rng(seed)
    f32 = lambda v: np.float32(v)
    w_enc, w_dec = f32(r.normal(0, 0.4, (N, D))), f32(r.normal(0, 0.4, (D, N)) * r.uniform(0.5, 2.5, N))
    b_enc, b_dec, log_threshold = f32(r.normal(0, 0.3, N)), f32(r.normal(0, 0.3, D)), f32(r.normal(0.3, 0.4, N))
    norm, x = f32(2.6), f32(r.normal(0, 0.6, (16, D)))
    e, d, x64 = w_enc.astype(np.float64), w_dec.astype(np.float64), x.astype(np.float64)
    s, column = D**0.5 / float(norm), np.linalg.norm(d, axis=0)
    scores = ((x64 * s) @ e.T + b_enc) * column
    z = np.where(scores > np.exp(log_threshold.astype(np.float64)), scores, 0)
    recon = (z @ (d / column).T + b_dec) / s
    folder = OUT / name / "400M-Slimpajama-400M-OpenR1-Math-220k" / "L3R"
    hook = "blocks.3.hook_resid_post"
    tensors = {"encoder.weight": w_enc, "encoder.bias": b_enc, "decoder.weight": w_dec, "decoder.bias": b_dec, "log_jumprelu_threshold": log_threshold}
    save(folder / "sae_weights.safetensors", **tensors, **{f"dataset_average_activation_norm.{hook}": norm})
    config = {
        "sae_type": "sae", "hook_point_in": hook, "hook_point_out": hook, "d_model": D, "expansion_factor": N / D, "use_decoder_bias": True,
        "use_glu_encoder": False, "act_fn": "jumprelu", "jump_relu_threshold": 0.0, "apply_decoder_bias_to_pre_encoder": False,
        "norm_activation": "dataset-wise", "sparsity_include_decoder_norm": True, "force_unit_decoder_norm": False, "top_k": 50,
    }
    json.dump(config, open(folder / "config.json", "w"), indent=4)
    io(name, x, z, recon)


def circuit_tracer(name, seed, jumps, skip, transposed):
    r = np.random.default_rng(seed)
    d_out = 28
    draw = lambda *shape: np.float32(r.normal(0, 0.3, shape))
    w_enc, w_dec, b_enc, b_dec = draw(N, D), draw(N, d_out), draw(N), draw(d_out)
    threshold, w_skip, x = np.abs(draw(N)), draw(d_out, D), np.float32(r.normal(0, 1, (16, D)))
    w64 = lambda v: v.astype(np.float64)
    pre = w64(x) @ w64(w_enc).T + b_enc
    z = np.where(pre > threshold, pre, 0) if jumps else np.maximum(pre, 0)
    recon = z @ w64(w_dec) + b_dec + (w64(x) @ w64(w_skip).T if skip else 0)
    tensors = {"W_enc": w_enc, "W_dec": w_dec.T if transposed else w_dec, "b_enc": b_enc, "b_dec": b_dec}
    if jumps:
        tensors["activation_function.threshold"] = threshold
    if skip:
        tensors["W_skip"] = w_skip
    save(OUT / name / "set" / "layer_4.safetensors", **tensors)
    (OUT / name / "set" / "config.yaml").write_text(
        'model_name: "meta-llama/Llama-3.2-1B"\nfeature_input_hook: "mlp.hook_in"\nfeature_output_hook: \'mlp.hook_out\'\n'
        "transcoders:\n  - id: layer-4\n    layer: 4\n    filepath: layer_4.safetensors\n"
    )
    io(name, x, z, recon)


sparsify("sparsify-transcoder", 51, False)
sparsify("sparsify-skip-transcoder", 52, True)
sparsify("sparsify-groupmax-transcoder", 53, False, groups=True)
llama_scope("llama-scope", 54, "topk", 0.55, False)
llama_scope("llama-scope-topk", 55, "topk", 0.0, True)
llama_scope("llama-scope-jumprelu", 56, "jumprelu", 0.4, False)
llama_scope_r1("llama-scope-r1", 59)
circuit_tracer("circuit-tracer-skip", 57, False, True, True)
circuit_tracer("circuit-tracer-jumprelu", 58, True, False, False)
