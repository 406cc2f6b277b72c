//! Sweeps whose runs are made up and not trained, for tests: in the place of the runner stands what writes the records that it would leave.
//!
//! All else is what a sweep has: two models of a few layers, read from their files, tokens, a plan of them, and a results directory.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use assay_probes::geometry::ModelGeometry;
use assay_probes::metrics::Sums;
use tempfile::TempDir;

use super::left::Left;
use crate::analysis::made::{Made, noise};
use crate::device;
use crate::fetch;
use crate::plan::{Group, Outline, Plan, Run};
use crate::progress::Progress;
use crate::record::{Failure, GeometryKey, GeometryRecord, RunRecord, Timing};
use crate::results_dir::{ResultsDir, state_dir};
use crate::spec::{SpecDocument, SweepSpec};

/// Held-out sequences, and tokens of each.
const SEQUENCES: [usize; 2] = [4, 8];

const SPEC: &str = "name = 'made'\nk = [2, 4]\nseeds = [0, 1]\ntraining_tokens = [128, 64]\ndepths = ['early', 'mid']\n\
    controls = ['random-model', 'permuted-decoder']\n\
    [tokens]\ntrain = 'tokens.jsonl'\ncontext_size = 8\n[train]\nexpansion = 2\nbatch_size = 32\nsave_saes = false\n";

/// A sweep and a directory to work in.
pub struct MadeSweep {
    dir: TempDir,
    pub spec: SweepSpec,
    pub plan: Plan,
    document: SpecDocument,
}

impl MadeSweep {
    /// Two models `a` and `b` with a random model each, two budgets, and in each group two depths, seeds and k, and a control of each; but for
    /// what is overridden.
    pub fn new(overrides: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut tokens = String::new();
        for row in 0..40_u64 {
            let ids: Vec<u64> = (0..8).map(|at| (1e4 * noise(&[row, at]).abs()) as u64 % 160).collect();
            writeln!(tokens, "{{\"tokens\": {ids:?}}}").unwrap();
        }
        std::fs::write(dir.path().join("tokens.jsonl"), tokens).unwrap();
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/families");
        let [sequences, context_size] = SEQUENCES;
        let mut text =
            format!("{SPEC}[eval]\nsequences = {sequences}\ncontext_size = {context_size}\nresamples = 100\n");
        for (name, of) in [("a", "gpt2"), ("b", "qwen3")] {
            writeln!(text, "[[models]]\nname = '{name}'\npath = '{}'", models.join(of).display()).unwrap();
        }
        let overrides: Vec<String> = overrides.iter().map(|&set| set.to_owned()).collect();
        let document = SpecDocument::of(&dir.path().join("made.toml"), &text, &overrides).unwrap();
        let spec = document.spec().unwrap();
        let sources = fetch::sources(&spec, Progress::Quiet).unwrap();
        let plan = Plan::open(&spec, &sources, &device::open("cpu").unwrap(), Progress::Quiet).unwrap();
        Self { dir, spec, plan, document }
    }

    /// A results directory with the plan and the spec as it is run.
    pub fn results(&self, name: &str) -> PathBuf {
        let results = self.dir.path().join(name);
        // As a sweep does first, which marks the directory as one of its own.
        drop(ResultsDir::claim(&results).unwrap());
        std::fs::create_dir_all(results.join("runs")).unwrap();
        let recorded = self.document.recorded(&results, &[]).unwrap();
        std::fs::write(results.join("sweep.toml"), &recorded).unwrap();
        self.outline(&recorded).write(&results).unwrap();
        results
    }

    pub fn outline(&self, recorded: &str) -> Outline {
        Outline::of(&self.spec, recorded, &self.plan)
    }

    pub fn group(&self, name: &str) -> &Group {
        self.plan.groups().map(|(_, group)| group).find(|group| group.name() == name).expect("a group of that name")
    }

    /// The parts of a group at each of its sites.
    pub fn parts(&self, name: &str) -> Vec<Group> {
        let group = self.group(name);
        group.sites().into_iter().map(|site| group.part(&[site])).collect()
    }

    /// Does what is left of a group, as the runner would; gives the runs that it did.
    pub fn carry_out<'a>(&'a self, group: &'a Group, results: &Path) -> Vec<&'a Run> {
        let missing = Left::of(group, results).unwrap().missing;
        missing.iter().for_each(|run| self.finish(group, run, results));
        let (model, _) = self.plan.group(&group.name()).unwrap();
        if model.is_first(group) {
            let found = ModelGeometry { ce_orig: 3.0, layers: Vec::new() };
            let key = GeometryKey::of(&group.runs[0].key);
            GeometryRecord { key, passes_halved: 0, found }.save(results).unwrap();
        }
        missing
    }

    /// Records a run, with numbers that are its own.
    pub fn finish(&self, group: &Group, run: &Run, results: &Path) {
        let [sequences, context_size] = SEQUENCES;
        let number = u64::from_str_radix(&run.id[..8], 16).unwrap();
        let sums = |at: usize| {
            let wobble = 0.01 * noise(&[number, at as u64]);
            Made::new(0.8 + wobble, 0.9 + wobble).sums().map(|sums| sums.values())
        };
        let record = RunRecord {
            id: run.id.clone(),
            key: run.key.clone(),
            model: group.model.clone(),
            depth: run.depth.clone(),
            layer: run.site.hook.layer,
            n_layers: self.plan.models[0].files.config().n_layers(),
            recipe: self.spec.train.recipe.to_string(),
            final_loss: 0.1,
            n_dead: 0,
            curve: vec![(0, 1.0), (1, 0.1)],
            kl_curve: Vec::new(),
            passes_halved: 0,
            pr: [Some(2.0); 5],
            legibility: None,
            fires: vec![1; run.key.train.d_sae],
            eval_token_count: (sequences * context_size) as u64,
            by_norm: Vec::new(),
            sums: Sums::FIELDS.iter().map(|&name| name.to_owned()).collect(),
            sequences: (0..sequences).map(sums).collect(),
        };
        let timing = Timing {
            id: run.id.clone(),
            train_seconds: 1.0,
            capture_seconds: 1.0,
            eval_seconds: 1.0,
            tokens_per_second: 64.0,
            threads: 1,
            device: "cpu".to_owned(),
            finished_at: 0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            record: None,
        };
        record.save(results, timing).unwrap();
    }

    /// Leaves a state as of one who was stopped: of a group, or of its part at some places of its sites. Gives its directory.
    pub fn begin(&self, group: &str, places: &[usize], results: &Path) -> PathBuf {
        let group = self.group(group);
        let sites: Vec<String> = places.iter().map(|&at| group.sites()[at].clone()).collect();
        let id = if sites.is_empty() { group.id() } else { group.part(&sites).id() };
        let state = state_dir(results, &id);
        std::fs::create_dir_all(&state).unwrap();
        let text = serde_json::json!({ "rounds": 1, "tokens": 32, "sites": sites, "losses": {} });
        std::fs::write(state.join("group.json"), text.to_string()).unwrap();
        state
    }

    /// Records that a run came to nothing.
    pub fn fail(&self, group: &Group, run: &Run, results: &Path) {
        let failure = Failure {
            id: run.id.clone(),
            key: run.key.clone(),
            model: group.model.clone(),
            depth: run.depth.clone(),
            step: 1,
            since: 1,
            reason: "the loss is NaN".to_owned(),
            kept: None,
        };
        failure.save(results).unwrap();
    }
}
