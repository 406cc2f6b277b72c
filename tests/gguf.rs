//! GGUF files against what the Python package `gguf` says of them (`tests/golden/README.md`).

use assay_models::gguf::{Data, Gguf, Kind};

use crate::common::{Reference, golden};

#[test]
fn every_number_format_is_widened_bit_for_bit() {
    let file = Gguf::open(&golden("gguf/types.gguf")).unwrap();
    let expected = Reference::open(golden("gguf/expected.safetensors"));
    let names: Vec<&str> = Kind::ALL.map(Kind::name).to_vec();
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
