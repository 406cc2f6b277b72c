"""Reference values of small random decoders of several families, made with transformers (eager attention, float32, CPU).

    python make_golden_families.py OUT

Each folder holds config.json and model.safetensors as transformers saves them, and expected.safetensors:
tokens [B, T], logits [B, T, V], ce [B, T-1]; for every layer L resid_pre.L, resid_mid.L (where the family has one),
resid_post.L, attn_out.L, mlp_out.L [B, T, d] (what is added to the residual stream, after post-norms where there are any), and
grad_resid_post.L, the gradient of the summed ce.
"""
import json, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
import transformers as tf

out = Path(sys.argv[1])
torch.backends.cuda.matmul.allow_tf32 = False
torch.set_float32_matmul_precision("highest")


def parts(m):
    """(layers, attention output modules, mlp output modules)"""
    t = m.config.model_type
    if t == "gpt2":
        ls = m.transformer.h
        return ls, [l.attn for l in ls], [l.mlp for l in ls]
    ls = m.model.layers
    if t in ("gemma2", "gemma3_text", "olmo2"):
        return ls, [l.post_attention_layernorm for l in ls], [l.post_feedforward_layernorm for l in ls]
    return ls, [l.self_attn for l in ls], [l.mlp for l in ls]


def first(o):
    return o[0] if isinstance(o, tuple) else o


def build(name, seed, cls, cfg, B=2, T=24, dtype=torch.float32, scale=5.0, reload=False):
    torch.manual_seed(seed)
    config = cls.config_class(**cfg)
    config._attn_implementation = "eager"
    m = cls(config).eval()
    with torch.no_grad():
        for n, p in m.named_parameters():
            if p.ndim >= 2:
                p.mul_(scale * (3.0 if any(k in n for k in ("q_proj", "k_proj", "c_attn")) else 1.0))
            elif "bias" in n:
                p.normal_(0, 0.2)
            else:
                p.add_(torch.randn_like(p) * 0.15)
    m = m.to(dtype).to(torch.float32)  # weights as they are stored, arithmetic in float32
    if reload:  # as users load it: what is no weight (rotary frequencies, the embedding's scale) stays in float32
        m.to(dtype).save_pretrained(out / name)
        m = cls.from_pretrained(out / name, dtype=torch.float32, attn_implementation="eager").eval()
    ids = torch.randint(0, cfg["vocab_size"], (B, T))
    e, got, hooks = {}, {}, []
    ls, at, ml = parts(m)
    for i, (l, a, p) in enumerate(zip(ls, at, ml)):
        def pre(mod, args, kwargs, i=i):
            got["pre", i] = args[0] if args else kwargs["hidden_states"]
        def post(mod, a_, o, i=i):
            h = first(o); h.retain_grad(); got["post", i] = h
        hooks += [l.register_forward_pre_hook(pre, with_kwargs=True), l.register_forward_hook(post)]
        hooks += [a.register_forward_hook(lambda mod, a_, o, i=i: got.__setitem__(("attn", i), first(o)))]
        hooks += [p.register_forward_hook(lambda mod, a_, o, i=i: got.__setitem__(("mlp", i), first(o)))]
    logits = m(input_ids=ids, use_cache=False).logits
    lp = logits[:, :-1].log_softmax(-1)
    ce = -lp.gather(-1, ids[:, 1:, None]).squeeze(-1)
    ce.sum().backward()
    d = lambda x: x.detach().clone().contiguous()
    e = {"tokens": ids, "logits": d(logits), "ce": d(ce)}
    for i in range(len(ls)):
        e[f"resid_pre.{i}"] = d(got["pre", i]); e[f"attn_out.{i}"] = d(got["attn", i]); e[f"mlp_out.{i}"] = d(got["mlp", i])
        e[f"resid_mid.{i}"] = d(got["pre", i] + got["attn", i]); e[f"resid_post.{i}"] = d(got["post", i])
        e[f"grad_resid_post.{i}"] = d(got["post", i].grad)
        err = (e[f"resid_mid.{i}"] + e[f"mlp_out.{i}"] - e[f"resid_post.{i}"]).norm() / e[f"resid_post.{i}"].norm()
        assert err < 1e-5, (name, i, err)
    folder = out / name; folder.mkdir(parents=True, exist_ok=True)
    m.to(dtype).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    save_file(e, str(folder / "expected.safetensors"))
    size = sum(f.stat().st_size for f in folder.iterdir()) // 1024
    print(f"{name:28s} {config.model_type:12s} params {sum(p.numel() for p in m.parameters())} ce {ce.mean():.3f} "
          f"norms {[round(float(e[f'resid_post.{i}'].norm(dim=-1).mean()),2) for i in range(len(ls))]} {size} KiB")
    return config


