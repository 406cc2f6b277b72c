//! Small GGUF files for tests, and where in them the numbers stand that decide how the rest is read.

use super::Gguf;
use crate::error::Result;

/// A file in the making.
#[derive(Clone)]
pub(super) struct Builder {
    pub version: u32,
    keys: Vec<(String, Vec<u8>, Vec<usize>)>,
    tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)>,
}

/// A value as it stands in a file, its type first; and where in it types and lengths are.
pub(super) trait Stored {
    fn stored(&self) -> (Vec<u8>, Vec<usize>);
}

macro_rules! numbers {
    ($($t:ty => $number:expr),*) => {$(
        impl Stored for $t {
            fn stored(&self) -> (Vec<u8>, Vec<usize>) {
                ([&u32::to_le_bytes($number)[..], &self.to_le_bytes()[..]].concat(), vec![0, 4])
            }
        }

        impl Stored for Vec<$t> {
            fn stored(&self) -> (Vec<u8>, Vec<usize>) {
                let mut bytes = [&9u32.to_le_bytes()[..], &u32::to_le_bytes($number)[..]].concat();
                bytes.extend((self.len() as u64).to_le_bytes());
                self.iter().for_each(|n| bytes.extend(n.to_le_bytes()));
                (bytes, vec![0, 4, 8, 16])
            }
        }
    )*};
}

numbers!(u8 => 0, u32 => 4, i32 => 5, f32 => 6, u64 => 10);

impl Stored for bool {
    fn stored(&self) -> (Vec<u8>, Vec<usize>) {
        ([&7u32.to_le_bytes()[..], &[u8::from(*self)]].concat(), vec![0, 4])
    }
}

impl Stored for &str {
    fn stored(&self) -> (Vec<u8>, Vec<usize>) {
        ([&8u32.to_le_bytes()[..], &text(self)].concat(), vec![0, 4])
    }
}

impl Stored for Vec<&str> {
    fn stored(&self) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = [&9u32.to_le_bytes()[..], &8u32.to_le_bytes()[..]].concat();
        bytes.extend((self.len() as u64).to_le_bytes());
        let mut places = vec![0, 4, 8];
        for item in self {
            places.push(bytes.len());
            bytes.extend(text(item));
        }
        (bytes, places)
    }
}

/// Bytes as they are.
pub(super) struct Raw(pub Vec<u8>);

impl Stored for Raw {
    fn stored(&self) -> (Vec<u8>, Vec<usize>) {
        (self.0.clone(), Vec::new())
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

impl Builder {
    pub(super) fn new() -> Self {
        Self { version: 3, keys: Vec::new(), tensors: Vec::new() }
    }

    /// Sets a key, or sets it otherwise.
    pub(super) fn key(mut self, name: &str, value: impl Stored) -> Self {
        self = self.without(name);
        let (bytes, places) = value.stored();
        self.keys.push((name.to_owned(), bytes, places));
        self
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.keys.retain(|(n, ..)| n != name);
        self
    }

    /// The same key once more.
    pub(super) fn again(mut self, name: &str) -> Self {
        self.keys.extend(self.keys.iter().find(|(n, ..)| n == name).cloned());
        self
    }

    /// Adds a tensor of the number format F32 that holds sixteenths; `shape` is row-major.
    pub(super) fn tensor(self, name: &str, shape: &[usize]) -> Self {
        let count: usize = shape.iter().product();
        let data = (0..count).flat_map(|i| ((i % 16) as f32 / 16.0).to_le_bytes()).collect();
        self.tensor_of(name, &shape.iter().rev().map(|&n| n as u64).collect::<Vec<_>>(), 0, data)
    }

    /// Adds a tensor by what is written of it: dimensions (the inner one first), number of the format, bytes.
    pub(super) fn tensor_of(mut self, name: &str, dims: &[u64], kind: u32, data: Vec<u8>) -> Self {
        self.tensors.retain(|(n, ..)| n != name);
        self.tensors.push((name.to_owned(), dims.to_vec(), kind, data));
        self
    }

    /// The file, and the places of versions, counts, lengths, types, dimensions and offsets in it.
    pub(super) fn bytes(&self) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = b"GGUF".to_vec();
        let mut places = vec![4, 8, 16];
        bytes.extend(self.version.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.keys.len() as u64).to_le_bytes());
        for (name, value, inside) in &self.keys {
            places.push(bytes.len());
            bytes.extend(text(name));
            places.extend(inside.iter().map(|at| bytes.len() + at));
            bytes.extend(value);
        }
        let mut offset = 0u64;
        for (name, dims, kind, data) in &self.tensors {
            places.push(bytes.len());
            bytes.extend(text(name));
            let numbers = bytes.len();
            bytes.extend((dims.len() as u32).to_le_bytes());
            dims.iter().for_each(|n| bytes.extend(n.to_le_bytes()));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
            places.extend((numbers..bytes.len()).step_by(4));
            offset += data.len().next_multiple_of(32) as u64;
        }
        for (.., data) in &self.tensors {
            bytes.resize(bytes.len().next_multiple_of(32), 0);
            bytes.extend(data);
        }
        (bytes, places)
    }

