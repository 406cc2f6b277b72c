#!/usr/bin/env python3
"""Do the scripts that convert pickles keep what an SAE computes?

    python pickles.py DIR

Writes into the new directory DIR a small pickle in each layout (Qwen Scope, Goodfire, qresearch, the hook-z SAEs of GPT-2, dictionary_learning), runs
its script of scripts/convert on it, and compares what SAELens (or dictionary_learning) makes of the result with the layout's own equations.
`encode.safetensors` beside each result holds x, latents and recon, for `assay encode` to be compared with. Exit status: 0 if all agree.
"""

import json
import subprocess
import sys
from pathlib import Path

import torch
from roundtrip import compare
from safetensors.torch import save_file

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "convert"
D, N, K = 12, 1024, 7


def draw(*shape):
    return torch.randn(*shape) * 0.3


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    root = Path(sys.argv[1])
    root.mkdir(parents=True)
    torch.manual_seed(1)
    x, w_enc, w_dec, b_enc, b_dec = draw(50, D) * 4, draw(N, D), draw(D, N), draw(N), draw(D)
    topk = lambda z: torch.zeros_like(z).scatter_(1, (top := z.relu().topk(K)).indices, top.values)
    plain = x @ w_enc.T + b_enc
    centred = (x - b_dec) @ w_enc.T + b_enc
    failed = []

    def check(name, script, file, state, latents, tool="saelens", beside=()):
        source = root / name / "source" / file
        source.parent.mkdir(parents=True)
        torch.save(state, source)
        for other, text in beside:
            source.with_name(other).write_text(text)
        target = root / name / tool
        subprocess.run([sys.executable, str(SCRIPTS / script), str(source), str(target)], check=True)
        io = {"x": x, "latents": latents, "recon": latents @ w_dec.T + b_dec}
        save_file({key: value.contiguous() for key, value in io.items()}, root / name / "encode.safetensors")
        if compare(tool, target, root / name / "encode.safetensors", latents=True) != 0:
            failed.append(name)

    check(
        "qwen-scope/SAE-Res-Qwen3-1.7B-Base-W1K-L0_7",
        "qwen_scope.py",
        "layer7.sae.pt",
        {"W_enc": w_enc, "W_dec": w_dec, "b_enc": b_enc, "b_dec": b_dec},
        topk(plain),
    )
    linear = {"weight": w_enc, "bias": b_enc}, {"weight": w_dec, "bias": b_dec}
    for name, file, parts in [
        ("goodfire", "Llama-3.1-8B-Instruct-SAE-l19.pth", ("encoder_linear", "decoder_linear")),
        ("qresearch", "DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt", ("encoder", "decoder")),
    ]:
        state = {f"{part}.{key}": value for part, of in zip(parts, linear) for key, value in of.items()}
        check(name, "goodfire.py", file, state, plain.relu())
    config = json.dumps({"act_size": D, "dict_size": N, "act_name": "blocks.5.attn.hook_z"})
    state = {"W_enc": w_enc.T.contiguous(), "W_dec": w_dec.T.contiguous(), "b_enc": b_enc, "b_dec": b_dec}
    check("hook-z-kk", "hook_z_kk.py", "gpt2-small_L5_z.pt", state, centred.relu(), beside=[("gpt2-small_L5_z_cfg.json", config)])
    config = json.dumps({"trainer": {"dict_class": "AutoEncoder", "activation_dim": D, "dict_size": N}, "buffer": {}})
    state = {"encoder.weight": w_enc, "encoder.bias": b_enc, "decoder.weight": w_dec, "bias": b_dec}
    check("dictionary-learning", "dictionary_learning.py", "ae.pt", state, centred.relu(), "dictionary-learning", [("config.json", config)])
    print(f"\n{'FAILED: ' + ', '.join(failed) if failed else 'ok'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
