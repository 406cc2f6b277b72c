//! All integration tests, in one binary: one link step.
//!
//! - `common`: paths of fixtures, relative errors, safetensors in and out, small sweeps, the program.
//! - `parity_models`: the decoder against transformers.
//! - `parity_sae`: encode, decode and the training step against SAELens.
//! - `parity_classes`: the training step of every other class against SAELens.
//! - `parity_objectives`: end-to-end training against torch.
//! - `parity_eval`: a whole evaluation, the geometry and the metrics against numpy and torch in float64.
//! - `text`: text, JSON lines, parquet and safetensors as contexts.
//! - `training`: the step against autodiff; lockstep, resuming, saving and skipping change no bit.
//! - `training_classes`: the same of the classes that choose among a batch, or not at all.
//! - `saved`: what is saved of a training does on raw activations what was trained, and other tools load it.
//! - `slurm`: a sweep as jobs of a real Slurm on loopback, where it is installed.
//! - `steering`: a coefficient is steered to a target L0, and resumed.
//! - `information`: pairs of activations and logits' components, and estimates of their information.
//! - `evaluate`: codecs whose metrics are known.
//! - `eval_sites`: whole evaluations at hooks of a real model, and of a transcoder, against transformers in float64.
//! - `load`: many runs in one results directory.
//! - `promises`: what is promised is tested.
//! - `supply`: where dependencies come from, and where code is unsafe.
//! - `places`: where `assay eval` puts SAEs and transcoders, and what it refuses.
//! - `verdict`: what `assay eval` says of SAEs and texts of which that is known, and what it refuses.
//! - `formats`: SAEs of other tools, read, converted and refused.
//! - `releases`: SAEs and transcoders in the layouts of published releases, read, converted and refused.
//! - `disk`: full disks, flipped bits, and what a power cut leaves.
//! - `encode`: `assay encode` on activations from files of every kind.
//! - `sae_files`: SAEs as files: what a conversion replaces, keeps and claims; configurations as people and tools leave them.
//! - `gguf`: GGUF files against the Python package `gguf`, and tokenizers from them against real ones.
//! - `sweep`: sweeps that are run again, killed, threaded otherwise or reported anew give the same files and training curves.
//! - `sweep_classes`: sweeps over classes of SAE, resumed and refused.
//! - `sweep_loss_tokens`: sweeps over the tokens that SAEs are trained on.
//! - `sweep_objectives`: sweeps over objectives, resumed, alone and in company, and refused.
//! - `sweep_topology`: sweeps that audit clouds for loops, resumed and refused.
//! - `sweep_transcoders`: sweeps over transcoders beside SAEs, resumed and refused.
//! - `groups`: a sweep in parts, in processes of their own, gathered; hooks and architectures are kept apart.
//! - `hooks`: every kind of hook, captured, patched and differentiated.
//! - `interrupt`: sweeps that are interrupted save what they have, and end the same.
//! - `kills`: sweeps and passes of `assay features` that are killed at seeded moments end with the same files.
//! - `output`: nobody reads what is printed, or it can't be written.
//! - `page`: `report.html` in a browser, where there is one.
//! - `reference`: published numbers hold together, and what is compared with them is what was measured.
//! - `hub`: models, SAEs and datasets by name, from a hub on loopback: cache, resumption, tokens, offline mode, errors.
//! - `inputs`: padded, oddly named, damaged and foreign files, as people have them.
//! - `bad_input`: what is broken is named, with the remedy.
//! - `committed`: the results in the repository: ids follow from what they say of themselves, specs run again.
//! - `catalogue`: published SAEs, listed and fetched by their names, and what is assumed of them.
//! - `capture`: activations as shards, resumed and refused.
//! - `probe`: probes of labels against scikit-learn and sae-probes, code lengths against numpy, and the program.
//! - `absorption`: first letters of words against SAEBench's own functions, and the program.
//! - `controls`: controls of an evaluation: what each leaves and takes away.
//! - `bos`: contexts that begin with BOS, by the tokenizer, the spec or the command line.
//! - `topology`: bars of clouds from files, against GUDHI, and nulls.
//! - `utility`: what the topology of neighbourhoods adds to their geometry, of files.
//! - `circles`: classes with an order in a model's activations, and clouds of them.
//! - `kernel_cache`: compiled GPU kernels in files: whole or not at all.
//! - `several`: several SAEs in one evaluation.
//! - `transcoders`: those whose metrics are known: the MLP itself, zeros, and what does not fit.
//! - `widths`: activations that are not d_model wide.
//! - `fuzz`: files that are damaged at random: specs, configurations, tokens, tokenizers.
//! - `failures`: SAEs whose training comes to nothing, and the rest of their sweep.
//! - `features`: firings, scores, table and terminal of `assay features` and `assay latents`.
//! - `devices`: a sweep on several devices, in worker processes that may die.
//! - `dashboard`: its page, in Chromium.
//! - `documents`: links, commands and Python of the README and the guides.
//! - `first`: `assay demo`, `train` and `new`.
//! - `cli`: help and tables as they are printed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod absorption;
mod bad_input;
mod bos;
mod capture;
mod catalogue;
mod circles;
mod cli;
mod committed;
mod common;
mod controls;
mod dashboard;
mod devices;
mod disk;
mod documents;
mod encode;
mod eval_sites;
mod evaluate;
mod failures;
mod families;
mod features;
mod first;
mod formats;
mod fuzz;
mod gguf;
mod groups;
mod hooks;
mod hub;
mod information;
mod inputs;
mod interrupt;
mod judge;
mod kernel_cache;
mod kills;
mod load;
mod mistakes;
mod output;
mod page;
mod parity_classes;
mod parity_eval;
mod parity_models;
mod parity_objectives;
mod parity_sae;
mod places;
mod probe;
mod promises;
mod real_models;
mod reference;
mod releases;
mod sae_files;
mod saved;
mod several;
mod slurm;
mod steering;
mod supply;
mod sweep;
mod sweep_classes;
mod sweep_controls;
mod sweep_legibility;
mod sweep_loss_tokens;
mod sweep_objectives;
mod sweep_topology;
mod sweep_transcoders;
mod text;
mod topology;
mod training;
mod training_classes;
mod transcoders;
mod utility;
mod verdict;
mod widths;
