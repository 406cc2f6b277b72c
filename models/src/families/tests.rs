use super::*;
use crate::config::{Act, LayerKind, RopeScaling};
use crate::fingerprint::fingerprint;

/// A small model of a family, with keys of its own.
fn small(model_type: &str, extra: &str) -> Result<DecoderConfig, String> {
    parse(&format!(
        r#"{{"model_type":"{model_type}","hidden_size":64,"num_hidden_layers":8,"num_attention_heads":4,"intermediate_size":96,
        "vocab_size":100{extra}}}"#
    ))
}

fn windows(config: &DecoderConfig) -> Vec<usize> {
    config.layers.iter().map(|layer| layer.window.unwrap_or(0)).collect()
}

/// What a class of transformers takes where a file is silent (model-specific defaults, 5.17).
#[test]
fn what_a_file_leaves_out_is_as_in_the_class() {
    let llama = small("llama", "").unwrap();
    assert_eq!((llama.attention.n_kv_heads, llama.attention.d_head, llama.norm.eps), (4, 16, 1e-6));
    assert!(!llama.ends.tied && !llama.attention.qkv_bias && windows(&llama) == [0; 8]);
    let mistral = small("mistral", r#","num_key_value_heads":2"#).unwrap();
    assert_eq!(windows(&mistral), [4096; 8]);
    assert_eq!(windows(&small("mistral", r#","num_key_value_heads":2,"sliding_window":null"#).unwrap()), [0; 8]);
    let qwen2 = small("qwen2", r#","num_key_value_heads":null,"sliding_window":64"#).unwrap();
    assert!(qwen2.attention.qkv_bias && !qwen2.attention.out_bias && windows(&qwen2) == [0; 8]);
    let some = r#","num_key_value_heads":2,"use_sliding_window":true,"sliding_window":64,"max_window_layers":5"#;
    assert_eq!(windows(&small("qwen2", some).unwrap()), [0, 0, 0, 0, 0, 64, 64, 64]);
    let qwen3 = small("qwen3", r#","num_key_value_heads":2"#).unwrap();
    assert_eq!(qwen3.attention.d_head, 128);
    let gemma = small("gemma", r#","num_key_value_heads":1,"hidden_act":"gelu""#).unwrap();
    assert_eq!((gemma.mlp.act, gemma.attention.d_head, gemma.ends.embed_scale), (Act::GeluTanh, 256, 8.0));
    let gemma2 = small("gemma2", "").unwrap();
    assert_eq!(windows(&gemma2), [4096, 0, 4096, 0, 4096, 0, 4096, 0]);
    assert_eq!((gemma2.attention.score_cap, gemma2.ends.logit_cap), (Some(50.0), Some(30.0)));
    assert_eq!(gemma2.layers[0].score_scale, 1.0 / 16.0);
    let gemma3 =
        small("gemma3_text", r#","sliding_window":8,"rope_scaling":{"rope_type":"linear","factor":8.0}"#).unwrap();
    assert_eq!(windows(&gemma3), [8, 8, 8, 8, 8, 0, 8, 8]);
    let of = |layer: &LayerKind| &gemma3.ropes[layer.rope.unwrap()];
    assert_eq!(
        (of(&gemma3.layers[5]).theta, &of(&gemma3.layers[5]).scaling),
        (1e6, &RopeScaling::Linear { factor: 8.0 })
    );
    assert_eq!((of(&gemma3.layers[0]).theta, &of(&gemma3.layers[0]).scaling), (1e4, &RopeScaling::Default));
    let wrapped = r#"{"model_type":"gemma3","eos_token_id":[1,106],"text_config":{"hidden_size":2560,"intermediate_size":10240,
        "num_hidden_layers":34,"sliding_window":1024}}"#;
    let wrapped = parse(wrapped).unwrap();
    assert_eq!(
        (wrapped.d_model, wrapped.attention.n_heads, wrapped.attention.d_q(), wrapped.eos),
        (2560, 8, 2048, Some(1))
    );
    let gpt2 = parse(r#"{"model_type":"gpt2","n_inner":null,"scale_attn_by_inverse_layer_idx":true}"#).unwrap();
    assert_eq!((gpt2.d_model, gpt2.mlp.d_mlp, gpt2.vocab_size, gpt2.n_layers()), (768, 3072, 50_257, 12));
    assert_eq!(gpt2.layers[3].score_scale, 1.0 / 32.0);
}

/// `layer_types` before every pattern, and the rotary settings in each of their three spellings.
#[test]
fn spellings_say_the_same() {
    let types: Vec<&str> =
        (0..8).map(|i| if i == 5 { "\"full_attention\"" } else { "\"sliding_attention\"" }).collect();
    let types = types.join(",");
    let old = small("gemma3_text", r#","sliding_window":8,"rope_theta":500.0,"rope_local_base_freq":50.0"#).unwrap();
    let new = format!(
        r#","sliding_window":8,"sliding_window_pattern":2,"layer_types":[{types}],"rope_parameters":{{"full_attention":{{"rope_theta":500.0,
        "rope_type":"default"}},"sliding_attention":{{"rope_theta":50.0,"rope_type":"default"}}}}"#
    );
    assert_eq!(small("gemma3_text", &new).unwrap(), old);
    let outer = r#","sliding_window":8,"rope_theta":500.0,"rope_local_base_freq":50.0,
        "rope_parameters":{"full_attention":{"rope_type":"default"},"sliding_attention":{"rope_type":"default"}}"#;
    assert_eq!(small("gemma3_text", outer).unwrap(), old);
    let gpt2 = |text: &str| parse(&format!(r#"{{"model_type":"gpt2",{text}}}"#)).unwrap();
    let other_names = r#""hidden_size":96,"num_attention_heads":6,"num_hidden_layers":2,"max_position_embeddings":32"#;
    assert_eq!(gpt2(other_names), gpt2(r#""n_embd":96,"n_head":6,"n_layer":2,"n_positions":32"#));
    let scaled = r#""factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":32"#;
    let flat =
        small("llama", &format!(r#","rope_parameters":{{"rope_theta":7.0,"rope_type":"llama3",{scaled}}}"#)).unwrap();
    let older = small("llama", &format!(r#","rope_theta":7.0,"rope_scaling":{{"type":"llama3",{scaled}}}"#)).unwrap();
    assert_eq!(flat, older);
    assert_eq!(flat.ropes[0].scaling, RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 32 });
}

#[test]
fn what_changes_numbers_and_is_not_there_is_refused() {
    for (model_type, extra, expected) in [
        ("llama", r#","is_causal":false"#, "is_causal is false"),
        ("llama", r#","rms_norm_eps":NaN"#, "rms_norm_eps is \"NaN\""),
        ("llama", r#","rope_theta":Infinity"#, "rope_theta is"),
        ("llama", r#","num_hidden_layers":1000000000000000"#, "at most 10000 are accepted"),
        ("llama", r#","rope_parameters":{"full_attention":{"rope_theta":50}}"#, "rope_parameters has `full_attention`"),
        (
            "llama",
            r#","rope_scaling":{"rope_type":"llama3","factor":2,"low_freq_factor":4,"high_freq_factor":1}"#,
            "low_freq_factor 4 is not below",
        ),
        ("llama", r#","rope_scaling":{"rope_type":"yarn","factor":0}"#, "factor is 0"),
        ("gemma", r#","num_key_value_heads":1,"hidden_activation":"relu""#, "hidden_act and hidden_activation differ"),
        ("gemma3_text", r#","attn_logit_softcapping":50.0"#, "attn_logit_softcapping is 50"),
        ("llama", r#","num_key_value_heads":3"#, "not a multiple of num_key_value_heads 3"),
        ("llama", r#","head_dim":0"#, "head_dim is 0"),
        ("llama", r#","partial_rotary_factor":0.5"#, "partial_rotary_factor 0.5"),
        ("llama", r#","rope_scaling":{"rope_type":"llama3"}"#, "needs factor"),
        (
            "llama",
            r#","rope_scaling":{"rope_type":"longrope","factor":2,"short_factor":[1]}"#,
            "short_factor has 1 values",
        ),
        ("llama", r#","hidden_act":"quick_gelu""#, "quick_gelu"),
        ("mistral", r#","num_key_value_heads":2,"layer_types":["full_attention"]"#, "layer_types has 1 entries"),
        ("gemma2", r#","use_bidirectional_attention":true"#, "use_bidirectional_attention"),
        ("gemma2", r#","attn_logit_softcapping":0"#, "attn_logit_softcapping is 0"),
        ("gemma3_text", r#","rope_parameters":{"full_attention":{"rope_type":"proportional"}}"#, "proportional"),
        ("qwen2", r#","layer_types":["linear_attention","x","x","x","x","x","x","x"]"#, "32"),
        (
            "qwen2",
            r#","num_key_value_heads":2,"layer_types":["a","a","a","a","a","a","a","a"]"#,
            "`a` is not supported",
        ),
    ] {
        let error = small(model_type, extra).unwrap_err();
        assert!(error.contains(expected), "{model_type}: {error}");
    }
    let gpt2 = |extra: &str| parse(&format!(r#"{{"model_type":"gpt2"{extra}}}"#)).unwrap_err();
    assert!(gpt2(r#","add_cross_attention":true"#).contains("add_cross_attention"));
    assert!(gpt2(r#","n_head":4,"num_attention_heads":8"#).contains("n_head is given twice"));
    assert!(gpt2(r#","n_head":7"#).contains("n_embd 768 is not a multiple of n_head 7"));
    assert!(gpt2(r#","activation_function":"tanh""#).contains("activation_function `tanh`"));
}

fn pythia(extra: &str) -> String {
    format!(
        r#"{{"model_type":"gpt_neox","hidden_size":512,"num_hidden_layers":6,"num_attention_heads":8,
        "intermediate_size":2048,"vocab_size":50304{extra}}}"#
    )
}

#[test]
fn both_spellings_of_the_rotary_settings_agree() {
    let old = parse(&pythia(r#","rotary_pct":0.25,"rotary_emb_base":500"#)).unwrap();
    let new =
        parse(&pythia(r#","rope_parameters":{"partial_rotary_factor":0.25,"rope_theta":500.0,"rope_type":"default"}"#))
            .unwrap();
    assert_eq!(old, new);
    assert_eq!((old.ropes[0].dims, old.ropes[0].theta), (16, 500.0));
}

/// Hashes of weights begin with it, and so the ids of all runs follow from it.
#[test]
fn the_fingerprint_stays() {
    let mut config = parse(&pythia("")).unwrap();
    assert!(fingerprint(&config).ends_with("eos_token_id: None }\n"));
    config.eos = Some(0);
    assert_eq!(
        fingerprint(&config),
        "NeoxConfig { d_model: 512, n_layers: 6, n_heads: 8, d_mlp: 2048, vocab_size: 50304, max_positions: 2048, rotary_dims: 16, \
         rotary_base: 10000.0, layer_norm_eps: 1e-5, parallel_residual: true, hidden_act: Gelu, tied_embeddings: false, \
         attention_bias: true, eos_token_id: Some(0) }\n"
    );
}

#[test]
fn what_the_decoder_does_not_implement_is_refused() {
    let err = parse(&pythia(r#","hidden_act":"swiglu""#)).unwrap_err();
    assert!(err.contains("swiglu"), "{err}");
    for (from, to, expected) in [
        ("}", r#","rope_scaling":{"type":"ntk","factor":2.0}}"#, "rope_type `ntk`"),
        ("gpt_neox", "qwen3_moe", "a mixture of experts"),
        ("gpt_neox", "qwen3_5_text", "linear attention"),
        ("gpt_neox", "gemma3n", "gemma3n"),
        ("gpt_neox", "falcon", "model_type is `falcon`, which is not supported; gpt_neox, gpt2, llama"),
        ("}", r#","quantization_config":{"quant_method":"gptq"}}"#, "quantised by `gptq`"),
    ] {
        let error = parse(&pythia("").replace(from, to)).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn what_the_ecosystem_writes_loosely_is_read() {
    let strict = parse(&pythia(r#","eos_token_id":0,"rotary_pct":0.25,"tie_word_embeddings":true"#)).unwrap();
    for loose in [
        r#","eos_token_id":[0,2],"rotary_pct":0.25,"tie_word_embeddings":true"#,
        r#","eos_token_id":0.0,"rotary_pct":"0.25","tie_word_embeddings":"True","layer_norm_eps":"1e-5""#,
        r#","eos_token_id":[null,0],"rotary_pct":null,"tie_word_embeddings":1,"attention_bias":null"#,
        r#","eos_token_id":0,"tie_word_embeddings":true,"rope_scaling":{"type":"default","rope_type":"default"}"#,
        r#","eos_token_id":0,"tie_word_embeddings":true,"rope_scaling":null,"rope_parameters":{"rope_type":null},"initializer_range":NaN"#,
        r#","eos_token_id":0,"tie_word_embeddings":true,"rotary_emb_base":10000,"rope_parameters":{"rope_theta":1e4}"#,
        r#","eos_token_id":0,"tie_word_embeddings":true,"max_position_embeddings":2048.0,"vocab_size":"50304""#,
    ] {
        assert_eq!(parse(&pythia(loose)).unwrap(), strict, "{loose}");
    }
    for none in ["", r#","eos_token_id":null"#, r#","eos_token_id":[]"#, r#","eos_token_id":-1"#] {
        assert_eq!(parse(&pythia(none)).unwrap().eos, None, "{none}");
    }
}

#[test]
fn a_value_that_cannot_be_is_named_with_its_key() {
    for (extra, parts) in [
        (r#","hidden_size":512.5"#, ["hidden_size", "512.5"]),
        (r#","vocab_size":-5"#, ["vocab_size", "-5"]),
        (r#","num_hidden_layers":{"a":1}"#, ["num_hidden_layers", r#"{"a":1}"#]),
        (r#","num_hidden_layers":null"#, ["num_hidden_layers", "missing"]),
        (r#","layer_norm_eps":"tiny""#, ["layer_norm_eps", "tiny"]),
        (r#","use_parallel_residual":"perhaps""#, ["use_parallel_residual", "perhaps"]),
        (r#","use_parallel_residual":2"#, ["use_parallel_residual", "2"]),
        (r#","eos_token_id":"<|endoftext|>""#, ["eos_token_id", "<|endoftext|>"]),
        (r#","rope_scaling":{"type":"linear","rope_type":"default"}"#, ["rope_type is given twice", "linear"]),
        (r#","rotary_emb_base":500,"rope_parameters":{"rope_theta":10000}"#, ["rope_theta is given twice", "500"]),
        (r#","rope_scaling":[1]"#, ["rope_scaling", "[1]"]),
        (r#","hidden_act":3"#, ["hidden_act", "3"]),
    ] {
        let error = parse(&pythia(extra)).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
    assert!(parse("[]").unwrap_err().contains("not a JSON object"));
    assert!(parse("{}").unwrap_err().contains("no model_type"));
    assert!(parse("{\"a\": 1").unwrap_err().contains("line 1"));
}
