//! The latents that an SAE finds active.

use std::ops::Range;

use burn::tensor::{Device, Int, IntDType, Tensor};
use rayon::prelude::*;

use crate::error::{Result, SaeError};
use crate::readback::{host, host_int};

/// The latents of some tokens with their values, in compressed rows: token after token, and of each token in ascending order. A value of
/// 0 means not active.
///
/// A token has any number of entries; where all have the same, as a TopK code's k, that number stands for the starts of the rows.
/// What lies behind the last row is no token's.
/// Every index is below `d_sae`: kernels read the decoder's rows without looking.
#[derive(Clone, Debug)]
pub struct SparseCode {
    values: Tensor<1>,
    indices: Tensor<1, Int>,
    rows: Rows,
    /// The tokens of each latent, as kernels know them.
    marks: Option<Marks>,
    d_sae: usize,
}

/// The tokens of each latent in the backend's own layout, and how many they are.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    pub(crate) bits: Tensor<1, Int>,
    pub(crate) counts: Tensor<1, Int>,
}

/// Which entries of a code belong to which token.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one per code")]
pub(crate) enum Rows {
    /// So many to each.
    Each(usize),
    /// To token t those from starts[t] up to starts[t + 1]; `[tokens + 1]`, i32.
    Starts(Tensor<1, Int>),
}

/// [`Rows`] on the host.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HostRows<'a> {
    Each { k: usize, tokens: usize },
    Starts(&'a [i32]),
}

impl HostRows<'_> {
    pub(crate) fn tokens(&self) -> usize {
        match self {
            Self::Each { tokens, .. } => *tokens,
            Self::Starts(starts) => starts.len() - 1,
        }
    }

    /// Where the entries of a token begin; of the token after the last, where they all end.
    pub(crate) fn start(&self, token: usize) -> usize {
        match self {
            Self::Each { k, .. } => token * k,
            Self::Starts(starts) => starts[token] as usize,
        }
    }

    /// The entries of a token.
    pub(crate) fn of(&self, token: usize) -> Range<usize> {
        self.start(token)..self.start(token + 1)
    }
}

impl SparseCode {
    /// A code of k entries per token that was made elsewhere than by an SAE's `encode`. The indices are read back and checked.
    ///
    /// # Shapes
    /// - `values`: activations of the chosen latents; `indices`: which latents they are; `[batch, k]` each
    ///
    /// # Errors
    /// If the shapes differ, k is 0, an index is not that of one of `d_sae` latents, or the latents of a token don't ascend.
    pub fn new(values: Tensor<2>, indices: Tensor<2, Int>, d_sae: usize) -> Result<Self> {
        let [tokens, k] = indices.dims();
        if values.dims() != [tokens, k] {
            return refuse(format!("values have shape {:?}, indices {:?}", values.dims(), [tokens, k]));
        }
        if k == 0 {
            return refuse("a token has at least one entry where all have as many".to_owned());
        }
        check_latents(&indices.clone().flatten(0, 1), HostRows::Each { k, tokens }, d_sae)?;
        // Kernels take indices of 32 bits.
        Ok(Self::trusted(values, indices.cast(IntDType::I32), d_sae))
    }

    /// A code whose tokens have any numbers of entries. The indices are read back and checked.
    ///
    /// # Shapes
    /// - `values`: activations of the chosen latents; `indices`: which latents they are; `[entries]` each
    /// - `starts`: `[tokens + 1]`; token t has the entries from `starts[t]` up to `starts[t + 1]`
    ///
    /// # Errors
    /// If the lengths differ, the starts don't ascend from 0 to the number of entries, an index is not that of one of `d_sae` latents,
    /// or the latents of a token don't ascend.
    pub fn ragged(values: Tensor<1>, indices: Tensor<1, Int>, starts: &[usize], d_sae: usize) -> Result<Self> {
        let [entries] = indices.dims();
        if values.dims() != [entries] {
            return refuse(format!("there are {} values and {entries} indices", values.dims()[0]));
        }
        if starts.first() != Some(&0) || starts.last() != Some(&entries) || !starts.is_sorted() {
            return refuse(format!(
                "the starts of its rows must ascend from 0 to {entries}, the number of its entries"
            ));
        }
        let starts = narrow(starts)?;
        check_latents(&indices, HostRows::Starts(&starts), d_sae)?;
        let rows = Rows::Starts(Tensor::from_data(starts.as_slice(), &values.device()));
        Ok(Self { values, indices: indices.cast(IntDType::I32), rows, marks: None, d_sae })
    }

