//! What a results directory says of a published quantity: which function of [`crate::analysis`] each is.
//!
//! By the texts' own rules, also where reports have others first: CE_rec per sequence, k* straight in k, the bootstrap.

use assay_probes::metrics::metric;
use assay_probes::stats::Between;

use super::numbers::{Counterpart, Missing, Numbers, narrow};
use super::published::{End, Models, Published, is_budget};
use crate::analysis::{
    Analysis, Cell, Score, Threshold, agreement, gap, k_star_ratio, loss_ratio, mismatches, on_all, overlap,
    sequence_sd, threshold,
};
use crate::frames::{Class, RECONSTRUCTION, RESID_POST, Site, TOPK};

impl Numbers for Analysis<'_> {
    fn find(&self, wanted: &Published) -> Result<Counterpart, Missing> {
        let score = match &wanted.models {
            Models::All => of_all(self, wanted),
            Models::One(model) => of_one(self, model, wanted),
            Models::Pair { from, to } => of_pair(self, from, to, wanted),
        }?;
        let quantity = || wanted.quantity.clone();
        let value = score.value.filter(|v| !v.is_nan()).ok_or_else(|| Missing::Undefined(quantity()))?;
        if wanted.end == End::Value || wanted.is_bound() {
            return Ok(Counterpart { value, interval: score.bootstrap, is_bound: false });
        }
        let interval = score.bootstrap.ok_or_else(|| Missing::Interval(quantity()))?;
        let end = if wanted.end == End::Low { interval.low } else { interval.high };
        Ok(Counterpart { value: end, interval: None, is_bound: false })
    }
}

fn no_such_quantity(wanted: &Published) -> Missing {
    Missing::Quantity(wanted.quantity.clone())
}

/// 1 for yes, 0 for no.
fn claim(holds: Option<bool>) -> Score {
    Score::bare(holds.map(|h| f64::from(u8::from(h))))
}

/// The cells that have what the published row says, of one model or of all; of the budgets that round to the published one,
/// the nearest.
fn cells<'a>(analysis: &'a Analysis<'_>, model: Option<&str>, wanted: &Published) -> Result<Vec<&'a Cell>, Missing> {
    let mut cells: Vec<&Cell> = analysis.cells.iter().collect();
    if let Some(model) = model {
        narrow(&mut cells, |c| c.model == model, Missing::Model(model.to_owned()))?;
    }
    // The texts' SAEs are TopK on the residual stream, trained for the reconstruction.
    narrow(&mut cells, |c| c.site.kind == RESID_POST, Missing::Hook)?;
    narrow(&mut cells, |c| c.setting.architecture == TOPK, Missing::Architecture)?;
    narrow(&mut cells, |c| RECONSTRUCTION.contains(&c.setting.objective.as_str()), Missing::Objective)?;
    if let Some(depth) = &wanted.depth {
        narrow(&mut cells, |c| c.site.depth == *depth, Missing::Depth(depth.clone()))?;
    }
    if let Some(layer) = wanted.layer {
        let of = |c: &Cell| analysis.column(c, "layer");
        let ours = cells.first().and_then(|c| of(c)).unwrap_or_default();
        let (model, depth) = (model.unwrap_or("any model"), wanted.depth.as_deref().unwrap_or("a depth"));
        let missing = Missing::Layer(format!("{depth} of {model} is layer {ours}, not {layer}"));
        narrow(&mut cells, |c| of(c) == Some(layer as f64), missing)?;
    }
    if let Some(tokens) = wanted.tokens {
        narrow(&mut cells, |c| is_budget(tokens, c.budget), Missing::budget(wanted.tokens))?;
        let off = |c: &Cell| tokens.abs_diff(c.budget);
        let nearest = cells.iter().map(|c| off(c)).min();
        cells.retain(|c| Some(off(c)) == nearest);
    }
    if let Some(k) = wanted.k {
        narrow(&mut cells, |c| c.setting.k == Some(k), Missing::K(k))?;
    }
    Ok(cells)
}

