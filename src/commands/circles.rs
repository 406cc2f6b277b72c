//! `assay circles`: do classes with an order, as the days of a week, lie on a circle?

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::mpsc::Sender;

use anyhow::{Context as _, Result, ensure};
use assay_models::vocabulary::Vocabulary;
use assay_models::{Decoder, HookPoint, LoadedWeights, ModelFiles, Site};
use assay_probes::topology::{Statistic, Turning, class_means};
use serde::Serialize;

use super::contexts::whole;
use super::labelled::LabelledArgs;
use crate::circles::{Case, Measured, Settings, Turned, figure, turned};
use crate::files::{check_writable, write_atomic};
use crate::interrupt::{self, Interrupted};
use crate::markdown::Table;
use crate::probe::{Pooling, Reading};
use crate::progress::Progress;
use crate::{device, fetch, output};

/// Do classes that have an order, such as the days of a week, lie on a circle in a model's activations?
///
/// Reads the activation at the last token of each text. Asks four questions of the model, and of the same model with its matrices drawn
/// anew: do the means of the classes lie around a circle in their order (the share of their variance in the first Fourier harmonic,
/// against all other orders); are the planes of the principal components more than two features, or a mixture (Engels et al. 2024); do
/// the texts have more of a loop than clouds without one, and does its coordinate follow the order; and does the class that the model
/// names next turn when the activation is turned?
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  assay circles --model models/bundled/small --hook blocks.3.hook_resid_post --case weekdays\n  assay circles --model models/bundled/small --hook blocks.3.hook_resid_post --data seasons.jsonl \\\n    --order spring,summer,autumn,winter --then \". After that comes\" --json"
)]
pub struct CirclesArgs {
    /// Model: a Hugging Face checkpoint directory, a GGUF file, or its name on the hub, org/name[@revision][:FILE.gguf]
    #[arg(long, value_name = "DIR|FILE|NAME")]
    model: PathBuf,
    /// Where activations are read and turned, by TransformerLens' name
    #[arg(long, value_name = "NAME")]
    hook: HookPoint,
    #[command(flatten)]
    texts: LabelledArgs,
    /// The labels of --data in their order around the circle, separated by commas
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', requires = "data", required_unless_present = "case")]
    order: Vec<String>,
    /// Text appended to each text, so that the model names the next class
    #[arg(long, value_name = "TEXT", requires = "data")]
    then: Option<String>,
    /// Skip the test that turns activations, which takes most of the time
    #[arg(long)]
    without_turns: bool,
    /// Draws of each null, and of orders of ten classes or more
    #[arg(long, value_name = "B", default_value_t = 199, value_parser = whole(19, 1_000_000, "no p would reach 0.05"))]
    draws: u64,
    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Also draw the classes, in the plane of their means and along the longest loop, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Serialize)]
struct CirclesReport {
    model: String,
    hook: String,
    case: String,
    classes: Vec<String>,
    texts: usize,
    draws: usize,
    seed: u64,
    of_model: CirclesOfModel,
    /// The same of the model with its matrices drawn anew.
    of_random_model: CirclesOfModel,
}

#[derive(Serialize)]
struct CirclesOfModel {
    measured: Measured,
    turned: Option<Turned>,
}

