//! The survey of an evaluation set: one pass over its tokens, which finds at every site what an evaluation there needs to know
//! beforehand, and the geometry of the model's layers.
//!
//! Activations are not kept: what grows with the evaluation set is a norm per token and site.

use std::ops::ControlFlow;

use assay_models::decoder::Cut;
use assay_models::{Decoder, HookPoint, Said, Site};
use burn::tensor::{Device, Tensor};
use ndarray::{ArrayView2, s};
use rayon::prelude::*;

use crate::error::{ProbeError, Result, advance, check_finite};
use crate::geometry::{Covariance, LayerGeometry, ModelGeometry, Spectrum};
use crate::metrics::{Directions, FirstLook, SecondLook, Subsets};
use crate::profile::NormBins;
use crate::readback::{host, read_into};

/// A model, the tokens that SAEs of it are evaluated on, and what is known of the activations there.
pub struct Survey<'a> {
    model: &'a Decoder,
    tokens: ArrayView2<'a, u32>,
    batch: usize,
    sites: Vec<Surveyed>,
    geometry: Option<ModelGeometry>,
}

/// What is known of a site.
pub(crate) struct Surveyed {
    pub site: Site,
    /// Eigenvalues of the activations' covariance.
    pub spectrum: Spectrum,
    /// Its top eigenvectors.
    pub directions: Directions,
    pub subsets: Subsets,
    pub bins: NormBins,
}

impl<'a> Survey<'a> {
    /// Surveys `tokens`, `[S, T]`, `batch` sequences at a time: the sites of SAEs, and the geometry at `layers`
    /// (see [`residual_stream`](crate::geometry::residual_stream)), for which none may be given. `progress` is told how many sequences
    /// each batch had.
    ///
    /// A second pass follows where some site has outliers; `progress` is told 0 of its batches.
    ///
    /// # Errors
    /// If a site does not exist in the model, a token is not in its vocabulary, an activation or loss is not finite, or `progress`
    /// breaks off ([`ProbeError::Stopped`]).
    pub fn new(
        model: &'a Decoder,
        tokens: ArrayView2<'a, u32>,
        sites: &[Site],
        layers: &[Site],
        batch: usize,
        mut progress: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Self> {
        let config = model.config();
        let mut this = Self { model, tokens, batch: batch.max(1), sites: Vec::new(), geometry: None };
        let mut wanted: Vec<Site> = Vec::new();
        for &site in sites.iter().chain(layers) {
            if !wanted.contains(&site) {
                wanted.push(site);
            }
        }
        let widths: Vec<usize> = wanted.iter().map(|site| site.hook.width(config)).collect();
        let new = |&width: &usize| SiteStatistics::new(model.device(), width, tokens.ncols());
        let mut looks: Vec<SiteStatistics> = widths.iter().map(new).collect();
        // The loss follows from the last layer as the model has it.
        let last = (!layers.is_empty()).then(|| Site::from(HookPoint::resid_post(config.n_layers() - 1)));
        let captured: Vec<Site> = wanted.iter().copied().chain(last).collect();
        let (mut ce, mut scored) = (0.0, 0.0);
        let mut on_host: Vec<Vec<f32>> = vec![Vec::new(); wanted.len()];
        for (start, part) in this.batches() {
            let mut cuts = model.cut(part, &captured)?;
            if let Some(last) = last.and_then(|_| cuts.pop()) {
                let losses = losses(model, &last, part);
                check_finite("the loss", &losses, 1, start, tokens.ncols() - 1)?;
                scored += losses.len() as f64;
                ce += losses.into_iter().map(f64::from).sum::<f64>();
            }
            let values: Vec<Tensor<3>> = cuts.iter().map(Cut::value).collect();
            drop(cuts);
            on_host.iter_mut().zip(&values).for_each(|(on_host, values)| read_into(on_host, values.clone()));
            let added: Vec<Result<()>> =
                looks.par_iter_mut().zip(&on_host).map(|(look, values)| look.add(values, start)).collect();
            added.into_iter().collect::<Result<()>>()?;
            let on_device =
                |(look, values): (&mut SiteStatistics, Tensor<3>)| look.covariance.add_on_device(values.flatten(0, 1));
            looks.iter_mut().zip(values).for_each(on_device);
            advance(&mut progress, part.nrows())?;
        }
        drop(on_host);
        looks.iter_mut().for_each(|look| look.covariance.read_device());
        let of = |site: &Site| &looks[wanted.iter().position(|w| w == site).expect("every site is wanted")];
        let (layers_known, eigen) = rayon::join(
            || layers.par_iter().map(|site| of(site).geometry(site.hook.layer)).collect::<Result<Vec<_>>>(),
            || {
                let at_site = |(site, look): (&Site, &SiteStatistics)| {
                    sites.contains(site).then(|| look.covariance.eigen()).transpose()
                };
                wanted.par_iter().zip(&looks).map(at_site).collect::<Result<Vec<_>>>()
            },
        );
        if !layers.is_empty() {
            this.geometry = Some(ModelGeometry { ce_orig: ce / f64::max(scored, 1.0), layers: layers_known? });
        }
        let known = wanted.into_iter().zip(looks).zip(eigen?);
        let half_known = known.filter_map(|((site, look), eigen)| Some((site, eigen?, look.first.finish()))).collect();
        this.look_again(half_known, progress)?;
        Ok(this)
    }

    /// Shows the sites that have outliers all activations once more.
    fn look_again(
        &mut self,
        mut sites: Vec<(Site, (Spectrum, Directions), SecondLook)>,
        mut progress: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut again: Vec<&mut (Site, _, SecondLook)> =
            sites.iter_mut().filter(|(.., look)| look.is_needed()).collect();
        if !again.is_empty() {
            let captured: Vec<Site> = again.iter().map(|(site, ..)| *site).collect();
            for (_, part) in self.batches() {
                let values = self.model.capture(part, &captured)?;
                again.iter_mut().zip(values).for_each(|((.., look), values)| look.add(&host(values)));
                advance(&mut progress, 0)?;
            }
        }
        let known = sites.into_iter().map(|(site, (spectrum, directions), look)| {
            let subsets = look.finish();
            Surveyed { site, spectrum, directions, bins: NormBins::new(subsets.norms()), subsets }
        });
        self.sites = known.collect();
        Ok(())
    }

    /// The geometry of the layers that were asked for, and the model's loss; `None` if none were.
    pub fn geometry(&self) -> Option<&ModelGeometry> {
        self.geometry.as_ref()
    }

    /// As [`Self::geometry`].
    pub fn into_geometry(self) -> Option<ModelGeometry> {
        self.geometry
    }

    pub(crate) fn model(&self) -> &'a Decoder {
        self.model
    }