    /// The active entries of a dense code. It goes through the host's memory, whatever the device.
    ///
    /// # Shapes
    /// - `dense`: `[batch, d_sae]`
    ///
    /// # Errors
    /// If there are 2³¹ active entries or more.
    pub fn from_dense(dense: Tensor<2>) -> Result<Self> {
        let ([_, d_sae], device) = (dense.dims(), dense.device());
        let active = |row: &[f32]| -> (Vec<i32>, Vec<f32>) {
            row.iter().zip(0..).filter(|(value, _)| **value != 0.0).map(|(&value, latent)| (latent, value)).unzip()
        };
        let tokens: Vec<(Vec<i32>, Vec<f32>)> = host(dense).par_chunks(d_sae).map(active).collect();
        Self::of_rows(&tokens, d_sae, &device)
    }

    /// A code of each token's latents, ascending, and their values.
    ///
    /// # Errors
    /// If there are 2³¹ entries or more.
    fn of_rows(tokens: &[(Vec<i32>, Vec<f32>)], d_sae: usize, device: &Device) -> Result<Self> {
        let mut starts = vec![0];
        for (latents, _) in tokens {
            starts.push(starts[starts.len() - 1] + latents.len());
        }
        let starts = narrow(&starts)?;
        let indices: Vec<i32> = tokens.iter().flat_map(|(latents, _)| latents).copied().collect();
        let values: Vec<f32> = tokens.iter().flat_map(|(_, values)| values).copied().collect();
        Ok(Self {
            values: Tensor::from_data(values.as_slice(), device),
            indices: Tensor::from_data(indices.as_slice(), device),
            rows: Rows::Starts(Tensor::from_data(starts.as_slice(), device)),
            marks: None,
            d_sae,
        })
    }

    /// A code of kernels, whose indices are right by construction: `[batch, k]` each.
    pub(crate) fn trusted(values: Tensor<2>, indices: Tensor<2, Int>, d_sae: usize) -> Self {
        let [_, k] = values.dims();
        Self { values: values.flatten(0, 1), indices: indices.flatten(0, 1), rows: Rows::Each(k), marks: None, d_sae }
    }

    /// The same with rows of any length: `[entries]` each. Entries behind the last row are no token's, and 0.
    pub(crate) fn of_kernel(values: Tensor<1>, indices: Tensor<1, Int>, rows: Rows, d_sae: usize) -> Self {
        Self { values, indices, rows, marks: None, d_sae }
    }

    pub(crate) fn into_parts(self) -> (Tensor<1>, Tensor<1, Int>, Rows, Option<Marks>) {
        (self.values, self.indices, self.rows, self.marks)
    }

    pub(crate) fn with_marks(self, marks: Marks) -> Self {
        Self { marks: Some(marks), ..self }
    }

    /// Activations of the chosen latents, `[entries]`.
    pub fn values(&self) -> Tensor<1> {
        self.values.clone()
    }

    /// Which latents they are, `[entries]`.
    pub fn indices(&self) -> Tensor<1, Int> {
        self.indices.clone()
    }

    /// How many entries it holds, active or not.
    pub(crate) fn entries(&self) -> usize {
        self.values.dims()[0]
    }

