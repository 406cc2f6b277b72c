"""Evaluations of JumpReLU SAEs of random numbers on a real model, at hooks of every kind, and of transcoders: float64, CPU.

    python make_eval_sites.py gemma-3-270m-q4_k_m.gguf TEXT OUT

TEXT is Debian's /usr/share/common-licenses/GPL-3. transformers dequantises the file (packages `gguf`, `accelerate`) and runs it with eager attention.
OUT/tokens.safetensors: tokens [S, T]. OUT/NAME.json for each SAE below: its sizes and scales, and every metric, in the shapes of
make_eval_oracle.py. Weights are not stored: `uniform` makes them of whole numbers alone, in any language the same bits. The first four are for
Gemma Scope 2's layout, those called scope_* for Gemma Scope's params.npz, whose transcoders read the MLP's norm without its gain.
"""
import json
import sys
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

gguf, text, out = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
out.mkdir(parents=True, exist_ok=True)
torch.set_num_threads(2)
S, T, L, N = 3, 48, 9, 96

# name: (seed, hook that is read, hook that is patched, scale of what is read, scale of what is written, affine)
SAES = {
    "resid_post": (1, "resid_post", "resid_post", 300.0, 20.0, False),
    "z": (2, "z", "z", 0.5, 0.5, False),
    "mlp_out": (3, "mlp_out", "mlp_out", 50.0, 50.0, False),
    "affine": (4, "mlp_in", "mlp_out", 0.5, 10.0, True),
    "scope_resid_post": (5, "resid_post", "resid_post", 300.0, 20.0, False),
    "scope_z": (6, "z", "z", 0.5, 0.5, False),
    "scope_mlp_out": (7, "mlp_out", "mlp_out", 50.0, 50.0, False),
    "scope_transcoder": (8, "mlp_normalized", "mlp_out", 1.0, 10.0, False),
}


def uniform(seed, shape, scale):
    """Numbers in (-scale, scale): a hash of each one's place (Wellons' lowbias32), in float64, then rounded to float32."""
    n = int(np.prod(shape))
    x = (np.arange(n, dtype=np.uint64) + np.uint64(seed * 10_000_019)) & np.uint64(0xFFFFFFFF)
    for shift, factor in [(16, 0x7FEB352D), (15, 0x846CA68B)]:
        x ^= x >> np.uint64(shift)
        x = x * np.uint64(factor) & np.uint64(0xFFFFFFFF)
    x ^= x >> np.uint64(16)
    return ((x.astype(np.float64) / 2**31 - 1.0) * scale).astype(np.float32).reshape(shape)


def weights(seed, d_in, d_out, scale_in, scale_out, affine):
    made = {
        "w_enc": uniform(10 * seed, (d_in, N), (3.0 / d_in) ** 0.5 / scale_in),
        "b_enc": uniform(10 * seed + 1, (N,), 0.1),
        "w_dec": uniform(10 * seed + 2, (N, d_out), scale_out / N**0.5),
        "b_dec": uniform(10 * seed + 3, (d_out,), 0.1 * scale_out),
        "threshold": 1.0 + uniform(10 * seed + 4, (N,), 0.25),
    }
    if affine:
        made["affine_skip_connection"] = uniform(10 * seed + 5, (d_in, d_out), scale_out / (scale_in * d_in**0.5))
    return {name: torch.from_numpy(np.ascontiguousarray(v, dtype=np.float32)).double() for name, v in made.items()}


def tokens_of(words):
    """SentencePiece's BPE on the file's vocabulary: of all pairs of neighbours the one whose union scores best is joined, again and again.

    (transformers' tokenizer from a GGUF file joins them in another order.)
    """
    fields = GGUFReader(gguf).fields
    vocabulary, scores = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "scores"))
    known = {token: i for i, token in enumerate(vocabulary)}
    parts = list(words.replace(" ", "\u2581"))
    while True:
        joins = [(scores[known[a + b]], -i) for i, (a, b) in enumerate(zip(parts, parts[1:])) if a + b in known]
        if not joins:
            return [known[part] for part in parts]
        at = -max(joins)[1]
        parts[at : at + 2] = ["".join(parts[at : at + 2])]


BOS = 2
m = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32, attn_implementation="eager")
m = m.eval().requires_grad_(False).double()
words = text.read_text()
words = " ".join(words[words.index("The GNU General Public License is a free") :].split())[:1200]
ids = torch.tensor(tokens_of(words)[: S * (T - 1)]).view(S, T - 1)
ids = torch.cat([torch.full((S, 1), BOS), ids], 1).long()
save_file({"tokens": ids.contiguous()}, str(out / "tokens.safetensors"))
layer = m.model.layers[L]
first = lambda o: o[0] if isinstance(o, tuple) else o


def attach(kind, change):
    """Has `change` see what is at a hook, and put what it returns in its place; not in that of `mlp_normalized`, which no module has."""
    if kind == "mlp_normalized":
        norm = layer.pre_feedforward_layernorm

        def look(module, args):
            change(args[0] / (args[0].pow(2).mean(-1, keepdim=True) + norm.eps).sqrt())

        return norm.register_forward_pre_hook(look)
    if kind in ("z", "mlp_in"):
        module = layer.self_attn.o_proj if kind == "z" else layer.mlp
        return module.register_forward_pre_hook(lambda mod, args: (change(args[0]),))
    module = layer if kind == "resid_post" else layer.post_feedforward_layernorm
    return module.register_forward_hook(
        lambda mod, a, o: (change(first(o)), *o[1:]) if isinstance(o, tuple) else change(o)
    )


