//! Base64 (RFC 4648, section 4) of what is written.

use std::io::{Result, Write};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Writes to another in base64.
pub(super) struct Base64<W> {
    inner: W,
    /// Less than three bytes that wait for more.
    waiting: Vec<u8>,
}

impl<W: Write> Base64<W> {
    pub fn new(inner: W) -> Self {
        Self { inner, waiting: Vec::with_capacity(3) }
    }

    /// Writes what waits, filled up with `=`.
    pub fn finish(mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return Ok(());
        }
        let mut text = letters([waiting[0], waiting.get(1).copied().unwrap_or(0), 0]);
        text[waiting.len() + 1..].fill(b'=');
        self.inner.write_all(&text)
    }
}

fn letters([a, b, c]: [u8; 3]) -> [u8; 4] {
    let bits = u32::from_be_bytes([0, a, b, c]);
    [18, 12, 6, 0].map(|shift| ALPHABET[(bits >> shift) as usize & 63])
}

impl<W: Write> Write for Base64<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.waiting.extend_from_slice(bytes);
        let whole = self.waiting.len() / 3 * 3;
        let text: Vec<u8> = self.waiting[..whole].chunks_exact(3).flat_map(|b| letters([b[0], b[1], b[2]])).collect();
        self.waiting.drain(..whole);
        self.inner.write_all(&text)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 4648, section 10, written in pieces.
    #[test]
    fn it_is_that_of_the_rfc() {
        let all = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        for (length, expected) in all.into_iter().enumerate() {
            for piece in 1..4 {
                let mut text = Vec::new();
                let mut base64 = Base64::new(&mut text);
                b"foobar"[..length].chunks(piece).for_each(|piece| base64.write_all(piece).unwrap());
                base64.finish().unwrap();
                assert_eq!(String::from_utf8(text).unwrap(), expected);
            }
        }
    }
}