impl CirclesArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If the model or the texts can't be read, the order does not name their labels, or there are fewer than four.
    pub fn run(&self, device_name: &str, progress: Progress) -> Result<()> {
        let case = self.case()?;
        ensure!(
            case.classes.len() >= 4,
            "{} classes have one order about a circle; four are needed",
            case.classes.len()
        );
        if let Some(plot) = &self.plot {
            check_writable(plot)?;
        }
        let device = device::open(device_name)?.device;
        let checkpoint = fetch::model(&self.model, progress)?;
        let files = ModelFiles::open(&checkpoint)?;
        let site = Site::from(self.hook);
        site.check(files.config())?;
        let vocabulary = Vocabulary::load(&checkpoint)?;
        interrupt::listen()?;
        let of = |model: &Decoder, name: &str| self.of(model, &vocabulary, &case, name, progress);
        let found = CirclesReport {
            model: self.model.display().to_string(),
            hook: self.hook.to_string(),
            case: case.name.clone(),
            classes: case.classes.clone(),
            texts: case.texts.len(),
            draws: self.draws as usize,
            seed: self.seed,
            of_model: of(&files.load(&device)?, "model")?,
            of_random_model: of(&files.load_with(LoadedWeights::Redrawn(self.seed), &device)?, "random model")?,
        };
        if let Some(plot) = &self.plot {
            let columns = [("model", &found.of_model.measured), ("random model", &found.of_random_model.measured)];
            let name = self.model.file_name().unwrap_or(self.model.as_os_str()).to_string_lossy();
            let figure = figure(&case, format!("{} of {name} at {}", case.name, self.hook), &columns);
            write_atomic(plot, figure.svg()?.as_bytes())?;
        }
        output::result_line(if self.json { serde_json::to_string_pretty(&found)? } else { found.text() })
    }

    fn case(&self) -> Result<Case> {
        if let Some(case) = self.texts.case()? {
            return Ok(case);
        }
        let texts = self.texts.file()?.context("give --case or --data")?;
        Case::ordered(texts, &self.order, self.then.clone())
    }

    fn of(
        &self,
        model: &Decoder,
        vocabulary: &Vocabulary,
        case: &Case,
        name: &str,
        progress: Progress,
    ) -> Result<CirclesOfModel> {
        let (site, classes) = (Site::from(self.hook), case.classes.len());
        let reading = Reading { model, vocabulary, context: model.config().max_positions, pooling: Pooling::Last };
        let tokens = case.texts.iter().map(|text| reading.tokens(text)).collect::<Result<Vec<_>>>()?;
        let mut stage = progress.stage(format!("read, {name}"), tokens.len() as u64, "texts");
        let activations = reading.last(&tokens, site, |n| stage.advance(n, String::new))?;
        stage.finish("");
        let settings = Settings { draws: self.draws as usize, seed: self.seed };
        let mut stage = progress.stage(format!("loops, {name}"), 2 * self.draws, "draws");
        let (points, labels) = (activations.clone(), case.labels.clone());
        let work = move |said: &Sender<usize>| {
            let tick = |made| said.send(made).context("nobody waits for the rest");
            Measured::of(points.view(), &labels, classes, &settings, tick)
        };
        let measured = interrupt::unless_requested(work, |made| stage.advance(made as u64, String::new))?;
        let measured = measured.ok_or_else(Interrupted::with_nothing_written)??;
        stage.finish("");
        if self.without_turns {
            return Ok(CirclesOfModel { measured, turned: None });
        }
        let means = class_means(activations.view(), &case.labels, classes)?;
        let (ordered, random) = (Turning::of_order(means.view())?, Turning::random(means.view(), self.seed)?);
        let mut stage = progress.stage(format!("turn, {name}"), tokens.len() as u64, "texts");
        let turned = turned(&reading, case, site, [&ordered, &random], |done| {
            stage.advance(done, String::new);
            go_on()
        })?;
        stage.finish("");
        Ok(CirclesOfModel { measured, turned })
    }
}

fn go_on() -> Result<()> {
    if interrupt::requested() { Err(Interrupted::with_nothing_written().into()) } else { Ok(()) }
}

impl CirclesReport {
    fn text(&self) -> String {
        let mut text = format!(
            "# {} of {} at {}\n\n{} texts of {} classes, in the order {}.\n\n",
            self.case,
            self.model,
            self.hook,
            self.texts,
            self.classes.len(),
            self.classes.join(", ")
        );
        let mut table = Table::new(["", "model", "random model"]);
        let both = |of: &dyn Fn(&CirclesOfModel) -> String| [of(&self.of_model), of(&self.of_random_model)];
        let mut row = |what: &str, of: &dyn Fn(&CirclesOfModel) -> String| {
            let [model, random] = both(of);
            table.row([what.to_owned(), model, random]);
        };
        row("variance of the means in the order's first harmonic", &|of| number(of.measured.order.share));
        row("by chance", &|of| number(of.measured.order.chance));
        row("p, of other orders", &|of| format!("{} ({})", number(of.measured.order.p), of.measured.order.orders));
        row("separability of planes, bits", &|of| planes(of, |plane| plane.separability));
        row("mixture of planes", &|of| planes(of, |plane| plane.mixture));
        for null in &self.of_model.measured.audit.nulls {
            let name = null.null.to_string();
            row(&format!("p of a loop (pi), against {name}"), &|of| {
                let tests = of.measured.audit.nulls.iter().find(|of| of.null == null.null).map(|of| &of.tests);
                let test = tests.and_then(|tests| tests.iter().find(|test| test.statistic == Statistic::Pi));
                shown(test.map(|test| test.p))
            });
        }
        row("|correlation| of the loop's coordinate with the order", &|of| {
            shown(of.measured.circle.as_ref().and_then(|circle| circle.correlation))
        });
        row("p of that correlation, of other orders", &|of| {
            shown(of.measured.circle.as_ref().and_then(|circle| circle.p))
        });
        let turned = |of: &CirclesOfModel, share: fn(&Turned) -> f64| shown(of.turned.as_ref().map(share));
        row("texts behind which the next class is named", &|of| turned(of, |t| t.named_next));
        row("turns that the named class follows", &|of| turned(of, |t| t.followed));
        row("the same, turned in a random plane", &|of| turned(of, |t| t.followed_random));
        row("by chance", &|of| turned(of, |t| t.chance));
        let _ = write!(text, "{table}");
        text.push_str(
            "\nNot claimed: that the classes are a circle because a loop is there, or that a loop is what the model computes with. Only turns that the \
             named class follows, and those of a random plane do not, say that the model reads the plane.\n",
        );
        text.trim_end().to_owned()
    }
}

fn planes(of: &CirclesOfModel, value: fn(&assay_probes::topology::Plane) -> f64) -> String {
    of.measured.planes.iter().map(|plane| number(value(plane))).collect::<Vec<_>>().join(", ")
}

fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), number)
}

fn number(value: f64) -> String {
    format!("{value:.3}")
}