    /// The entries of codes of as many entries each for every token, whose latents ascend from one code to the next.
    pub(crate) fn beside(mut codes: Vec<Self>) -> Self {
        if codes.len() == 1 {
            return codes.remove(0);
        }
        let d_sae = codes[0].d_sae;
        let each = |code: &Self| match code.rows {
            Rows::Each(k) => [code.values.dims()[0] / k, k],
            Rows::Starts(_) => unreachable!("rows of one length are asked for"),
        };
        let values = codes.iter().map(|code| code.values.clone().reshape(each(code))).collect();
        let indices = codes.iter().map(|code| code.indices.clone().reshape(each(code))).collect();
        Self::trusted(Tensor::cat(values, 1), Tensor::cat(indices, 1), d_sae)
    }

    /// The number of entries of every token, where the architecture fixes it.
    pub fn k(&self) -> Option<usize> {
        match self.rows {
            Rows::Each(k) => Some(k),
            Rows::Starts(_) => None,
        }
    }

    /// How many latents there are to choose from.
    pub fn d_sae(&self) -> usize {
        self.d_sae
    }

    /// The same latents with other values.
    pub(crate) fn map_values(self, map: impl FnOnce(Tensor<1>) -> Tensor<1>) -> Self {
        // Other entries may be 0.
        Self { values: map(self.values), marks: None, ..self }
    }
}

fn refuse<T>(why: String) -> Result<T> {
    Err(SaeError::Setting(format!("a sparse code: {why}")))
}

/// Starts of rows in the width of the kernels.
fn narrow(starts: &[usize]) -> Result<Vec<i32>> {
    let narrow: Option<Vec<i32>> = starts.iter().map(|&start| i32::try_from(start).ok()).collect();
    narrow.map_or_else(|| refuse(format!("more than {} entries; take fewer tokens at once", i32::MAX)), Ok)
}

fn check_latents(indices: &Tensor<1, Int>, rows: HostRows<'_>, d_sae: usize) -> Result<()> {
    let latents = indices.to_data().convert::<i64>().try_into_vec::<i64>().expect("converted to i64");
    for token in 0..rows.tokens() {
        let row = &latents[rows.of(token)];
        if let Some(latent) = row.iter().find(|&&latent| !usize::try_from(latent).is_ok_and(|latent| latent < d_sae)) {
            return refuse(format!("token {token} has latent {latent}; there are {d_sae}, from 0"));
        }
        if let Some(pair) = row.windows(2).find(|pair| pair[0] >= pair[1]) {
            return refuse(format!("token {token} has latent {} after {}; they must ascend", pair[1], pair[0]));
        }
    }
    Ok(())
}

/// A code, held as its architecture gives it; a latent is active where its value is not 0.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one a batch")]
pub enum Code {
    /// The chosen latents of each token.
    Sparse(SparseCode),
    /// Every latent, `[batch, d_sae]`.
    Dense(Tensor<2>),
}

