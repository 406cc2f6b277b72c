//! Gradients that go back through the layers one at a time, on a GPU.
//!
//! A pass without gradients gives what every layer reads. Each layer is then run once more on that, with operations that have a gradient,
//! for all vectors that come back to it together. So a gradient depends on no other that is asked for, the operations of one layer at a
//! time are kept in memory, and a GPU has few large ones in the place of many small ones.

use burn::tensor::Tensor;

use super::{Cut, Decoder, Nobody, Visitor};
use crate::hooks::{HookKind, HookPoint};
use crate::kernels::product;

/// What the layers of a pass read.
struct Inputs(Vec<Tensor<3>>);

impl Visitor for Inputs {
    fn wants(&self, _: HookPoint) -> bool {
        false
    }
    fn at(&mut self, hook: HookPoint, value: Tensor<3>) -> Tensor<3> {
        if hook.kind == HookKind::ResidPre {
            self.0.push(value.clone());
        }
        value
    }
}

impl Decoder {
    /// Whether gradients go back so; else each is of a pass of its own.
    pub(crate) fn goes_back_by_layers(&self) -> bool {
        self.pinned
    }

    /// For some functions of a pass's logits, their gradients at cuts of it: `at_logits` gives that of a function, by its number, at the logits
    /// that it is shown. For every function one at each cut, in their order.
    ///
    /// # Shapes
    /// - `at_logits`: `[batch, context, vocab_size]` both; each result is like the cut's value.
    ///
    /// # Panics
    /// If there is no cut, or they are of different passes.
    pub(crate) fn back(
        &self,
        cuts: &[&Cut],
        functions: usize,
        at_logits: impl Fn(&Tensor<3>, usize) -> Tensor<3>,
    ) -> Vec<Vec<Tensor<3>>> {
        let streams: Vec<(Tensor<3>, usize)> = cuts.iter().map(|cut| self.stream_after(cut, cut.value())).collect();
        let (x, first) = streams.iter().min_by_key(|(_, next)| *next).expect("there is a cut").clone();
        let mut inputs = Inputs(Vec::with_capacity(self.layers.len() - first));
        let end = self.run_layers(x, first..self.layers.len(), &mut inputs);
        let mut back = self.back_from_logits(end, functions, at_logits);
        let all = |x: &Tensor<3>| Tensor::cat(vec![x.clone(); functions], 0);
        let mut found: Vec<Option<Tensor<3>>> = vec![None; cuts.len()];
        for index in (first..=self.layers.len()).rev() {
            for ((slot, cut), _) in found.iter_mut().zip(cuts).zip(&streams).filter(|(_, (_, next))| *next == index) {
                let cut = Cut { site: cut.site, value: all(&cut.value), beside: cut.beside.iter().map(all).collect() };
                *slot = Some(sent_back(cut.value(), &back, |value| self.stream_after(&cut, value).0));
            }
            if let Some(input) = inputs.0.pop() {
                back = sent_back(all(&input), &back, |x| self.run_layers(x, index - 1..index, &mut Nobody));
            }
        }
        let found: Vec<Vec<Tensor<3>>> = found
            .into_iter()
            .map(|of| of.expect("every cut is read by a layer or the end").chunk(functions, 0))
            .collect();
        (0..functions).map(|function| found.iter().map(|of| of[function].clone()).collect()).collect()
    }

    /// The gradients at the residual stream after the last layer, of all functions, one after the other in the first dimension.
    fn back_from_logits(
        &self,
        x: Tensor<3>,
        functions: usize,
        at_logits: impl Fn(&Tensor<3>, usize) -> Tensor<3>,
    ) -> Tensor<3> {
        let logits = self.unembed(x.clone());
        // Of y = c·tanh(u / c) the slope is 1 − (y / c)².
        let slope = self.config.ends.logit_cap.map(|cap| (logits.clone() / cap).square().neg() + 1.0);
        let unembed: Tensor<3> = self.unembed.clone().transpose().unsqueeze();
        // One after the other: each is as large as the logits.
        let at_normed = |function: usize| {
            let back = at_logits(&logits, function);
            let back = match &slope {
                Some(slope) => back * slope.clone(),
                None => back,
            };
            product(back, unembed.clone())
        };
        let back: Vec<Tensor<3>> = (0..functions).map(at_normed).collect();
        let x = Tensor::cat(vec![x; functions], 0);
        sent_back(x, &Tensor::cat(back, 0), |x| self.final_norm.forward(x))
    }
}

/// The gradient at `x` of ⟨`back`, of(x)⟩.
fn sent_back(x: Tensor<3>, back: &Tensor<3>, of: impl FnOnce(Tensor<3>) -> Tensor<3>) -> Tensor<3> {
    let x = x.autodiff().require_grad();
    // Burn's way back begins with ones, of whatever shape; their sum is not needed.
    let gradients = (of(x.clone()) * back.clone().autodiff()).backward();
    x.grad(&gradients).expect("what is made of an activation depends on it")
}