/// The only cell that has what the published row says.
fn cell<'a>(analysis: &'a Analysis<'_>, model: &str, wanted: &Published) -> Result<&'a Cell, Missing> {
    match cells(analysis, Some(model), wanted)?[..] {
        [cell] => Ok(cell),
        _ => Err(several(wanted)),
    }
}

fn several(wanted: &Published) -> Missing {
    let open = [("depth", wanted.depth.is_none()), ("k", wanted.k.is_none()), ("tokens", wanted.tokens.is_none())];
    let open: Vec<&str> = open.into_iter().filter_map(|(key, open)| open.then_some(key)).collect();
    Missing::Ambiguous(format!("several runs answer: the row leaves open {}", open.join(", ")))
}

/// The one site, budget and class of some cells.
fn condition<'a>(cells: &[&'a Cell], wanted: &Published) -> Result<(&'a Site, u64, Class), Missing> {
    let of = |c: &&'a Cell| (&c.site, c.budget, c.setting.class());
    match cells.first().map(of) {
        Some(first) if cells.iter().all(|c| of(c) == first) => Ok(first),
        _ => Err(several(wanted)),
    }
}

/// Of all models together.
fn of_all(analysis: &Analysis<'_>, wanted: &Published) -> Result<Score, Missing> {
    let cells = cells(analysis, None, wanted)?;
    let correlation = |within: bool| {
        let (site, budget, _) = condition(&cells, wanted)?;
        if let Some(classes) = analysis.names.classes() {
            return Err(Missing::Ambiguous(format!("correlations here are over SAEs of more than one {classes}")));
        }
        let found = agreement(analysis, site, budget).map(|a| if within { a.within_k } else { a.pooled });
        Ok(found.map_or_else(Score::default, |e| Score { bootstrap: e.interval, ..Score::bare(e.value) }))
    };
    let extreme = |pick: fn(f64, f64) -> f64| {
        let sds: Option<Vec<f64>> = cells.iter().map(|c| sequence_sd(analysis, c)).collect();
        Score::bare(sds.and_then(|sds| sds.into_iter().reduce(pick)))
    };
    match wanted.quantity.as_str() {
        "corr_pooled" => correlation(false),
        "corr_within_k" => correlation(true),
        "ce_sd_min" => Ok(extreme(f64::min)),
        "ce_sd_max" => Ok(extreme(f64::max)),
        _ => Err(no_such_quantity(wanted)),
    }
}

/// Of one model.
fn of_one(analysis: &Analysis<'_>, model: &str, wanted: &Published) -> Result<Score, Missing> {
    let quantity = wanted.quantity.as_str();
    if quantity == "pr" || quantity == "pr_over_d_model" {
        return geometry(analysis, model, wanted);
    }
    if let Some(target) = quantity.strip_prefix("k_star_") {
        let target: f64 = target.parse().map_err(|_| no_such_quantity(wanted))?;
        let found = k_star(analysis, model, target, wanted)?;
        return Ok(found.map_or_else(Score::default, |t| Score { value: t.between(), ..t.score }));
    }
    let cell = cell(analysis, model, wanted)?;
    let of_loss_ratio =
        |of: fn(f64) -> f64| analysis.derived(&[(cell, on_all("ce_rec"))], |v| Some(of(loss_ratio(v[0]))));
    match quantity {
        "loss_ratio" => Ok(of_loss_ratio(|ratio| ratio)),
        "loss_increase" => Ok(of_loss_ratio(|ratio| ratio - 1.0)),
        name if metric(name).is_some() => Ok(analysis.score(cell, on_all(name))),
        // A column without replicates, such as alive_frac.
        name if analysis.runs(cell).all(|r| r.values.contains_key(name)) => {
            Ok(Score::bare(analysis.column(cell, name)))
        }
        _ => Err(no_such_quantity(wanted)),
    }
}

/// k* by the texts' own rule.
fn k_star(analysis: &Analysis<'_>, model: &str, target: f64, wanted: &Published) -> Result<Option<Threshold>, Missing> {
    let (site, budget, class) = condition(&cells(analysis, Some(model), wanted)?, wanted)?;
    Ok(threshold(analysis, &analysis.path(model, site, budget, &class), target, Between::Linear))
}

