"""The shapes of published models that captures are timed at, and transformers' configurations of them."""

SHAPES = {
    "pythia-70m": {"family": "gpt_neox", "layers": 6, "d_model": 512, "heads": 8, "mlp": 2048, "vocab": 50304},
    "pythia-410m": {"family": "gpt_neox", "layers": 24, "d_model": 1024, "heads": 16, "mlp": 4096, "vocab": 50304},
    "smollm2-135m": {"family": "llama", "layers": 30, "d_model": 576, "heads": 9, "kv_heads": 3, "mlp": 1536, "vocab": 49152},
    "gemma-3-270m": {
        "family": "gemma3", "layers": 18, "d_model": 640, "heads": 4, "kv_heads": 1, "d_head": 256, "mlp": 2048, "vocab": 262144,
        "window": 512,
    },
    "llama-3.2-1b": {"family": "llama3", "layers": 16, "d_model": 2048, "heads": 32, "kv_heads": 8, "mlp": 8192, "vocab": 128256},
    "bundled-small": {"family": "gpt_neox", "layers": 6, "d_model": 128, "heads": 4, "mlp": 512, "vocab": 4096},
    "bundled-medium": {"family": "gpt_neox", "layers": 8, "d_model": 256, "heads": 4, "mlp": 1024, "vocab": 4096},
    "tiny": {"family": "gpt_neox", "layers": 2, "d_model": 64, "heads": 4, "mlp": 256, "vocab": 512},
    "tiny-llama": {"family": "llama", "layers": 2, "d_model": 64, "heads": 4, "kv_heads": 2, "mlp": 160, "vocab": 512},
    "tiny-gemma": {
        "family": "gemma3", "layers": 7, "d_model": 64, "heads": 4, "kv_heads": 1, "d_head": 32, "mlp": 160, "vocab": 512, "window": 16,
    },
}  # fmt: skip


def d_head(shape):
    return shape.get("d_head", shape["d_model"] // shape["heads"])


def kv_heads(shape):
    return shape.get("kv_heads", shape["heads"])


def config_of(shape, context=256):
    """transformers' configuration, attention by SDPA."""
    from transformers import Gemma3TextConfig, GPTNeoXConfig, LlamaConfig

    common = {
        "vocab_size": shape["vocab"],
        "hidden_size": shape["d_model"],
        "num_hidden_layers": shape["layers"],
        "num_attention_heads": shape["heads"],
        "intermediate_size": shape["mlp"],
        "max_position_embeddings": max(2048, context),
        "use_cache": False,
        "attn_implementation": "sdpa",
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    if shape["family"] == "gpt_neox":
        return GPTNeoXConfig(use_parallel_residual=True, rotary_pct=0.25, **common)
    common |= {"num_key_value_heads": shape["kv_heads"], "head_dim": d_head(shape), "tie_word_embeddings": True}
    if shape["family"] == "gemma3":
        return Gemma3TextConfig(sliding_window=shape["window"], query_pre_attn_scalar=d_head(shape), **common)
    scaling = {"rope_type": "default", "rope_theta": 100_000.0}
    if shape["family"] == "llama3":
        scaling = {
            "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }  # fmt: skip
        common["max_position_embeddings"] = 131_072
    return LlamaConfig(rope_parameters=scaling, rms_norm_eps=1e-5, **common)


def weight_flops(shape, tokens):
    """FLOPs of the weight products alone, 2 a weight: queries, keys, values, output, and an MLP of two maps, or of three if it is gated."""
    d, rows = shape["d_model"], d_head(shape)
    maps = 2 if shape["family"] == "gpt_neox" else 3
    weights = d * rows * (2 * shape["heads"] + 2 * kv_heads(shape)) + maps * d * shape["mlp"]
    return 2 * weights * shape["layers"] * tokens
