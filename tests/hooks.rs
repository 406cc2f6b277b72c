//! Every kind of hook, captured, patched and differentiated, with every layout of the residual stream.

use std::path::Path;

use assay_models::config::{Layout, NormKind};
use assay_models::loss::{loss_gradient, loss_gradients, scored_log_probs, token_cross_entropy};
use assay_models::{Decoder, HookKind, HookPoint, ModelError, Site};
use burn::tensor::{Tensor, TensorData};
use ndarray::{Array2, ArrayView2};

use crate::common::{Reference, assert_close, copy_dir, device, edit_tensors, golden, values};

/// Random weights: attention and MLP side by side, and one after the other.
const LAYOUTS: [&str; 2] = ["neox-parallel", "neox-sequential"];
/// These and others: with RMS norms, with norms after attention and MLP as well, and with those alone.
const MODELS: [&str; 6] =
    ["neox-parallel", "neox-sequential", "families/gpt2", "families/qwen3", "families/gemma3", "families/olmo2"];
const LAYER: usize = 1;

fn models(layout: &str) -> [(String, Decoder); 2] {
    let load = || Decoder::load(&golden(layout), &device()).unwrap();
    [(layout.to_owned(), load()), (format!("{layout}, products as on a GPU"), load().with_pinned_products())]
}

fn tokens(layout: &str) -> Array2<u32> {
    Reference::open(golden(layout).join("expected.safetensors")).tokens("tokens")
}

/// Every hook that the model has.
fn hooks(model: &Decoder) -> Vec<HookPoint> {
    let of_layer = |layer| HookKind::ALL.map(|kind| HookPoint { layer, kind });
    (0..model.config().n_layers()).flat_map(of_layer).filter(|hook| hook.check(model.config()).is_ok()).collect()
}

fn site(kind: HookKind) -> Site {
    HookPoint { layer: LAYER, kind }.into()
}

#[test]
fn a_captured_value_put_back_changes_nothing() {
    for layout in MODELS {
        let tokens = tokens(layout);
        for (name, model) in models(layout) {
            let logits = values(model.forward(tokens.view()).unwrap());
            let sites: Vec<Site> = hooks(&model).into_iter().map(Site::from).collect();
            let config = model.config();
            let of_layer = if matches!(config.layout, Layout::Parallel | Layout::PostNorm) { 7 } else { 8 };
            assert_eq!(sites.len(), config.n_layers() * of_layer, "{name}");
            // A function that is shown everything and changes nothing.
            let shown = model.forward_with(tokens.view(), |_, value| value).unwrap();
            assert_close(&name, &values(shown), &logits, 0.0);
            let captured = model.capture(tokens.view(), &sites).unwrap();
            for (cut, captured) in model.cut(tokens.view(), &sites).unwrap().into_iter().zip(captured) {
                let site = cut.site();
                assert!(values(captured) == values(cut.value()), "{name}, {site}");
                let again = values(model.forward_from(&cut, cut.value()));
                assert_close(&format!("{name}, {site}"), &again, &logits, 0.0);
            }
            // Centred, the same but for rounding: all that read the residual stream are LayerNorms.
            if config.norm.kind != NormKind::Layer {
                continue;
            }
            let centred: Vec<Site> = sites.into_iter().map(|site| Site { center: true, ..site }).collect();
            for site in centred {
                if matches!(site.hook.kind, HookKind::Z | HookKind::MlpNormalized | HookKind::MlpIn) {
                    let error = model.cut(tokens.view(), &[site]).unwrap_err();
                    assert!(matches!(error, ModelError::CenteredInput { .. }), "{error}");
                    continue;
                }
                let cut = model.cut(tokens.view(), &[site]).unwrap().remove(0);
                let mean = values(cut.value().mean_dim(2)).into_iter().fold(0.0, |most: f32, m| most.max(m.abs()));
                assert!(mean < 1e-6, "{name}, {site}: {mean}");
                let again = values(model.forward_from(&cut, cut.value()));
                assert_close(&format!("{name}, {site}"), &again, &logits, 1e-5);
            }
        }
    }
}