    pub(super) fn open(&self) -> Result<Gguf> {
        open(&self.bytes().0)
    }
}

/// Opens a file of these bytes.
pub(super) fn open(bytes: &[u8]) -> Result<Gguf> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    Gguf::open(&path)
}

/// A model of two layers with the tensors of Llama, under the keys of an architecture.
pub(super) fn model(architecture: &str) -> Builder {
    let mut builder = Builder::new().key("general.architecture", architecture);
    let key = |name: &str| format!("{architecture}.{name}");
    let sizes = [
        ("block_count", 2u32),
        ("context_length", 64),
        ("embedding_length", 32),
        ("feed_forward_length", 64),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("rope.dimension_count", 8),
    ];
    for (name, size) in sizes {
        builder = builder.key(&key(name), size);
    }
    builder = builder.key(&key("attention.layer_norm_rms_epsilon"), 1e-5f32).key(&key("rope.freq_base"), 1e5f32);
    builder = builder.tensor("token_embd.weight", &[12, 32]).tensor("output_norm.weight", &[32]);
    for layer in 0..2 {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        builder = builder
            .tensor(&name("attn_norm"), &[32])
            .tensor(&name("ffn_norm"), &[32])
            // Q4_0, Q8_0.
            .tensor_of(&name("attn_q"), &[32, 32], 2, vec![60; 32 * 18])
            .tensor_of(&name("attn_k"), &[32, 16], 8, vec![61; 16 * 34])
            .tensor(&name("attn_v"), &[16, 32])
            .tensor(&name("attn_output"), &[32, 32])
            .tensor(&name("ffn_gate"), &[64, 32])
            .tensor(&name("ffn_up"), &[64, 32])
            .tensor(&name("ffn_down"), &[32, 64]);
    }
    builder
}

/// A byte-level tokenizer of 12 tokens.
pub(super) fn with_byte_level(builder: Builder) -> Builder {
    let tokens = vec!["<|end|>", "a", "b", "c", "Ġ", "ab", "Ġab", "1", "2", "Ċ", "  ", "abc"];
    builder
        .key("tokenizer.ggml.model", "gpt2")
        .key("tokenizer.ggml.pre", "smollm")
        .key("tokenizer.ggml.tokens", tokens)
        .key("tokenizer.ggml.token_type", vec![3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4, 1])
        .key("tokenizer.ggml.merges", vec!["a b", "Ġ ab", "ab c"])
        .key("tokenizer.ggml.bos_token_id", 0u32)
        .key("tokenizer.ggml.eos_token_id", 0u32)
}

/// A SentencePiece tokenizer of 12 tokens.
pub(super) fn with_sentence_piece(builder: Builder) -> Builder {
    let tokens = vec!["<unk>", "<s>", "</s>", "a", "b", "c", "▁", "ab", "bc", "▁ab", "<0xC3>", "<0xBC>"];
    builder
        .key("tokenizer.ggml.model", "llama")
        .key("tokenizer.ggml.tokens", tokens)
        .key("tokenizer.ggml.token_type", vec![2, 3, 3, 1, 1, 1, 1, 1, 1, 1, 6, 6])
        .key("tokenizer.ggml.scores", vec![0f32, 0., 0., -9., -9., -9., -9., -2., -1., -3., 0., 0.])
}