impl Code {
    /// Shows `see` every active latent: token, latent, value. Tokens ascend, and the latents of a token do.
    pub fn for_each_active(self, mut see: impl FnMut(usize, usize, f32)) {
        match self {
            Self::Sparse(code) => {
                let (latents, values) = (host_int(code.indices), host(code.values));
                let starts;
                let rows = match code.rows {
                    Rows::Each(k) => HostRows::Each { k, tokens: values.len() / k },
                    Rows::Starts(of) => {
                        starts = host_int(of);
                        HostRows::Starts(&starts)
                    }
                };
                for token in 0..rows.tokens() {
                    for at in rows.of(token) {
                        if values[at] != 0.0 {
                            see(token, latents[at] as usize, values[at]);
                        }
                    }
                }
            }
            Self::Dense(values) => {
                let [_, d_sae] = values.dims();
                for (at, value) in host(values).into_iter().enumerate() {
                    if value != 0.0 {
                        see(at / d_sae, at % d_sae, value);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::{Activation, Sae};

    fn code(indices: &[i64], k: usize, d_sae: usize) -> Result<SparseCode> {
        let device = Device::flex();
        let shape = [indices.len() / k, k];
        let indices: Tensor<2, Int> = Tensor::from_data(TensorData::new(indices.to_vec(), shape), &device);
        SparseCode::new(Tensor::ones(shape, &device), indices, d_sae)
    }

    #[test]
    fn indices_that_an_sae_does_not_have_make_no_code() {
        assert!(code(&[0, 3, 1, 2], 2, 4).is_ok());
        for (indices, part) in
            [([0, 4, 1, 2], "latent 4"), ([0, 3, -1, 2], "token 1 has latent -1"), ([0, 3, 2, 2], "ascend")]
        {
            let error = code(&indices, 2, 4).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let device = Device::flex();
        assert!(SparseCode::new(Tensor::ones([1, 2], &device), Tensor::zeros([2, 1], &device), 4).is_err());
    }

    fn ragged(indices: &[i64], starts: &[usize], d_sae: usize) -> Result<SparseCode> {
        let device = Device::flex();
        SparseCode::ragged(Tensor::ones([indices.len()], &device), Tensor::from_data(indices, &device), starts, d_sae)
    }

    #[test]
    fn rows_of_any_length_are_checked_too() {
        assert!(ragged(&[0, 3, 1], &[0, 2, 2, 3], 4).is_ok());
        assert!(ragged(&[], &[0, 0], 4).is_ok());
        for (indices, starts, part) in [
            (&[0, 3, 1], &[0, 2, 2][..], "ascend from 0 to 3"),
            (&[0, 3, 1], &[0, 2, 1, 3], "ascend from 0 to 3"),
            (&[0, 3, 1], &[1, 3], "ascend from 0 to 3"),
            (&[0, 3, 1], &[], "ascend from 0 to 3"),
            (&[0, 3, 1], &[0, 3], "token 0 has latent 1 after 3"),
            (&[0, 3, 4], &[0, 2, 2, 3], "token 2 has latent 4"),
        ] {
            let error = ragged(indices, starts, 4).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn the_active_entries_of_a_dense_code_are_shown_as_they_are() {
        let rows = [[0.0, 2.0, 0.0, -1.0], [0.0; 4], [1.0, 2.0, 3.0, f32::NAN]];
        let dense: Tensor<2> = Tensor::from_data(rows, &Device::flex());
        let code = SparseCode::from_dense(dense.clone()).unwrap();
        assert_eq!((code.k(), code.d_sae()), (None, 4));
        let seen = |code: Code| {
            let mut seen = Vec::new();
            code.for_each_active(|token, latent, value| seen.push((token, latent, value.to_bits())));
            seen
        };
        let expected = [(0, 1, 2.0), (0, 3, -1.0), (2, 0, 1.0), (2, 1, 2.0), (2, 2, 3.0), (2, 3, f32::NAN)];
        assert_eq!(seen(Code::Sparse(code)), expected.map(|(t, l, v): (_, _, f32)| (t, l, v.to_bits())));
        assert_eq!(seen(Code::Dense(dense)), expected.map(|(t, l, v): (_, _, f32)| (t, l, v.to_bits())));
        let none = SparseCode::from_dense(Tensor::zeros([2, 3], &Device::flex())).unwrap();
        assert!(seen(Code::Sparse(none)).is_empty());
    }

    #[test]
    #[should_panic(expected = "a code of another SAE")]
    fn a_code_of_a_larger_sae_is_not_decoded() {
        let device = Device::flex();
        let matrix = || Tensor::ones([4, 3], &device);
        let biases = [Tensor::zeros([4], &device), Tensor::zeros([3], &device)];
        let sae = Sae::new([matrix(), matrix()], biases, Activation::TopK { k: 2, by_decoder_norm: false }, true);
        sae.decode(Code::Sparse(code(&[0, 7], 2, 8).unwrap()));
    }
}
