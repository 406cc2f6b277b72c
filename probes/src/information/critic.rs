//! Critics: networks that score how well an x and a y belong together.

use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::estimate::CriticConfig;

/// How x and y meet in a critic (Poole et al. 2019, arXiv:1905.06922, §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Critic {
    /// f(x)ᵀg(y)/√embed with two networks: B evaluations of each score all B² pairs. Views meet only in the product, so a
    /// dependence of high rank takes a wide embedding, and the inferred dimensionality comes out too large (Gulati et al. 2026,
    /// arXiv:2602.08105).
    Separable,
    /// One network of the pair (x, y), evaluated B² times. Behind a bottleneck it is the hybrid critic of Gulati et al.
    Concatenated,
}

/// A critic's parameters, and how they are put together.
///
/// Networks have two hidden layers with ReLU. Parameters lie in one list, in the order in which [`Self::scores`] takes them.
#[derive(Clone)]
pub(super) struct Network {
    critic: Critic,
    bottleneck: bool,
    hidden: usize,
    pub(super) parameters: Vec<Tensor<2>>,
}

impl Network {
    /// A critic of views with `d_x` and `d_y` dimensions, drawn from the configured seed.
    ///
    /// Uniform weights: variance 2/inputs before a ReLU (He et al. 2015, arXiv:1502.01852), 1/inputs elsewhere. Biases start
    /// at 0.
    pub(super) fn new(config: &CriticConfig, d_x: usize, d_y: usize, device: &Device) -> Self {
        let CriticConfig { critic, width, hidden, embed, .. } = *config;
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        let mut uniform = |d_in: usize, d_out: usize, variance: f64| -> Tensor<2> {
            let limit = (3.0 * variance).sqrt() as f32;
            let values: Vec<f32> = (0..d_in * d_out).map(|_| rng.random_range(-limit..=limit)).collect();
            Tensor::from_data(TensorData::new(values, [d_in, d_out]), device)
        };
        let bias = |d_out: usize| Tensor::zeros([1, d_out], device);
        let over = |inputs: usize| 1.0 / inputs as f64;

        let mut parameters = Vec::new();
        if let Some(width) = width {
            parameters.push(uniform(d_x, width, over(d_x)));
        }
        let d_x = width.unwrap_or(d_x);
        match critic {
            Critic::Separable => {
                for d_in in [d_x, d_y] {
                    parameters.extend([uniform(d_in, hidden, 2.0 * over(d_in)), bias(hidden)]);
                    parameters.extend([uniform(hidden, hidden, 2.0 * over(hidden)), bias(hidden)]);
                    parameters.extend([uniform(hidden, embed, over(hidden)), bias(embed)]);
                }
            }
            Critic::Concatenated => {
                // Each view gives half of the first layer's variance, so that 16 dimensions are heard beside 1,024.
                parameters.extend([uniform(d_x, hidden, over(d_x)), uniform(d_y, hidden, over(d_y)), bias(hidden)]);
                parameters.extend([uniform(hidden, hidden, 2.0 * over(hidden)), bias(hidden)]);
                parameters.extend([uniform(1, hidden, over(hidden)), bias(1)]);
            }
        }
        Self { critic, bottleneck: width.is_some(), hidden, parameters }
    }

    /// The same critic with other parameters, such as tracked ones.
    pub(super) fn with(&self, parameters: Vec<Tensor<2>>) -> Self {
        Self { parameters, ..*self }
    }

    /// Scores of all pairs.
    ///
    /// # Shapes
    /// - `x`: `[a, d_x]`; `y`: `[b, d_y]`; the result is `[a, b]`.
    pub(super) fn scores(&self, x: Tensor<2>, y: Tensor<2>) -> Tensor<2> {
        let (bottleneck, p) = self.parameters.split_at(usize::from(self.bottleneck));
        let x = bottleneck.iter().fold(x, |x, weight| x.matmul(weight.clone()));
        match self.critic {
            Critic::Separable => {
                let (f, g) = p.split_at(p.len() / 2);
                let (x, y) = (mlp(x, f), mlp(y, g));
                let scale = 1.0 / (x.dims()[1] as f64).sqrt();
                x.mul_scalar(scale).matmul(y.transpose())
            }
            Critic::Concatenated => {
                let ([a, _], [b, _]) = (x.dims(), y.dims());
                // W·[x, y] = W_x·x + W_y·y: the first layer's products are taken once a view, not once a pair.
                let x = x.matmul(p[0].clone()).unsqueeze_dim::<3>(1);
                let y = (y.matmul(p[1].clone()) + p[2].clone()).unsqueeze_dim::<3>(0);
                let hidden = relu(x + y).reshape([a * b, self.hidden]);
                let hidden = relu(hidden.matmul(p[3].clone()) + p[4].clone());
                // Not a product with one column: that is the shape in which fused kernels have been wrong (burn#5122).
                ((hidden * p[5].clone()).sum_dim(1) + p[6].clone()).reshape([a, b])
            }
        }
    }

    /// As [`Self::scores`], as many rows at a time as keep a hidden layer within `elements`.
    pub(super) fn scores_in_chunks(&self, x: Tensor<2>, y: Tensor<2>, elements: usize) -> Tensor<2> {
        let rows = match self.critic {
            Critic::Separable => x.dims()[0],
            Critic::Concatenated => (elements / (y.dims()[0] * self.hidden)).max(1),
        };
        Tensor::cat(x.split(rows, 0).into_iter().map(|x| self.scores(x, y.clone())).collect(), 0)
    }
}

/// Three layers of weights and biases, with ReLU between them.
fn mlp(x: Tensor<2>, p: &[Tensor<2>]) -> Tensor<2> {
    let hidden = relu(x.matmul(p[0].clone()) + p[1].clone());
    let hidden = relu(hidden.matmul(p[2].clone()) + p[3].clone());
    hidden.matmul(p[4].clone()) + p[5].clone()
}

#[cfg(test)]
mod tests {
    use super::super::bound::Bound;
    use super::*;

    fn values(x: Tensor<2>) -> Vec<f32> {
        x.into_data().try_into_vec::<f32>().unwrap()
    }

    /// Entry (i, j) of the scores is that of x_i and y_j alone, and chunks change nothing.
    #[test]
    fn a_score_depends_on_its_pair_alone() {
        let device = Device::flex();
        let matrix = |rows: usize, cols: usize| -> Tensor<2> {
            let values: Vec<f32> = (0..rows * cols).map(|i| (i as f32 * 0.7).sin()).collect();
            Tensor::from_data(TensorData::new(values, [rows, cols]), &device)
        };
        let (x, y) = (matrix(5, 4), matrix(3, 2));
        for critic in [Critic::Separable, Critic::Concatenated] {
            for width in [None, Some(2)] {
                let config = CriticConfig { width, hidden: 8, ..CriticConfig::new(critic, Bound::InfoNce) };
                let network = Network::new(&config, 4, 2, &device);
                let all = values(network.scores(x.clone(), y.clone()));
                assert_eq!(all.len(), 15);
                for (at, &score) in all.iter().enumerate() {
                    let one = network.scores(x.clone().narrow(0, at / 3, 1), y.clone().narrow(0, at % 3, 1));
                    assert!((values(one)[0] - score).abs() <= 1e-5 * score.abs().max(1.0));
                }
                assert_eq!(values(network.scores_in_chunks(x.clone(), y.clone(), 2 * 3 * 8)), all);
            }
        }
    }
}
