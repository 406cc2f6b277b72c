"""Training traces of end-to-end objectives: a TopK SAE in a small GPT-NeoX, gradients by torch's autograd, steps by torch's Adam (CPU, float64).

    python make_golden_kl.py MODELS OUT

MODELS holds neox-parallel/ and neox-sequential/ of make_golden.py, which are the models. Each folder of OUT: config.json (model, hook, objective,
SAE, Adam, clip) and trace.safetensors: init.*, tokens [steps, contexts, context], kl [steps], mse [steps], grad.0 (the gradient of the first
step's KL with respect to the reconstructions), final.*. The objectives:

- kl (Braun et al. 2024, arXiv:2405.12241): KL(clean || patched) of next-token distributions, mean over all positions, in nats;
- kl+mse (Karvonen 2025, arXiv:2503.17272): (MSE + alpha KL)/2 with alpha = MSE/(KL + 1e-8), detached; here the MSE is summed over d_model.

`scale` is a factor on the SAE's inputs, undone after it: the MSE is measured in scaled units.
"""
import json, sys
from pathlib import Path
import torch
from safetensors.torch import load_file, save_file
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

models, out = Path(sys.argv[1]), Path(sys.argv[2])
torch.set_default_dtype(torch.float64)


def load(name):
    config = json.loads((models / name / "config.json").read_text())
    model = GPTNeoXForCausalLM(GPTNeoXConfig(**config)).double().eval()
    weights = load_file(models / name / "model.safetensors")
    known = model.state_dict()
    missing = [key for key in known if key not in weights and "lm_head" not in key and "inv_freq" not in key]
    assert not missing, missing
    model.load_state_dict({("lm_head.weight" if key == "embed_out.weight" and "lm_head.weight" in known else key): v.double() for key, v in weights.items()}, strict=False)
    head = model.get_output_embeddings().weight
    assert torch.equal(head, weights["embed_out.weight"].double())
    return model.requires_grad_(False)


def module(model, layer, kind):
    block = model.gpt_neox.layers[layer]
    return {"resid_post": block, "mlp_out": block.mlp, "attn_out": block.attention}[kind]


def run(model, where, tokens, patch):
    """Logits with `patch` of the activation in its place, and the activation."""
    seen = []

    def hook(_, __, output):
        x = output[0] if isinstance(output, tuple) else output
        seen.append(x)
        y = patch(x)
        return (y, *output[1:]) if isinstance(output, tuple) else y

    handle = where.register_forward_hook(hook)
    logits = model(tokens).logits
    handle.remove()
    return logits, seen[0]


def trace(name, seed, model_name, layer, kind, objective, k, d_sae, contexts=3, context=16, steps=6, lr=3e-3, clip=1.0, scale=1.0):
    torch.manual_seed(seed)
    model = load(model_name)
    where, d, vocab = module(model, layer, kind), model.config.hidden_size, model.config.vocab_size
    tokens = torch.randint(0, vocab, (steps, contexts, context))
    w_dec = torch.nn.functional.normalize(torch.randn(d_sae, d), dim=1) * (0.5 + torch.rand(d_sae, 1))
    init = {"W_enc": w_dec + 0.05 * torch.randn(d_sae, d), "W_dec": w_dec, "b_enc": 0.05 * torch.randn(d_sae), "b_dec": 0.1 * torch.randn(d)}
    # What is stored is what training starts from.
    init = {key: value.float() for key, value in init.items()}
    params = {key: value.double().requires_grad_() for key, value in init.items()}
    adam = torch.optim.Adam(params.values(), lr=lr, betas=(0.9, 0.999), eps=1e-8)
    rows = {"kl": [], "mse": []}
    grad = None
    for batch in tokens:
        clean, x = run(model, where, batch, lambda x: x)
        scaled = (x * scale).detach()
        pre = (scaled - params["b_dec"]) @ params["W_enc"].T + params["b_enc"]
        values, indices = pre.topk(k, dim=-1)
        code = torch.zeros_like(pre).scatter(-1, indices, values.relu())
        recon = code @ params["W_dec"] + params["b_dec"]
        patched_in = recon / scale
        patched_in.retain_grad()
        patched, _ = run(model, where, batch, lambda _: patched_in)
        log_p, log_q = clean.log_softmax(-1).detach(), patched.log_softmax(-1)
        kl = (log_p.exp() * (log_p - log_q)).sum(-1).mean()
        mse = (recon - scaled).square().sum(-1).mean()
        if grad is None:
            grad = torch.autograd.grad(kl, patched_in, retain_graph=True)[0].clone()
        if objective == "kl":
            loss = kl
        else:
            alpha = (mse / (kl + 1e-8)).detach()
            loss = 0.5 * (mse + alpha * kl)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params.values(), clip)
        adam.step()
        rows["kl"].append(kl.item())
        rows["mse"].append(mse.item())
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    hook = f"blocks.{layer}." + {"resid_post": "hook_resid_post", "mlp_out": "hook_mlp_out", "attn_out": "hook_attn_out"}[kind]
    config = dict(model=model_name, hook=hook, objective=objective, k=k, d_in=d, d_sae=d_sae, lr=lr, clip=clip, scale=scale, adam=[0.9, 0.999, 1e-8])
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    tensors = {f"init.{key}": value for key, value in init.items()}
    tensors |= {f"final.{key}": value.detach().float() for key, value in params.items()}
    tensors |= {key: torch.tensor(value).float() for key, value in rows.items()}
    tensors |= {"tokens": tokens, "grad.0": grad.float().reshape(-1, d)}
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "trace.safetensors")
    print(name, *(f"{kl:.4f}/{mse:.3f}" for kl, mse in zip(rows["kl"], rows["mse"])))


trace("kl", 11, "neox-parallel", 1, "resid_post", "kl", k=6, d_sae=80)
trace("kl-mlp", 12, "neox-sequential", 2, "mlp_out", "kl", k=5, d_sae=72)
trace("kl-mse", 13, "neox-sequential", 1, "resid_post", "kl+mse", k=5, d_sae=72)
trace("kl-mse-scaled", 14, "neox-parallel", 2, "attn_out", "kl+mse", k=6, d_sae=80, scale=0.4)