base = dict(vocab_size=160, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=88,
            max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=0)
L3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
build("gpt2", 1, tf.GPT2LMHeadModel, dict(vocab_size=160, n_embd=32, n_layer=3, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0))
build("llama-gqa-llama3-rope", 2, tf.LlamaForCausalLM, dict(base, num_key_value_heads=2, rope_parameters=L3, tie_word_embeddings=False))
build("llama-tied-bf16", 3, tf.LlamaForCausalLM, dict(base, num_key_value_heads=1, rope_parameters={"rope_type": "default", "rope_theta": 100000.0}, tie_word_embeddings=True, rms_norm_eps=1e-5), dtype=torch.bfloat16)
build("mistral-window", 4, tf.MistralForCausalLM, dict(base, num_key_value_heads=2, sliding_window=7, head_dim=16))
build("qwen2-tied", 5, tf.Qwen2ForCausalLM, dict(base, num_key_value_heads=2, tie_word_embeddings=True, rms_norm_eps=1e-6))
build("qwen3", 6, tf.Qwen3ForCausalLM, dict(base, num_key_value_heads=2, head_dim=16, tie_word_embeddings=False))
build("gemma2", 7, tf.Gemma2ForCausalLM, dict(base, num_hidden_layers=4, num_key_value_heads=2, head_dim=16, query_pre_attn_scalar=24, sliding_window=6, attn_logit_softcapping=4.0, final_logit_softcapping=6.0), scale=4.0)
build("gemma3", 8, tf.Gemma3ForCausalLM, dict(base, num_hidden_layers=7, num_key_value_heads=1, head_dim=16, query_pre_attn_scalar=16, sliding_window=6), scale=4.0)
build("olmo2", 9, tf.Olmo2ForCausalLM, dict(base, num_key_value_heads=2), scale=4.0)
# Other settings of the same families.
build("llama-yarn", 1, tf.LlamaForCausalLM, dict(base, num_key_value_heads=1, head_dim=16, rope_parameters={"rope_type":"yarn","rope_theta":10000.0,"factor":8.0,"original_max_position_embeddings":16}))
build("llama-yarn-notrunc", 2, tf.LlamaForCausalLM, dict(base, num_key_value_heads=2, head_dim=16, rope_parameters={"rope_type":"yarn","rope_theta":500.0,"factor":4.0,"original_max_position_embeddings":32,"truncate":False,"beta_fast":8.0,"beta_slow":2.0,"mscale":0.7,"mscale_all_dim":1.3}))
build("llama-longrope-long", 3, tf.LlamaForCausalLM, dict(base, num_key_value_heads=2, rope_parameters={"rope_type":"longrope","rope_theta":10000.0,"original_max_position_embeddings":16,"short_factor":[1.0,1.1,1.2,1.3],"long_factor":[1.5,2.0,3.0,4.0],"factor":8.0}))
build("llama-dynamic", 5, tf.LlamaForCausalLM, dict(base, rope_parameters={"rope_type":"dynamic","rope_theta":10000.0,"factor":2.0}))
build("gpt2-noscale", 6, tf.GPT2LMHeadModel, dict(vocab_size=130, n_embd=48, n_layer=2, n_head=3, n_positions=48, activation_function="silu", scale_attn_weights=False, reorder_and_upcast_attn=True, tie_word_embeddings=False, bos_token_id=0, eos_token_id=0), dtype=torch.bfloat16)
build("qwen3-bias-window", 7, tf.Qwen3ForCausalLM, dict(base, num_key_value_heads=4, head_dim=10, attention_bias=True, use_sliding_window=True, sliding_window=3, layer_types=["sliding_attention","full_attention","sliding_attention"]))
build("gemma2-types", 8, tf.Gemma2ForCausalLM, dict(base, num_key_value_heads=1, head_dim=12, query_pre_attn_scalar=7, sliding_window=1, attn_logit_softcapping=2.0, final_logit_softcapping=None, attention_bias=True, hidden_activation="relu", layer_types=["full_attention","sliding_attention","sliding_attention"], tie_word_embeddings=False), scale=4.0)
build("olmo2-bias", 10, tf.Olmo2ForCausalLM, dict(base, num_key_value_heads=1, attention_bias=True, hidden_act="gelu_new"), scale=4.0)
build("gemma1", 109, tf.GemmaForCausalLM, dict(base, num_key_value_heads=1, head_dim=16), scale=4.0)
build("gemma3-bf16", 11, tf.Gemma3ForCausalLM, dict(base, num_key_value_heads=2, head_dim=16, query_pre_attn_scalar=16, sliding_window=6, layer_types=["sliding_attention", "full_attention", "sliding_attention"]), scale=4.0, dtype=torch.bfloat16, reload=True)