/// The checkpoint with some tensors of a layer set to 0.
fn without(layout: &str, names: &[&str]) -> Decoder {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("model");
    copy_dir(&golden(layout), &copy);
    edit_tensors(&copy.join("model.safetensors"), |tensors| {
        for name in names {
            let (_, _, bytes) = tensors.get_mut(&format!("gpt_neox.layers.{LAYER}.{name}")).unwrap();
            assert!(bytes.iter().any(|b| *b != 0), "{name}");
            bytes.fill(0);
        }
    });
    load(&copy)
}

fn load(dir: &Path) -> Decoder {
    Decoder::load(dir, &device()).unwrap()
}

#[test]
fn a_part_that_is_zeroed_is_a_part_without_weights() {
    let (mlp, attention) =
        (["mlp.dense_4h_to_h.weight", "mlp.dense_4h_to_h.bias"], ["attention.dense.weight", "attention.dense.bias"]);
    for layout in LAYOUTS {
        let tokens = tokens(layout);
        let model = load(&golden(layout));
        let unpatched = values(model.forward(tokens.view()).unwrap());
        for (kind, names) in
            [(HookKind::MlpOut, &mlp[..]), (HookKind::AttnOut, &attention[..]), (HookKind::Z, &attention[..1])]
        {
            let cut = model.cut(tokens.view(), &[site(kind)]).unwrap().remove(0);
            let patched = values(model.forward_from(&cut, cut.value().zeros_like()));
            let expected = values(without(layout, names).forward(tokens.view()).unwrap());
            assert_close(&format!("{layout}, {kind}"), &patched, &expected, 1e-6);
            assert!(patched != unpatched, "{layout}, {kind}");
        }
    }
}

/// Sum of the losses, in f64, with `change` added at a hook of a whole pass.
fn loss(model: &Decoder, tokens: &Array2<u32>, hook: HookPoint, change: &Tensor<3>) -> f64 {
    let logits = model.forward_with(tokens.view(), |at, value| if at == hook { value + change.clone() } else { value });
    let losses = token_cross_entropy(scored_log_probs(logits.unwrap()), tokens.view(), &device());
    values(losses).into_iter().map(f64::from).sum()
}

/// Along directions that have much of the gradient in them, against differences of whole passes.
#[test]
fn gradients_are_slopes_of_the_loss() {
    for layout in MODELS {
        let tokens = tokens(layout);
        for (name, model) in models(layout) {
            for hook in hooks(&model).into_iter().filter(|hook| hook.layer == LAYER) {
                let cut = model.cut(tokens.view(), &[hook.into()]).unwrap().remove(0);
                let gradient = values(loss_gradient(&model, &cut, tokens.view()));
                let norm = gradient.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
                let scale = f64::from(values(cut.value()).iter().map(|v| v * v).sum::<f32>().sqrt());
                for part in 0..3 {
                    // All of the gradient, and about every other element of it.
                    let taken = |at: usize| part == 0 || (at * 7919 / 64 + at) % 2 == part - 1;
                    let direction: Vec<f32> =
                        gradient.iter().enumerate().map(|(at, &g)| if taken(at) { g } else { 0.0 }).collect();
                    let slope: f64 = direction.iter().map(|&g| f64::from(g) * f64::from(g)).sum();
                    let step = |size: f64| {
                        let values: Vec<f32> = direction.iter().map(|&d| (size * f64::from(d)) as f32).collect();
                        let change = Tensor::from_data(TensorData::new(values, cut.value().dims()), &device());
                        loss(&model, &tokens, hook, &change)
                    };
                    let difference = |size: f64| (step(size) - step(-size)) / (2.0 * size);
                    let size = 4e-3 * scale / norm;
                    // Richardson: the error of second order cancels.
                    let measured = (4.0 * difference(size) - difference(2.0 * size)) / 3.0;
                    let error = (measured - slope).abs() / slope;
                    assert!(error < 2e-3, "{name}, {hook}, part {part}: {measured} against {slope}, {error:.1e}");
                }
            }
        }
    }
}