/// Participation ratios are measured at every layer, whether or not it has SAEs.
fn geometry(analysis: &Analysis<'_>, model: &str, wanted: &Published) -> Result<Score, Missing> {
    let layers = analysis.grid.geometry.iter().find(|(name, _)| name == model).map(|(_, layers)| layers);
    let layers = layers.ok_or_else(|| Missing::Model(model.to_owned()))?;
    let layer = wanted.layer.ok_or_else(|| Missing::Ambiguous("the row names no layer".to_owned()))?;
    let found = layers.iter().find(|l| l.layer as u64 == layer);
    let found = found.ok_or_else(|| Missing::Layer(format!("{model} has no layer {layer}")))?;
    Ok(Score::bare(if wanted.quantity == "pr" { found.pr } else { found.pr_over_d_model }))
}

/// Of a later model against an earlier one.
fn of_pair(analysis: &Analysis<'_>, from: &str, to: &str, wanted: &Published) -> Result<Score, Missing> {
    let quantity = wanted.quantity.as_str();
    if let Some(target) = quantity.strip_prefix("k_star_ratio_") {
        let target: f64 = target.parse().map_err(|_| no_such_quantity(wanted))?;
        let of = |model| k_star(analysis, model, target, wanted);
        let ratio = of(from)?.zip(of(to)?).and_then(|(from, to)| k_star_ratio(&from, &to));
        return Ok(Score::bare(ratio));
    }
    if quantity == "mismatch_rate" {
        return mismatch_rate(analysis, from, to, wanted).map(Score::bare);
    }
    let (from, to) = (cell(analysis, from, wanted)?, cell(analysis, to, wanted)?);
    let difference = |name: &str| match metric(name) {
        Some(_) => Ok(analysis.difference(from, to, on_all(name))),
        None => Err(no_such_quantity(wanted)),
    };
    if let Some(name) = quantity.strip_prefix("abs_delta_") {
        return Ok(Score::bare(difference(name)?.value.map(f64::abs)));
    }
    if let Some(name) = quantity.strip_prefix("sign_delta_") {
        let sign = |v: f64| if v == 0.0 { 0.0 } else { v.signum() };
        return Ok(Score::bare(difference(name)?.value.map(sign)));
    }
    match quantity {
        "delta_ratio" => Ok(gap(analysis, from, to).ratio),
        "sst_ratio" => Ok(analysis.ratio(from, to, on_all("sst_per_token"))),
        "ci_overlap" => Ok(claim(overlap(analysis, from, to).overlap)),
        // The sign says which model is better; the texts print the size.
        "cohen_d" => Ok(Score::bare(overlap(analysis, from, to).cohen_d.map(f64::abs))),
        "monotone_r2" => Ok(claim(difference("r2")?.value.map(|d| d > 0.0))),
        "monotone_ce_rec" => Ok(claim(difference("ce_rec")?.value.map(|d| d < 0.0))),
        _ => difference(quantity.strip_prefix("delta_").ok_or_else(|| no_such_quantity(wanted))?),
    }
}

/// Share of the pairs with opposite signs, over seeds and, where the row names no k, over every k that both models have.
fn mismatch_rate(analysis: &Analysis<'_>, from: &str, to: &str, wanted: &Published) -> Result<Option<f64>, Missing> {
    let (from, to) = (cells(analysis, Some(from), wanted)?, cells(analysis, Some(to), wanted)?);
    condition(&from, wanted)?;
    condition(&to, wanted)?;
    let pairs =
        from.iter().flat_map(|a| to.iter().filter(|b| b.setting == a.setting).map(move |b| mismatches(analysis, a, b)));
    let (opposite, all) = pairs.fold((0, 0), |(o, n), (opposite, pairs)| (o + opposite, n + pairs));
    Ok((all > 0).then(|| opposite as f64 / all as f64))
}
