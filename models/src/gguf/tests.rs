use super::testing::{Builder, Raw, model, open, with_byte_level, with_sentence_piece};
use super::{Gguf, TensorType, config, names, tokenizer};
use crate::config::{Act, Family, Layout, NormKind, QkNorm, RopeScaling};
use crate::error::Result;
use crate::families::Qkv;

fn refused<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("this is to be refused"),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn assert_refused<T>(result: Result<T>, parts: &[&str]) {
    let error = refused(result);
    for part in parts {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}

#[test]
fn both_versions_are_read_and_others_named() {
    let mut builder = Builder::new().key("a", 7u32).tensor("t", &[2, 3]);
    for version in [2, 3] {
        builder.version = version;
        let file = builder.open().unwrap();
        assert_eq!(file.size("a").unwrap(), Some(7));
        assert_eq!(file.tensors["t"].shape, [2, 3]);
        let values = file.tensors["t"].kind.widen(file.bytes(&file.tensors["t"]));
        assert_eq!(values, [0.0, 0.0625, 0.125, 0.1875, 0.25, 0.3125]);
    }
    for (version, why) in [(1, "of version 1,"), (4, "of version 4;"), (3u32.swap_bytes(), "big-endian")] {
        builder.version = version;
        assert_refused(builder.open(), &["model.gguf, byte 4: ", why]);
    }
    assert_refused(open(b""), &["byte 0", "not a GGUF file"]);
    assert_refused(open(b"GGML1234"), &["not a GGUF file"]);
    assert_refused(open(b"version https://git-lfs.github.com/spec/v1\n"), &["git lfs pull"]);
}

#[test]
fn numbers_that_the_file_does_not_bear_out_are_refused() {
    let (bytes, _) = Builder::new().key("name", "text").tensor("t", &[2, 3]).bytes();
    let with = |at: usize, number: u64| {
        let mut bytes = bytes.clone();
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        open(&bytes)
    };
    // Tensors, keys, the length of the first key, of its value, of the tensor's name.
    let key = 24;
    let value = key + 8 + 4 + 4;
    let tensor = value + 8 + 4;
    assert_refused(with(8, 1 << 60), &["tensor ``", "dimensions; there are 1 to 4"]);
    assert_refused(with(16, 1 << 60), &["key 2 of 1152921504606846976", "where the file has"]);
    assert_refused(with(key, 1 << 60), &["key 0 of 1", "byte 32", "1152921504606846976 bytes"]);
    assert_refused(with(value, u64::MAX), &["key `name`", "18446744073709551615 bytes"]);
    assert_refused(with(tensor, 1 << 40), &["tensor 0 of 1", "damaged or incomplete"]);
    // Its dimensions and offset.
    let dims = tensor + 8 + 1 + 4;
    assert_refused(with(dims, 0), &["tensor `t`", "no possible size"]);
    assert_refused(with(dims, 1 << 62), &["tensor `t`", "more elements than memory"]);
    assert_refused(with(dims, 300), &["tensor `t`", "2400 bytes at 0", "beyond the end"]);
    assert_refused(with(dims + 20, 1 << 50), &["tensor `t`", "beyond the end"]);
    assert_refused(with(dims + 20, u64::MAX - 31), &["tensor `t`", "beyond the end"]);
    assert_refused(with(dims + 20, 8), &["tensor `t`", "no multiple of the alignment 32"]);
    for len in 0..bytes.len() {
        let error = refused(open(&bytes[..len]));
        assert!(error.contains("byte "), "{len}: {error}");
    }
    let array = |len: u64| [&9u32.to_le_bytes()[..], &10u32.to_le_bytes(), &len.to_le_bytes(), &[0; 64]].concat();
    assert!(Builder::new().key("a", Raw(array(8))).open().is_ok());
    assert_refused(Builder::new().key("a", Raw(array(1 << 60))).open(), &["key `a`", "1152921504606846976 values"]);
    assert_refused(Builder::new().key("a", Raw(array(1 << 62))).open(), &["key `a`", "larger than any file"]);
    let mut nested = 9u32.to_le_bytes().to_vec();
    for _ in 0..9 {
        nested.extend([&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat());
    }
    assert_refused(Builder::new().key("a", Raw(nested)).open(), &["key `a`", "more than 4 deep"]);
    assert_refused(Builder::new().key("a", Raw(vec![13, 0, 0, 0])).open(), &["no type 13 of values"]);
    assert_refused(Builder::new().key("a", Raw(vec![7, 0, 0, 0, 2])).open(), &["2 where true (1) or false (0)"]);
}

#[test]
fn contradictions_are_refused() {
    let builder = Builder::new().key("a", 1u32).tensor("t", &[2, 3]);
    assert_refused(builder.clone().again("a").open(), &["key `a` is there twice"]);
    assert_refused(builder.clone().key("general.alignment", 24u32).open(), &["not a power of two"]);
    assert_refused(builder.clone().key("general.alignment", "32").open(), &["not a power of two"]);
    let split = builder.clone().key("split.count", 4u32).open();
    assert_refused(split, &["split.count", "llama-gguf-split --merge"]);
    assert!(builder.clone().key("split.count", 1u32).open().is_ok());
    let q4_k = builder.clone().tensor_of("q", &[128, 2], 12, vec![0; 144]).open();
    assert_refused(q4_k, &["tensor `q`", "rows of 128 elements", "Q4_K is stored in blocks of 256"]);
    let q2_k = builder.clone().tensor_of("q", &[256], 10, vec![0; 84]).open();
    assert_refused(q2_k, &["tensor `q`", "number format Q2_K is not read", "Q4_1", "another quantisation"]);
    assert_refused(builder.clone().tensor_of("q", &[1], 99, vec![0]).open(), &["unknown number (99)"]);
    assert_refused(builder.clone().tensor_of("q", &[1; 5], 0, vec![0; 4]).open(), &["5 dimensions"]);
    // Two tensors of one name, and of the same bytes.
    let (bytes, _) = builder.tensor("u", &[2, 3]).bytes();
    let at = bytes.iter().position(|b| *b == b'u').unwrap();
    let mut twice = bytes.clone();
    twice[at] = b't';
    assert_refused(open(&twice), &["tensor `t` is there twice"]);
    let mut shared = bytes;
    shared[at + 1 + 4 + 16 + 4] = 0;
    assert_refused(open(&shared), &["tensors `t` and `u` share bytes"]);
}

#[test]
fn formats_know_their_sizes() {
    for kind in TensorType::ALL {
        assert_eq!(kind.bytes_of(kind.block() + 1).is_none(), kind.block() > 1, "{}", kind.name());
        let bytes = kind.bytes_of(256 * 5).unwrap();
        assert_eq!(kind.widen(&vec![0; bytes]), vec![0.0; 256 * 5], "{}", kind.name());
        assert_eq!(
            kind.bytes_of(usize::MAX / 256 * 256).is_none(),
            kind != TensorType::Q4_0 && kind.bytes_of(256) > Some(256)
        );
    }
}

/// Zeros with eight bytes of all ones at most, which in most formats are NaN, or a scale that makes NaN of a block's numbers.
#[test]
fn values_that_are_no_numbers_are_found_without_keeping_them() {
    let mut found = 0;
    for kind in TensorType::ALL {
        for at in [0, 300, 4095, usize::MAX] {
            let block = kind.bytes_of(kind.block()).unwrap();
            let mut bytes = vec![0; kind.bytes_of(256 * 4096).unwrap()];
            let at = at.min(bytes.len() - block) / block * block;
            bytes[at..at + block.min(8)].fill(0xff);
            let values = kind.widen(&bytes);
            let expected = values.iter().position(|value| !value.is_finite());
            let found_first = kind.first_not_finite(&bytes).map(|(at, value)| (at, value.to_bits()));
            assert_eq!(found_first, expected.map(|at| (at, values[at].to_bits())), "{}", kind.name());
            found += usize::from(expected.is_some());
        }
    }
    assert!(found > 20, "{found} of {}", 4 * TensorType::ALL.len());
}

#[test]
fn llamas_keys_are_a_configuration() {
    let file = model("llama").open().unwrap();
    let found = config(&file).unwrap();
    assert_eq!((found.family, found.layout, found.norm.kind), (Family::Llama, Layout::PreNorm, NormKind::Rms));
    assert_eq!(found.norm.eps as f32, 1e-5);
    assert_eq!((found.d_model, found.vocab_size, found.max_positions, found.mlp.d_mlp), (32, 12, 64, 64));
    let attention = found.attention;
    assert_eq!((attention.n_heads, attention.n_kv_heads, attention.d_head), (4, 2, 8));
    assert_eq!((attention.qkv_bias, attention.out_bias, attention.qk_norm), (false, false, QkNorm::None));
    assert_eq!((found.mlp.act, found.mlp.gated, found.mlp.bias, found.ends.tied), (Act::Silu, true, false, true));
    assert_eq!(found.ropes[0].theta, 1e5);
    assert_eq!(found.ropes[0].scaling, RopeScaling::Default);
    assert!(found.layers.iter().all(|layer| layer.window.is_none() && layer.score_scale == 1.0 / 8f64.sqrt()));
    let names = names(&found);
    assert!(names.is_interleaved && names.gain_offset == 0.0 && names.positions.is_none());
    let Qkv::Split([q, ..]) = &names.layers[1].qkv else { panic!("queries, keys and values are apart") };
    assert_eq!(q, "blk.1.attn_q");
    assert!(names.layers[1].post_attn.is_none() && names.layers[1].q_norm.is_none());
    assert!(names.ignores("rope_freqs.weight") && names.ignores("blk.0.attn_rot_embd.weight"));

    let untied = model("llama").tensor("output.weight", &[12, 32]).tensor("blk.0.attn_q.bias", &[32]).open().unwrap();
    let untied = config(&untied).unwrap();
    assert!(!untied.ends.tied && untied.attention.qkv_bias && !untied.attention.out_bias);
}

#[test]
fn rotary_scalings_are_read_from_keys_and_tensors() {
    let scaling = |builder: Builder| config(&builder.open().unwrap()).map(|config| config.ropes[0].scaling.clone());
    let llama = || model("llama");
    let linear = llama().key("llama.rope.scaling.type", "linear").key("llama.rope.scaling.factor", 8f32);
    assert_eq!(scaling(linear.clone()).unwrap(), RopeScaling::Linear { factor: 8.0 });
    assert_eq!(scaling(llama().key("llama.rope.scale_linear", 2f32)).unwrap(), RopeScaling::Linear { factor: 2.0 });
    let yarn = llama().key("llama.rope.scaling.type", "yarn").key("llama.rope.scaling.factor", 4f32);
    assert_refused(scaling(yarn.clone()), &["original_context_length"]);
    let yarn = yarn.key("llama.rope.scaling.original_context_length", 16u32);
    assert!(matches!(scaling(yarn.clone()).unwrap(), RopeScaling::Yarn { original: 16, truncate: true, .. }));
    assert_refused(scaling(yarn.key("llama.rope.scaling.yarn_attn_factor", 2f32)), &["yarn_attn_factor"]);
    assert_refused(
        scaling(llama().key("llama.rope.scaling.type", "longrope")),
        &["`longrope`, which is not supported"],
    );
    let floats = |values: [f32; 4]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let divided = |values| llama().tensor_of("rope_freqs.weight", &[4], 0, floats(values));
    assert_eq!(scaling(divided([1., 1., 5., 8.])).unwrap(), RopeScaling::Divisors(vec![1., 1., 5., 8.]));
    assert_refused(scaling(divided([1., 0.5, 5., 8.])), &["rope_freqs.weight", "holds 0.5"]);
    let both = linear.tensor_of("rope_freqs.weight", &[4], 0, floats([1.; 4]));
    assert_refused(scaling(both), &["both at once"]);
    assert_refused(scaling(llama().tensor("rope_freqs.weight", &[5])), &["shape [5]", "[4] is expected"]);
    assert_refused(scaling(llama().key("llama.rope.dimension_count", 6u32)), &["dimension_count", "is 6"]);
}

#[test]
fn what_gemma_does_not_store_is_supplied() {
    let layers = |count: u32| {
        let mut builder = model("gemma3").key("gemma3.block_count", count).key("gemma3.attention.sliding_window", 5u32);
        for extra in 0..count {
            builder = builder.tensor(&format!("x{extra}"), &[1]);
        }
        builder
    };
    let found = config(&layers(7).open().unwrap()).unwrap();
    let windows: Vec<_> = found.layers.iter().map(|layer| layer.window).collect();
    assert_eq!(windows, [Some(5), Some(5), Some(5), Some(5), Some(5), None, Some(5)]);
    assert_eq!(found.layers[0].rope.zip(found.layers[5].rope), Some((1, 0)));
    assert_eq!((found.ropes[0].theta, found.ropes[1].theta), (1e5, 1e4));
    assert_eq!((found.attention.qk_norm, found.mlp.act), (QkNorm::PerHead, Act::GeluTanh));
    assert_eq!((found.layout, found.ends.embed_scale), (Layout::PreAndPostNorm, 32f64.sqrt()));
    assert_eq!((found.attention.score_cap, found.ends.logit_cap), (None, None));
    let names = names(&found);
    assert!(!names.is_interleaved && names.gain_offset == 0.0);
    assert_eq!(names.layers[6].post_mlp.as_deref(), Some("blk.6.post_ffw_norm"));
    // 27B: heads of 8 dimensions, and the scale of 32 / 2.
    let largest = layers(62).key("gemma3.attention.head_count", 2u32).key("gemma3.attention.key_length", 8u32);
    assert_eq!(config(&largest.open().unwrap()).unwrap().layers[0].score_scale, 0.25);
    let pattern = layers(2).key("gemma3.attention.sliding_window_pattern", 2u32);
    let windows = |builder: Builder| {
        config(&builder.open().unwrap()).unwrap().layers.iter().map(|l| l.window).collect::<Vec<_>>()
    };
    assert_eq!(windows(pattern), [Some(5), None]);
    let found = config(&model("gemma2").open().unwrap()).unwrap();
    assert_eq!((found.attention.score_cap, found.ends.logit_cap), (Some(50.0), Some(30.0)));
    assert_eq!(found.layers.iter().map(|layer| layer.window).collect::<Vec<_>>(), [Some(4096), None]);
}

#[test]
fn other_architectures_differ_as_they_should() {
    let neox = model("gptneox").key("gptneox.attention.layer_norm_epsilon", 1e-5f32);
    let neox = neox.without("gptneox.rope.freq_base").key("gptneox.rope.dimension_count", 2u32);
    let found = config(&neox.clone().open().unwrap()).unwrap();
    assert_eq!((found.layout, found.mlp.act, found.mlp.gated), (Layout::Parallel, Act::Gelu, false));
    assert_eq!((found.ropes[0].theta, found.ropes[0].dims, found.norm.kind), (1e4, 2, NormKind::Layer));
    assert!(matches!(&names(&found).layers[0].qkv, Qkv::Fused(stem) if stem == "blk.0.attn_qkv"));
    let sequential = neox.key("gptneox.use_parallel_residual", false).open().unwrap();
    assert_eq!(config(&sequential).unwrap().layout, Layout::PreNorm);

    let gpt2 = model("gpt2").key("gpt2.attention.layer_norm_epsilon", 1e-5f32).open().unwrap();
    let found = config(&gpt2).unwrap();
    assert_eq!((found.mlp.act, found.layers[0].rope, found.ropes.len()), (Act::GeluTanh, None, 0));
    let names = names(&found);
    assert_eq!(names.positions.as_deref(), Some("position_embd.weight"));
    assert!(!names.is_transposed);

    let found = config(&model("olmo2").open().unwrap()).unwrap();
    assert_eq!((found.layout, found.attention.qk_norm), (Layout::PostNorm, QkNorm::Flat));
    for (name, norm) in [("qwen2", QkNorm::None), ("qwen3", QkNorm::PerHead)] {
        assert_eq!(config(&model(name).open().unwrap()).unwrap().attention.qk_norm, norm);
    }
}

#[test]
fn configurations_that_are_not_supported_are_named() {
    let refuse = |builder: Builder, parts: &[&str]| assert_refused(config(&builder.open().unwrap()), parts);
    refuse(Builder::new(), &["`general.architecture` is missing"]);
    refuse(model("qwen3moe"), &["`qwen3moe`, which is not supported; llama, qwen2"]);
    refuse(model("llama").key("llama.expert_count", 8u32), &["llama.expert_count", "a mixture of experts"]);
    assert!(config(&model("llama").key("llama.expert_count", 0u32).open().unwrap()).is_ok());
    refuse(model("llama").key("llama.block_count", u32::MAX), &["is 4294967295; a number from 1 to"]);
    refuse(model("llama").key("llama.block_count", 1_000_000u32), &["`llama.block_count` is 1000000", "20 tensors"]);
    refuse(model("llama").key("llama.embedding_length", 64u32), &["is 64, but token_embd.weight is [12, 32]"]);
    refuse(model("llama").key("llama.attention.head_count", 0u32), &["head_count", "is 0"]);
    refuse(model("llama").key("llama.attention.head_count_kv", 3u32), &["is 3, of which 4 heads"]);
    refuse(model("llama").key("llama.attention.head_count_kv", vec![2u32, 1]), &["is an array where a whole number"]);
    refuse(model("llama").key("llama.attention.value_length", 16u32), &["value_length", "only equal lengths"]);
    refuse(model("llama").key("llama.attention.layer_norm_rms_epsilon", f32::NAN), &["finite floating-point number"]);
    refuse(model("llama").key("llama.attention.sliding_window", 16u32), &["sliding_window", "not known"]);
    refuse(model("olmo2").key("olmo2.attention.sliding_window", 16u32), &["OLMo-3"]);
    refuse(model("llama").without("llama.context_length"), &["`llama.context_length` is missing"]);
}

fn encoded(file: &Gguf, text: &str, special: bool) -> Vec<u32> {
    tokenizer(file).unwrap().tokenizer.encode_fast(text, special).unwrap().get_ids().to_vec()
}

#[test]
fn byte_level_tokenizers_are_rebuilt() {
    let builder = with_byte_level(Builder::new());
    let file = builder.open().unwrap();
    assert_eq!(encoded(&file, "abc ab12\n<|end|>a", true), [11, 6, 7, 8, 9, 0, 1]);
    assert_eq!(encoded(&file, "a  b", true), [1, 10, 2], "user-defined tokens come first");
    let found = tokenizer(&file).unwrap();
    assert_eq!((found.bos, found.eos, found.add_bos), (Some(0), Some(0), false));
    assert_eq!(found.tokenizer.decode(&[6], false).unwrap(), " ab");
    let with_bos = builder.clone().key("tokenizer.ggml.add_bos_token", true).open().unwrap();
    assert_eq!(encoded(&with_bos, "a", true), [0, 1]);
    assert_eq!(encoded(&with_bos, "a", false), [1]);
    assert_eq!(encoded(&builder.clone().key("tokenizer.ggml.pre", "llama-bpe").open().unwrap(), "12", true), [0, 7, 8]);

    let refuse = |builder: Builder, parts: &[&str]| assert_refused(tokenizer(&builder.open().unwrap()), parts);
    refuse(Builder::new(), &["`tokenizer.ggml.model` is missing"]);
    refuse(builder.clone().key("tokenizer.ggml.model", "bert"), &["is `bert`", "`llama` (SentencePiece BPE)"]);
    refuse(builder.clone().key("tokenizer.ggml.pre", "viking"), &["is `viking`", "gpt-2, olmo, smollm, llama-bpe"]);
    refuse(builder.clone().key("tokenizer.ggml.pre", "default"), &["does not say how text is split"]);
    refuse(builder.clone().without("tokenizer.ggml.merges"), &["`tokenizer.ggml.merges` is missing"]);
    refuse(builder.clone().key("tokenizer.ggml.merges", vec!["a x"]), &["do not fit the tokens"]);
    refuse(builder.clone().key("tokenizer.ggml.merges", vec!["ab"]), &["`ab`, which is not two tokens"]);
    refuse(builder.clone().key("tokenizer.ggml.bos_token_id", 12u32), &["is 12, but there are 12 tokens"]);
    refuse(builder.clone().key("tokenizer.ggml.tokens", vec!["a", "a"]), &["has `a` twice, as 0 and as 1"]);
    refuse(builder.key("tokenizer.ggml.token_type", vec![1]), &["has 1 entries for 12 tokens"]);
    let gpt2 = with_byte_level(Builder::new()).key("general.architecture", "gpt2").without("tokenizer.ggml.pre");
    assert_eq!(encoded(&gpt2.open().unwrap(), "ab", true), [5]);
}

#[test]
fn sentence_piece_tokenizers_are_rebuilt() {
    let builder = with_sentence_piece(Builder::new());
    let file = builder.open().unwrap();
    let found = tokenizer(&file).unwrap();
    assert_eq!((found.bos, found.eos, found.add_bos), (Some(1), Some(2), true));
    // The best score first: bc before ab, and the space before everything.
    assert_eq!(encoded(&file, "abc", true), [1, 6, 3, 8]);
    assert_eq!(encoded(&file, "ab ab", false), [9, 9]);
    assert_eq!(encoded(&file, "ü", false), [6, 10, 11]);
    assert_eq!(found.tokenizer.decode(&[9], false).unwrap(), " ab");
    assert_eq!(found.tokenizer.decode(&[10, 11], false).unwrap(), "ü");
    let bare = builder.clone().key("tokenizer.ggml.add_space_prefix", false).key("tokenizer.ggml.add_bos_token", false);
    assert_eq!(encoded(&bare.open().unwrap(), "abc", true), [3, 8]);

    let refuse = |builder: Builder, parts: &[&str]| assert_refused(tokenizer(&builder.open().unwrap()), parts);
    refuse(builder.clone().key("tokenizer.ggml.scores", vec![1f32]), &["has 1 entries for 12 tokens"]);
    refuse(builder.clone().key("tokenizer.ggml.remove_extra_whitespaces", true), &["normalisation of text"]);
    let long = "a".repeat(300);
    let tokens = vec!["<unk>", "<s>", "</s>", "a", "b", "c", "▁", "ab", "bc", long.as_str(), "d", "e"];
    refuse(builder.key("tokenizer.ggml.tokens", tokens), &["a piece of 300 bytes (token 9)"]);
}