/// In any order, of every kind of hook, some of one layer, for several labels. On a GPU they go back together, layer by layer: then their bits
/// follow from how many labels there are, and the numbers are those of a pass for each.
#[test]
fn gradients_at_several_hooks_at_once_are_those_of_each_alone() {
    let norm = |of: &[f32]| of.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
    for layout in MODELS {
        let tokens = tokens(layout);
        let others = tokens.mapv(|token| token / 2);
        let [(name, model), (_, by_layers)] = models(layout);
        let sites: Vec<Site> = hooks(&model).into_iter().rev().map(Site::from).collect();
        let at_all = |model: &Decoder, labels: &[ArrayView2<'_, u32>]| {
            let cuts = model.cut(tokens.view(), &sites).unwrap();
            loss_gradients(model, &cuts.iter().collect::<Vec<_>>(), labels)
        };
        let [one, other] = [&model, &by_layers].map(|model| at_all(model, &[tokens.view(), others.view()]));
        for (labels, (one, other)) in [&tokens, &others].into_iter().zip(one.into_iter().zip(other)) {
            let alone = at_all(&by_layers, &[labels.view()]).remove(0);
            assert_eq!([one.len(), other.len(), alone.len()], [sites.len(); 3]);
            for (at, &site) in sites.iter().enumerate() {
                let [one, other, alone] = [&one, &other, &alone].map(|of| values(of[at].clone()));
                let cut = by_layers.cut(tokens.view(), &[site]).unwrap().remove(0);
                assert_eq!(values(loss_gradient(&by_layers, &cut, labels.view())), alone, "{name}, {site}");
                let size = norm(&one);
                for found in [other, alone] {
                    let difference: Vec<f32> = found.iter().zip(&one).map(|(found, one)| found - one).collect();
                    let error = norm(&difference);
                    assert!(size > 0.0 && error <= 1e-5 * size, "{name}, {site}: {error:e} of {size:e}");
                }
            }
        }
    }
}

/// What MLPs read, against transformers, and in terms of the stream that they read it from.
#[test]
fn what_an_mlp_reads_agrees_with_transformers() {
    let expected = Reference::open(golden("mlp-inputs.safetensors"));
    let names = expected.names();
    let models: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix(".mlp_in")).collect();
    assert!(models.len() >= 20, "{models:?}");
    for name in models {
        let dir = if name.starts_with("neox") { golden(name) } else { golden("families").join(name) };
        let tokens = Reference::open(dir.join("expected.safetensors")).tokens("tokens");
        let first = tokens.slice(ndarray::s![..1, ..]);
        for model in [load(&dir), load(&dir).with_pinned_products()] {
            for kind in [HookKind::MlpIn, HookKind::MlpNormalized] {
                if site(kind).check(model.config()).is_err() {
                    assert!(kind == HookKind::MlpNormalized && name.starts_with("olmo2"), "{name}, {kind}");
                    continue;
                }
                let found = values(model.capture(first, &[site(kind)]).unwrap().remove(0));
                let reference = expected.floats(&format!("{name}.{}", kind.short_name())).0;
                assert_close(&format!("{name}, {kind}"), &found, &reference, 1e-5);
            }
        }
    }
}

