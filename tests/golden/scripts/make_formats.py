#!/usr/bin/env python3
"""SAEs in the formats of dictionary_learning, sparsify and SAELens, and what these tools compute with them.

    python make_formats.py OUT

Needs dictionary-learning 0.1.0, eai-sparsify 1.3.3, sae-lens 6.54.12. Of dictionary_learning only the dictionaries are
used: what its other modules import (nnsight, wandb, zstandard) need not be there.
Weights are random, so that biases, norms and thresholds all matter. float32, CPU.
"""

import importlib
import json
import os
import sys
import types
from pathlib import Path

import torch
from safetensors.torch import save_file

os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
D, N, K, ROWS = 24, 64, 6, 24
OUT = Path(sys.argv[1])


def inputs(seed=5):
    g = torch.Generator().manual_seed(seed)
    codes = torch.relu(torch.randn(ROWS, N // 2, generator=g) - 1)
    return codes @ torch.randn(N // 2, D, generator=g) + 0.05 * torch.randn(ROWS, D, generator=g) + 0.3


def shaken(module, seed=31, scale=0.1):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=g) * scale)
    return module


def store(folder, x, latents, recon):
    tensors = {"x": x, "latents": latents, "recon": recon}
    save_file({name: t.detach().contiguous() for name, t in tensors.items()}, str(folder / "encode.safetensors"))
    print(f"{folder.name:40} L0 {float((latents != 0).sum(-1).float().mean()):.2f}")


def dictionary_learning():
    for missing in ("nnsight", "wandb", "zstandard", "datasets", "dictionary_learning.buffer"):
        if missing not in sys.modules:
            stub = types.ModuleType(missing)
            stub.LanguageModel = stub.load_dataset = stub.ActivationBuffer = None
            sys.modules[missing] = stub
    module = lambda name: importlib.import_module(f"dictionary_learning.{name}")
    d = module("dictionary")
    top_k = module("trainers.top_k").AutoEncoderTopK
    batch_top_k = module("trainers.batch_top_k").BatchTopKSAE
    matryoshka = module("trainers.matryoshka_batch_top_k").MatryoshkaBatchTopKSAE
    torch.manual_seed(7)

    def with_threshold(sae, value):
        sae.threshold.fill_(value)
        return sae

    def jump():
        sae = shaken(d.JumpReluAutoEncoder(D, N))
        with torch.no_grad():
            sae.threshold.add_(torch.rand(N))
        return sae

    for name, trainer, sae in [
        ("standard", "StandardTrainer", shaken(d.AutoEncoder(D, N))),
        ("standard-new", "StandardTrainerAprilUpdate", shaken(d.AutoEncoderNew(D, N))),
        ("topk", "TopKTrainer", shaken(with_threshold(top_k(D, N, K), 0.4))),
        ("batchtopk", "BatchTopKTrainer", shaken(with_threshold(batch_top_k(D, N, K), 1.1))),
        ("gated", "GatedSAETrainer", shaken(d.GatedAutoEncoder(D, N), scale=0.3)),
        ("jumprelu", "JumpReluTrainer", jump()),
        ("matryoshka", "MatryoshkaBatchTopKTrainer", shaken(with_threshold(matryoshka(D, N, K, [16, 48]), 0.9))),
    ]:
        folder = OUT / f"dictionary-learning-{name}"
        (folder / "trainer_0").mkdir(parents=True, exist_ok=True)
        config = {
            "trainer": {
                "trainer_class": trainer, "dict_class": type(sae).__name__, "activation_dim": D, "dict_size": N,
                "layer": 1, "lm_name": "EleutherAI/neox-parallel", "submodule_name": "resid_post_layer_1",
            },
            "buffer": {"d_submodule": D, "io": "out", "ctx_len": 128},
        }
        if hasattr(sae, "k"):
            config["trainer"]["k"] = K
        (folder / "trainer_0/config.json").write_text(json.dumps(config))
        state = {name: t.detach().clone().contiguous() for name, t in sae.state_dict().items()}
        save_file(state, str(folder / "trainer_0/ae.safetensors"))
        x = inputs()
        latents = sae.encode(x)
        store(folder, x, latents, sae.decode(latents))


def sparsify():
    from sparsify.config import SparseCoderConfig
    from sparsify.sparse_coder import SparseCoder

    torch.manual_seed(8)
    sae = shaken(SparseCoder(D, SparseCoderConfig(activation="groupmax", num_latents=N, k=8)))
    folder = OUT / "sparsify-groupmax"
    sae.save_to_disk(folder / "layers.1.mlp")
    x = inputs()
    acts, indices, _ = sae.encode(x)
    store(folder, x, torch.zeros(ROWS, N).scatter_(1, indices, acts.detach()), sae.decode(acts, indices))


def saelens():
    from sae_lens import SAE
    from sae_lens.saes.gated_sae import GatedSAE, GatedSAEConfig
    from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig
    from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig

    torch.manual_seed(9)
    cases = {
        "saelens-topk-constant-norm": (
            TopKSAE, TopKSAEConfig,
            dict(k=K, rescale_acts_by_decoder_norm=True, normalize_activations="constant_norm_rescale"),
        ),
        "saelens-gated-layer-norm": (
            GatedSAE, GatedSAEConfig, dict(apply_b_dec_to_input=False, normalize_activations="layer_norm"),
        ),
        "saelens-jumprelu-expected-average": (
            JumpReLUSAE, JumpReLUSAEConfig, dict(normalize_activations="expected_average_only_in"),
        ),
    }
    for name, (cls, config_cls, settings) in cases.items():
        config = config_cls(d_in=D, d_sae=N, device="cpu", **settings)
        config.metadata.hook_name, config.metadata.model_name = "blocks.1.hook_resid_post", "neox-parallel"
        sae = shaken(cls(config), scale=0.2)
        if hasattr(sae, "threshold"):
            with torch.no_grad():
                sae.threshold.abs_()
        sae.save_model(OUT / name / "sae")
        compare(OUT / name)

    # As SAELens 3 to 5 wrote it: everything at the top of cfg.json; weights in bf16.
    folder = OUT / "saelens-legacy-topk-bf16"
    (folder / "sae").mkdir(parents=True, exist_ok=True)
    sae = shaken(TopKSAE(TopKSAEConfig(d_in=D, d_sae=N, k=K, device="cpu")))
    save_file({k: v.detach().bfloat16().contiguous() for k, v in sae.state_dict().items()}, str(folder / "sae/sae_weights.safetensors"))
    config = {
        "architecture": "standard", "d_in": D, "d_sae": N, "activation_fn_str": "topk", "activation_fn_kwargs": {"k": K},
        "apply_b_dec_to_input": True, "finetuning_scaling_factor": False, "context_size": 128,
        "model_name": "neox-parallel", "hook_name": "blocks.1.hook_resid_post", "hook_layer": 1, "hook_head_index": None,
        "prepend_bos": True, "dataset_path": "monology/pile-uncopyrighted", "dataset_trust_remote_code": True,
        "normalize_activations": "none", "dtype": "bfloat16", "device": "cpu", "sae_lens_training_version": "5.10.0",
        "neuronpedia_id": None, "model_from_pretrained_kwargs": {},
    }
    (folder / "sae/cfg.json").write_text(json.dumps(config))
    compare(folder)


def compare(folder):
    from sae_lens import SAE

    # The weights as stored, the arithmetic in float32.
    sae = SAE.load_from_disk(str(folder / "sae"), device="cpu", dtype="float32")
    x = inputs()
    with torch.no_grad():
        latents = sae.encode(x)
        store(folder, x, latents, sae.decode(latents))


with torch.no_grad():
    sparsify()
    saelens()
    dictionary_learning()  # last: it stubs modules that the others may want
