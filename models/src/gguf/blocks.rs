//! The blocks of ggml's number formats: what their bytes mean (`ggml-common.h` and `ggml-quants.c` in ggml-org/llama.cpp).
//!
//! d, m and dmin are f16; q are the small integers. All arithmetic is in f32, a rounding for each product and each sum.

use half::{bf16, f16 as half16};

fn half(b: &[u8], at: usize) -> f32 {
    half16::from_le_bytes([b[at], b[at + 1]]).to_f32()
}

fn bits(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

pub(super) fn f32(b: &[u8; 4], out: &mut [f32; 1]) {
    out[0] = f32::from_le_bytes(*b);
}

pub(super) fn f16(b: &[u8; 2], out: &mut [f32; 1]) {
    out[0] = half(b, 0);
}

pub(super) fn bf16(b: &[u8; 2], out: &mut [f32; 1]) {
    out[0] = bf16::from_le_bytes(*b).to_f32();
}

pub(super) fn f64(b: &[u8; 8], out: &mut [f32; 1]) {
    out[0] = f64::from_le_bytes(*b) as f32;
}

/// d·q; q of 8 bits with a sign.
pub(super) fn q8_0(b: &[u8; 34], out: &mut [f32; 32]) {
    let d = half(b, 0);
    for (value, &q) in out.iter_mut().zip(&b[2..]) {
        *value = d * f32::from(q as i8);
    }
}

/// The 32 values of 4 bits in 16 bytes: first the lower halves, then the upper ones.
fn nibbles(b: &[u8]) -> impl Iterator<Item = u8> {
    b.iter().map(|q| q & 15).chain(b.iter().map(|q| q >> 4))
}

/// The same, with a fifth bit each from a word.
fn fives(b: &[u8], fifth: u32) -> impl Iterator<Item = u8> {
    nibbles(b).enumerate().map(move |(i, q)| q | (((fifth >> i) & 1) as u8) << 4)
}

/// d·(q − 8).
pub(super) fn q4_0(b: &[u8; 18], out: &mut [f32; 32]) {
    let d = half(b, 0);
    for (value, q) in out.iter_mut().zip(nibbles(&b[2..])) {
        *value = d * (f32::from(q) - 8.0);
    }
}

/// d·q + m.
pub(super) fn q4_1(b: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half(b, 0), half(b, 2));
    for (value, q) in out.iter_mut().zip(nibbles(&b[4..])) {
        *value = d * f32::from(q) + m;
    }
}

/// d·(q − 16).
pub(super) fn q5_0(b: &[u8; 22], out: &mut [f32; 32]) {
    let d = half(b, 0);
    for (value, q) in out.iter_mut().zip(fives(&b[6..], bits(b, 2))) {
        *value = d * (f32::from(q) - 16.0);
    }
}

/// d·q + m.
pub(super) fn q5_1(b: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half(b, 0), half(b, 2));
    for (value, q) in out.iter_mut().zip(fives(&b[8..], bits(b, 4))) {
        *value = d * f32::from(q) + m;
    }
}

/// Scale and minimum of group `i` of eight, of 6 bits each, from 12 bytes: those of groups 0 to 3 are the lower bits of bytes
/// 0 to 3 and 4 to 7, whose two upper bits belong to groups 4 to 7; the rest of these is in bytes 8 to 11.
fn scale_and_min(scales: &[u8], i: usize) -> (f32, f32) {
    let (scale, min) = if i < 4 {
        (scales[i] & 63, scales[i + 4] & 63)
    } else {
        let low = scales[i + 4];
        ((low & 15) | (scales[i - 4] >> 6) << 4, (low >> 4) | (scales[i] >> 6) << 4)
    };
    (f32::from(scale), f32::from(min))
}

/// (d·scale)·q − dmin·min in groups of 32; bytes of q hold a group in their lower halves and the next in the upper ones.
/// `fifth` are further bits of q: bit g of byte i is that of element i in group g.
fn groups(b: &[u8], fifth: Option<&[u8]>, q: &[u8], out: &mut [f32; 256]) {
    let (d, dmin) = (half(b, 0), half(b, 2));
    for (g, group) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_and_min(&b[4..16], g);
        let (scale, min) = (d * scale, dmin * min);
        for (i, value) in group.iter_mut().enumerate() {
            let four = (q[g / 2 * 32 + i] >> (4 * (g % 2))) & 15;
            let five = fifth.map_or(0, |bits| ((bits[i] >> g) & 1) << 4);
            *value = scale * f32::from(four | five) - min;
        }
    }
}

/// 4 bits, as [`groups`] has it.
pub(super) fn q4_k(b: &[u8; 144], out: &mut [f32; 256]) {
    groups(b, None, &b[16..], out);
}

/// 5 bits, as [`groups`] has it.
pub(super) fn q5_k(b: &[u8; 176], out: &mut [f32; 256]) {
    groups(b, Some(&b[16..48]), &b[48..], out);
}

/// (d·scale)·(q − 32) with a scale of 8 bits for 16 values; of q the lower 4 bits and the upper 2 are stored apart, in halves
/// of 128 values: 64 bytes with values 0 to 63 below and 64 to 127 above, and 32 bytes with bits of four values each.
pub(super) fn q6_k(b: &[u8; 210], out: &mut [f32; 256]) {
    let (low, high, scales) = (&b[..128], &b[128..192], &b[192..208]);
    let d = half(b, 208);
    for (i, value) in out.iter_mut().enumerate() {
        let (h, j) = (i / 128, i % 128);
        let four = (low[64 * h + j % 64] >> (4 * (j / 64))) & 15;
        let two = (high[32 * h + j % 32] >> (2 * (j / 32))) & 3;
        let scale = d * f32::from(scales[i / 16] as i8);
        *value = scale * (f32::from(four | two << 4) - 32.0);
    }
}