/// The MLP of what it reads is what it adds: a change of its input without gain is one of its input times the gain.
#[test]
fn inputs_of_an_mlp_are_patched_alike() {
    for name in ["neox-parallel", "families/gpt2", "families/gemma3"] {
        let (tokens, model) = (tokens(name), load(&golden(name)));
        let kinds = [HookKind::MlpNormalized, HookKind::MlpIn, HookKind::MlpOut];
        let cuts = model.cut(tokens.view(), &kinds.map(site)).unwrap();
        let d_model = model.config().d_model;
        let wave: Vec<f32> = (0..d_model).map(|at| (at as f32 * 0.7).sin()).collect();
        let wave = Tensor::<1>::from_data(wave.as_slice(), &device()).unsqueeze::<3>();
        // The slope of mlp_in along mlp_normalized is the gain: what a pass shows where a wave is added before it.
        let mut input = None;
        let logits = model.forward_with(tokens.view(), |hook, value| match hook == cuts[0].site().hook {
            true => value + wave.clone(),
            false => {
                if hook == cuts[1].site().hook {
                    input = Some(value.clone());
                }
                value
            }
        });
        let logits = values(logits.unwrap());
        let patched = values(model.forward_from(&cuts[0], cuts[0].value() + wave.clone()));
        assert_close(&format!("{name}, before the gain"), &patched, &logits, 1e-6);
        let after = values(model.forward_from(&cuts[1], input.unwrap()));
        assert_close(&format!("{name}, after the gain"), &after, &logits, 1e-6);
        assert!(patched != values(model.forward(tokens.view()).unwrap()));
    }
}

/// What the heads mix without the values' biases is what they mix in a model whose values have none: the weights of a query add up to 1.
#[test]
fn the_values_biases_are_left_out_and_put_back() {
    for (name, bias) in [
        ("families/gpt2", "transformer.h.{}.attn.c_attn.bias"),
        ("families/qwen2-tied", "model.layers.{}.self_attn.v_proj.bias"),
    ] {
        let bias = bias.replace("{}", &LAYER.to_string());
        let (tokens, model) = (tokens(name), load(&golden(name)));
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("model");
        copy_dir(&golden(name), &copy);
        edit_tensors(&copy.join("model.safetensors"), |tensors| {
            let (dtype, _, bytes) = tensors.get_mut(&bias).unwrap();
            let from = if bias.contains("c_attn") { bytes.len() / 3 * 2 } else { 0 };
            assert!(*dtype == safetensors::Dtype::F32 && bytes[from..].iter().any(|byte| *byte != 0));
            bytes[from..].fill(0);
        });
        let z = site(HookKind::Z);
        let without = Site { without_value_bias: true, ..z };
        let expected = values(load(&copy).capture(tokens.view(), &[z]).unwrap().remove(0));
        let found = values(model.capture(tokens.view(), &[without]).unwrap().remove(0));
        assert_close(name, &found, &expected, 1e-5);
        assert!(found != values(model.capture(tokens.view(), &[z]).unwrap().remove(0)), "{name}");
        let logits = values(model.forward(tokens.view()).unwrap());
        let cut = model.cut(tokens.view(), &[without]).unwrap().remove(0);
        assert_close(name, &values(model.forward_from(&cut, cut.value())), &logits, 1e-5);
        // Zeros leave the biases, which then are all that W_O reads.
        let zeros = values(model.forward_from(&cut, cut.value().zeros_like()));
        assert!(
            zeros != values(model.forward_from(&model.cut(tokens.view(), &[z]).unwrap()[0], cut.value().zeros_like()))
        );
        let elsewhere = Site { without_value_bias: true, ..site(HookKind::AttnOut) };
        let error = model.capture(tokens.view(), &[elsewhere]).unwrap_err().to_string();
        assert!(error.contains("only attn.hook_z has them"), "{error}");
    }
}

#[test]
fn hooks_that_a_model_does_not_have_are_refused() {
    for (model, hook, part) in [
        ("neox-parallel", "blocks.1.hook_resid_mid", "parallel residual"),
        ("neox-parallel", "blocks.4.hook_mlp_out", "4 layers, 0 to 3"),
        ("families/olmo2", "blocks.1.ln2.hook_normalized", "take mlp.hook_in"),
    ] {
        let (tokens, model) = (tokens(model), load(&golden(model)));
        let hook: HookPoint = hook.parse().unwrap();
        for error in [
            model.capture(tokens.view(), &[hook.into()]).unwrap_err(),
            model.cut(tokens.view(), &[hook.into()]).unwrap_err(),
        ] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