def run(kind, replacement=None, grad=False):
    kept = {}

    def change(h):
        h = h if replacement is None else replacement
        kept["h"] = h.detach().requires_grad_(True) if grad else h
        return kept["h"]

    hook = attach(kind, change)
    with torch.set_grad_enabled(grad):
        logits = m(ids, use_cache=False).logits
    hook.remove()
    return logits, kept["h"]


lp = lambda logits: logits[:, :-1].log_softmax(-1)
ce = lambda l: -l.gather(-1, ids[:, 1:, None]).squeeze(-1)


def evaluate(seed, reads, kind, scale_in, scale_out, affine):
    logits, h = run(kind, grad=True)
    l0 = lp(logits)
    c0 = ce(l0)
    c0.sum().backward()
    g, h, l0, c0 = h.grad, h.detach(), l0.detach(), c0.detach()
    with torch.no_grad():
        x = run(reads)[1]
        d_in, d = x.shape[-1], h.shape[-1]
        w = weights(seed, d_in, d, scale_in, scale_out, affine)
        pre = x @ w["w_enc"] + w["b_enc"]
        z = pre.relu() * (pre > w["threshold"])
        r = z @ w["w_dec"] + w["b_dec"]
        if affine:
            r = r + x @ w["affine_skip_connection"]
        l1 = lp(run(kind, r)[0])
        c1 = ce(l1)
        kl = (l0.exp() * (l0 - l1)).sum(-1)
        A, D, R, z = h.reshape(-1, d), (r - h).reshape(-1, d), r.reshape(-1, d), z.reshape(-1, N)
        cz = ce(lp(run(kind, torch.zeros_like(h))[0]))
        cm = ce(lp(run(kind, A.mean(0).expand_as(h).contiguous())[0]))

        def recon(mask):
            a, e, q = A[mask], D[mask], R[mask]
            sse, sst = (e**2).sum(), ((a - a.mean(0)) ** 2).sum()
            return dict(
                tokens=int(mask.sum()), r2=(1 - sse / sst).item(), sse_per_token=(sse / len(a)).item(),
                sst_per_token=(sst / len(a)).item(), mse_mean=(sse / len(a) / d).item(), nmse=(sse / (a**2).sum()).item(),
                cosine=torch.nn.functional.cosine_similarity(a, q, dim=-1).mean().item(),
                rel_err=(e.norm(dim=-1) / (a.norm(dim=-1) + 1e-10)).mean().item(),
                l2_ratio=(q.norm(dim=-1) / a.norm(dim=-1)).mean().item(),
                recon_bias=((q**2).sum(-1).mean() / (a * q).sum(-1).mean()).item(),
            )

        norm = A.norm(dim=-1)
        ordered = norm.sort().values
        median = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
        fires = (z != 0).sum(0).double()
        gd = (g[:, :-1] * (r - h)[:, :-1]).sum(-1)
        spectrum = torch.linalg.eigvalsh(torch.cov(A.T)).flip(0)
        pr = lambda e: (e.sum() ** 2 / (e**2).sum()).item()
        s0, s1 = c0.mean(1), c1.mean(1)
        margin = (pre - w["threshold"]).abs().min().item()
        metrics = dict(
            S=S, T=T, layer=L, ce_orig=c0.mean().item(), ce_recon=c1.mean().item(), ce_zero=cz.mean().item(),
            ce_mean=cm.mean().item(), ce_rec=(2 - s1 / s0).mean().item(), ce_rec_pooled=(2 - c1.sum() / c0.sum()).item(),
            ce_loss_score=((cz.mean() - c1.mean()) / (cz.mean() - c0.mean())).item(),
            ce_loss_score_mean=((cm.mean() - c1.mean()) / (cm.mean() - c0.mean())).item(), kl=kl.mean().item(),
            top1_agreement=(l0.argmax(-1) == l1.argmax(-1)).double().mean().item(),
            l0=(z != 0).sum(-1).double().mean().item(), alive_frac=(fires > 0).double().mean().item(),
            swd=(gd**2).mean().item(), abs_gdelta=gd.abs().mean().item(), gdelta=gd.mean().item(),
            pr=pr(spectrum), pr_deflated_1=pr(spectrum[1:]),
            all=recon(torch.ones(len(A), dtype=torch.bool)), no_first=recon(torch.arange(len(A)) % T != 0),
            no_outlier=recon(norm <= 10 * median), per_sequence=dict(ce_orig=s0.tolist(), ce_recon=s1.tolist()),
        )
    sae = dict(seed=seed, reads=reads, patched=kind, d_in=d_in, d_out=d, scale_in=scale_in, scale_out=scale_out, affine=affine)
    print(sae, {k: v for k, v in metrics.items() if not isinstance(v, dict)}, metrics["all"], "margin", margin, flush=True)
    print("std of pre", pre.std().item(), "of x", x.std().item(), "of h", h.std().item(), flush=True)
    return dict(sae=sae, expected=metrics)


for name, args in SAES.items():
    (out / f"{name}.json").write_text(json.dumps(evaluate(*args), indent=1) + "\n")
