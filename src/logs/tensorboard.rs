//! TensorBoard's event files: records framed as TensorFlow's `record_writer.cc` does, each an `Event` of `event.proto`.
//!
//! A record is its length (u64), the masked CRC-32C of these 8 bytes, the data, and the data's masked CRC-32C, little-endian. The
//! few fields of `Event` that a scalar needs are written by hand.

/// The record that an event file starts with.
pub(super) fn version(wall_time: f64) -> Vec<u8> {
    let mut event = Vec::new();
    double(&mut event, 1, wall_time);
    bytes(&mut event, 3, b"brain.Event:2");
    record(&event)
}

/// The record of some values at a step.
pub(super) fn scalars<'a>(wall_time: f64, step: u64, values: impl Iterator<Item = (&'a str, f64)>) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, value) in values {
        let mut entry = Vec::new();
        bytes(&mut entry, 1, tag.as_bytes());
        float(&mut entry, 2, value as f32);
        bytes(&mut summary, 1, &entry);
    }
    let mut event = Vec::new();
    double(&mut event, 1, wall_time);
    // proto3 leaves out what is 0, the step too.
    if step > 0 {
        key(&mut event, 2, 0);
        varint(&mut event, step);
    }
    bytes(&mut event, 5, &summary);
    record(&event)
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked_crc(&length).to_le_bytes(), data, &masked_crc(data).to_le_bytes()].concat()
}

/// A checksum that may itself be in checksummed data (`crc32c.h` of LevelDB).
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Protocol buffers' key of a field; `wire` is how its value is written.
fn key(out: &mut Vec<u8>, field: u64, wire: u64) {
    varint(out, field << 3 | wire);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    key(out, field, 1);
    out.extend(value.to_le_bytes());
}

fn float(out: &mut Vec<u8>, field: u64, value: f32) {
    key(out, field, 5);
    out.extend(value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(out, field, 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// RFC 3720, B.4, and the mask's definition on its first value.
    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c::crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c::crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
        assert_eq!(masked_crc(&[0; 32]), 0x6d55_1522_u32.wrapping_add(0xa282_ead8));
    }

    /// What tensorboard 2.21 writes for the same events (`RecordWriter` and `Event.SerializeToString`).
    #[test]
    fn events_are_those_of_tensorboard() {
        let start = "1800000000000000a37f4b220900001040fc54d9411a0d627261696e2e4576656e743a32338d2fe9";
        assert_eq!(hex(&version(1.7e9 + 0.25)), start);
        let two = [("loss", 1.25), ("l0", 0.1)].into_iter();
        let expected = "2600000000000000734fe3000900006040fc54d94110ac022a180a0b0a046c6f7373150000a03f0a090a026c3015cdcccc3d2f1276df";
        assert_eq!(hex(&scalars(1.7e9 + 1.5, 300, two)), expected);
        let zeros = [("loss", 0.0)].into_iter();
        let expected = "1800000000000000a37f4b220900006040fc54d9412a0d0a0b0a046c6f737315000000001f8d525f";
        assert_eq!(hex(&scalars(1.7e9 + 1.5, 0, zeros)), expected);
    }
}
