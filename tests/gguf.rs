//! GGUF files against what the Python package `gguf` says of them, and what transformers computes (`tests/golden/README.md`).

use std::path::PathBuf;

use assay_models::Decoder;
use assay_models::gguf::{Data, FileTokenizer, Gguf, TensorType, tokenizer};

use crate::common::{Reference, device, golden, gpl, real_model};
use crate::families::family_agrees;

#[test]
fn every_number_format_is_widened_bit_for_bit() {
    let file = Gguf::open(&golden("gguf/types.gguf")).unwrap();
    let expected = Reference::open(golden("gguf/expected.safetensors"));
    let names: Vec<&str> = TensorType::ALL.map(TensorType::name).to_vec();
    let mut found: Vec<String> = expected.names();
    found.sort_by_key(|name| names.iter().position(|n| n == name));
    assert_eq!(found, names, "the reference has a tensor of each");
    for name in names {
        let (values, shape) = expected.floats(name);
        let tensor = &file.tensors[name];
        assert_eq!((tensor.kind.name(), &tensor.shape), (name, &shape));
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&tensor.kind.widen(file.bytes(tensor))), bits(&values), "{name}");
    }
}

#[test]
fn every_type_of_value_is_read() {
    let file = Gguf::open(&golden("gguf/types.gguf")).unwrap();
    let data = |name: &str| format!("{:?}", file.metadata[&format!("test.{name}")].data);
    assert_eq!(data("uint8"), "Unsigned(255)");
    assert_eq!(data("int8"), "Signed(-128)");
    assert_eq!(data("uint16"), "Unsigned(65535)");
    assert_eq!(data("int16"), "Signed(-32768)");
    assert_eq!(data("uint32"), "Unsigned(4294967295)");
    assert_eq!(data("int32"), "Signed(-2147483648)");
    assert_eq!(file.float("test.float32").unwrap(), Some(f64::from(0.1f32)));
    assert_eq!(data("uint64"), "Unsigned(18446744073709551615)");
    assert_eq!(data("int64"), "Signed(-9223372036854775808)");
    assert_eq!(file.float("test.float64").unwrap(), Some(0.1));
    assert_eq!(file.flag("test.bool").unwrap(), Some(true));
    assert_eq!(file.text("test.string").unwrap(), Some("ü▁"));
    assert_eq!(file.texts("test.strings").unwrap().unwrap(), ["a", "", "ü▁"]);
    assert_eq!(file.floats("test.floats").unwrap().unwrap(), [0.5, -1000.0]);
    assert_eq!(file.flags("test.flags").unwrap().unwrap(), [true, false]);
    assert!(matches!(file.metadata["test.nested"].data, Data::Array { len: 2, .. }));
    assert_eq!(file.text("test.absent").unwrap(), None);
    let error = file.integers("test.numbers").unwrap_err().to_string();
    assert!(error.contains("`test.numbers` is an array where an array of whole numbers"), "{error}");
    let error = file.size("test.int8").unwrap_err().to_string();
    assert!(error.contains("types.gguf, byte ") && error.contains("`test.int8`"), "{error}");
}

/// Models converted as llama.cpp does it compute what transformers computes for what they were converted from.
#[test]
fn converted_models_agree_with_transformers() {
    let mut converted: Vec<PathBuf> =
        std::fs::read_dir(golden("gguf/families")).unwrap().map(|e| e.unwrap().path()).collect();
    converted.sort();
    assert_eq!(converted.len(), 7, "{converted:?}");
    for path in converted {
        let name = path.file_stem().unwrap().to_string_lossy();
        let model = Decoder::load(&path, &device()).unwrap_or_else(|error| panic!("{name}: {error}"));
        family_agrees(&model, &golden("families").join(&*name), &format!("{name}.gguf"));
    }
}

/// A real model's file, if it is there.
fn real(name: &str) -> Option<Gguf> {
    real_model(name).map(|path| Gguf::open(&path).unwrap())
}

/// SHA-256 of the first ids of the GPL, as u32 in little-endian order.
fn hash_of_gpl(file: &FileTokenizer, count: usize) -> Option<String> {
    let ids = file.tokenizer.encode_fast(gpl()?, true).unwrap();
    let bytes: Vec<u8> = ids.get_ids()[..count].iter().flat_map(|id| id.to_le_bytes()).collect();
    let hash = ring::digest::digest(&ring::digest::SHA256, &bytes);
    Some(hash.as_ref().iter().map(|b| format!("{b:02x}")).collect())
}

fn ids(file: &FileTokenizer, text: &str) -> Vec<u32> {
    file.tokenizer.encode_fast(text, true).unwrap().get_ids().to_vec()
}

#[test]
fn smollm2_tokenises_as_itself() {
    let Some(file) = real("SmolLM2-135M-Instruct.Q4_1.gguf") else { return };
    let file = tokenizer(&file).unwrap();
    assert_eq!((file.bos, file.eos, file.add_bos), (Some(1), Some(2), false));
    assert_eq!(ids(&file, "The capital of France is"), [504, 3575, 282, 4649, 314]);
    assert_eq!(file.tokenizer.decode(&[7042], false).unwrap(), " Paris");
    assert_eq!(file.tokenizer.decode(&[2], false).unwrap(), "<|im_end|>");
    if let Some(hash) = hash_of_gpl(&file, 2000) {
        assert_eq!(hash, "c97d0049d00561a8571b62bb4aae94fe883c55ff535808bc7b65137c570b5fb8");
    }
}

#[test]
fn gemma_tokenises_as_itself() {
    let Some(file) = real("gemma-3-270m-q4_k_m.gguf") else { return };
    let file = tokenizer(&file).unwrap();
    assert_eq!((file.bos, file.eos, file.add_bos), (Some(2), Some(1), true));
    assert_eq!(ids(&file, "The capital of France is"), [2, 818, 5279, 529, 7001, 563]);
    assert_eq!(file.tokenizer.decode(&[9079], false).unwrap(), " Paris");
    if let Some(hash) = hash_of_gpl(&file, 1024) {
        assert_eq!(hash, "f13f8230c3d864bff51e890ce839fd6b0ba1aa243dee7893ec0565f80a9adc87");
    }
}