    /// The first sequence of each batch, and its tokens.
    pub(crate) fn batches(&self) -> impl Iterator<Item = (usize, ArrayView2<'a, u32>)> + use<'a> {
        let (tokens, batch) = (self.tokens, self.batch);
        (0..tokens.nrows())
            .step_by(batch)
            .map(move |start| (start, tokens.slice_move(s![start..(start + batch).min(tokens.nrows()), ..])))
    }

    /// Sequences and tokens of the largest batch.
    pub(crate) fn pass(&self) -> (usize, usize) {
        (self.batch.min(self.tokens.nrows()), self.tokens.ncols())
    }

    /// What is known of a site.
    pub(crate) fn at(&self, site: Site) -> Result<&Surveyed> {
        self.sites.iter().find(|known| known.site == site).ok_or(ProbeError::NotSurveyed { site })
    }
}

/// What is seen of a site in the first pass.
struct SiteStatistics {
    covariance: Covariance,
    first: FirstLook,
}

impl SiteStatistics {
    fn new(device: &Device, d_model: usize, context: usize) -> Self {
        Self { covariance: Covariance::on(device, d_model), first: FirstLook::new(d_model, context) }
    }

    /// Adds the activations of the sequences from number `start` on.
    fn add(&mut self, values: &[f32], start: usize) -> Result<()> {
        let width = self.covariance.d_model();
        check_finite("the activation", values, width, start, self.first.context())?;
        self.covariance.add(ArrayView2::from_shape((values.len() / width, width), values).expect("whole rows"));
        self.first.add(values);
        Ok(())
    }

    fn geometry(&self, layer: usize) -> Result<LayerGeometry> {
        LayerGeometry::new(layer, &self.covariance, self.first.norms())
    }
}

/// Cross-entropy of each next token in the pass that was cut.
fn losses(model: &Decoder, cut: &Cut, tokens: ArrayView2<'_, u32>) -> Vec<f32> {
    Said::new(model.forward_from(cut, cut.value()), tokens).losses()
}
