//! What one token adds to the sums: of its activation and reconstruction, and of the directions that deflation takes away.

use super::Sums;

/// What one token's activation and reconstruction add to the sums of every subset that it belongs to; what depends on a
/// subset's mean, [`Subsets::from_mean`](super::Subsets::from_mean) gives. `directions` are those that deflation takes away.
pub fn token_sums(a: &[f32], recon: &[f32], directions: &Directions) -> Sums {
    let (mut sse, mut norm_sq, mut recon_norm_sq, mut dot) = (0.0, 0.0, 0.0, 0.0);
    for (&a, &r) in a.iter().zip(recon) {
        let (a, r) = (f64::from(a), f64::from(r));
        sse += (r - a) * (r - a);
        norm_sq += a * a;
        recon_norm_sq += r * r;
        dot += a * r;
    }
    let (norm, recon_norm) = (norm_sq.sqrt(), recon_norm_sq.sqrt());
    let nonzero = norm > 0.0;
    let [sse_top_1, sse_top_2, sse_top_4, sse_top_8] = directions.squares(|i| f64::from(recon[i]) - f64::from(a[i]));
    Sums {
        tokens: 1.0,
        elements: a.len() as f64,
        sse,
        norm_sq,
        recon_norm_sq,
        dot,
        // A zero vector has no direction: it counts as cosine 0, as in torch.
        cosine: dot / (norm * recon_norm).max(1e-8),
        rel_err: sse.sqrt() / (norm + 1e-10),
        nonzero: f64::from(nonzero),
        l2_ratio: if nonzero { recon_norm / norm } else { 0.0 },
        sse_top_1,
        sse_top_2,
        sse_top_4,
        sse_top_8,
        ..Sums::default()
    }
}

/// Adds to one token's sums what draws of labels say of it: g̃ᵀδ and ‖g̃‖² of each draw, at least one.
pub fn drawn_sums(sums: &mut Sums, draws: &[(f64, f64)]) {
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / draws.len() as f64;
    sums.drawn = 1.0;
    sums.fwd = mean(&mut draws.iter().map(|(along, _)| along * along));
    sums.fisher_isotropic = mean(&mut draws.iter().map(|(_, norm_sq)| norm_sq * sums.sse));
}

/// How many top directions deflation takes away: of spectra (`pr_deflated_m`) and of errors (`r2_deflated_m`).
pub const DEFLATIONS: [usize; 4] = [1, 2, 4, 8];

/// The top eigenvectors of the activations' covariance, most variance first.
#[derive(Clone, Debug, Default)]
pub struct Directions(pub Vec<Vec<f64>>);

impl Directions {
    /// Squared length of a vector's part in the span of the top m directions, for each m of [`DEFLATIONS`].
    pub(super) fn squares(&self, vector: impl Fn(usize) -> f64) -> [f64; 4] {
        let mut squares = [0.0; 4];
        for (rank, direction) in self.0.iter().enumerate() {
            let along: f64 = direction.iter().enumerate().map(|(i, d)| d * vector(i)).sum();
            for (square, _) in squares.iter_mut().zip(DEFLATIONS).filter(|(_, top)| rank < *top) {
                *square += along * along;
            }
        }
        squares
    }
}
