//! Published numbers: that the file holds together, and that what is compared with it is what was measured.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use assay::analysis::{Analysis, on_all};
use assay::compare::published::{End, Published, selected};
use assay::frames;
use assay::frames::{Setting, Site};
use serde_json::Value;

use crate::common::{assay, bundled, refused, root, stdout_of, sweep, write_spec};

fn csv() -> PathBuf {
    root().join("results/reference/proxy-gap.csv")
}

fn numbers() -> Vec<Published> {
    selected("all").unwrap()
}

/// `assay compare RESULTS --reference REFERENCE --json`.
fn compared(results: &Path, reference: &str) -> Vec<Value> {
    let output = stdout_of(assay().arg("compare").arg(results).args(["--json", "--reference", reference]));
    serde_json::from_str(&output).unwrap()
}

/// A copy of the file with some lines' text changed: line number, what is there, what is to be.
fn perturbed(dir: &Path, changes: &[(usize, &str, &str)]) -> PathBuf {
    let text = std::fs::read_to_string(csv()).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (line, from, to) in changes {
        let line = &mut lines[line - 1];
        assert!(line.contains(from), "{line} has no {from}");
        *line = line.replacen(from, to, 1);
    }
    let path = dir.join("perturbed.csv");
    std::fs::write(&path, lines.join("\n")).unwrap();
    path
}

/// Line of the file of the first number that fits.
fn line_of(fits: impl Fn(&Published) -> bool) -> usize {
    numbers().iter().position(fits).unwrap() + 2
}

// ---- The file ----

#[test]
fn every_number_of_the_texts_is_there_once() {
    let numbers = numbers();
    let mut by_table: BTreeMap<&str, usize> = BTreeMap::new();
    for number in &numbers {
        *by_table.entry(&number.table).or_default() += 1;
    }
    let expected = [
        ("budget-k32", 12),
        ("budget-k8", 10),
        ("correlations", 6),
        ("delta-by-k", 12),
        ("headline", 10),
        ("k-star", 12),
        ("phase2", 13),
        ("pr", 10),
        ("prose", 44),
        ("sst-inflation", 10),
        ("three-model", 72),
        ("three-model-proxies", 12),
    ];
    assert_eq!(by_table.into_iter().collect::<Vec<_>>(), expected);
    assert_eq!(numbers.len() - 44, 179);
    let cells: Vec<_> = numbers.iter().map(|n| (n.cell(), &n.quantity, n.end.name())).collect();
    for (at, cell) in cells.iter().enumerate() {
        assert!(!cells[..at].contains(cell), "{cell:?} is there twice");
    }
}

#[test]
fn printed_text_is_the_value() {
    let mut checked = 0;
    for number in numbers() {
        let Some(printed) = number.printed() else {
            // A claim in words: yes, no, a sign, or a bound.
            assert!(number.table == "prose" && ([-1.0, 0.0, 1.0].contains(&number.value) || number.is_bound()));
            continue;
        };
        let bare = number.text.trim_end_matches(['%', 'x']).parse::<f64>().unwrap();
        let shown = if printed.percent { bare / 100.0 } else { bare };
        assert!((shown - number.value).abs() < 1e-12, "{}", number.cell());
        checked += 1;
    }
    assert!(checked >= 179);
}

/// What the printed number may have been: from, to.
fn range(number: &Published) -> [f64; 2] {
    let half = number.printed().unwrap().half_unit();
    [number.value - half, number.value + half]
}

/// Everything that a function of two numbers can come to, if it is monotone in each.
fn span(a: [f64; 2], b: [f64; 2], of: impl Fn(f64, f64) -> f64) -> [f64; 2] {
    let ends = [of(a[0], b[0]), of(a[0], b[1]), of(a[1], b[0]), of(a[1], b[1])];
    [ends.into_iter().fold(f64::INFINITY, f64::min), ends.into_iter().fold(f64::NEG_INFINITY, f64::max)]
}

#[track_caller]
fn assert_meet(cell: &str, a: [f64; 2], b: [f64; 2]) {
    assert!(a[0] <= b[1] + 1e-12 && b[0] <= a[1] + 1e-12, "{cell}: {a:?} and {b:?}");
}

/// The value of that quantity in the same row of the same table.
fn beside<'a>(numbers: &'a [Published], number: &Published, quantity: &str) -> &'a Published {
    let same = |n: &&Published| {
        (&n.experiment, &n.table, &n.row, &n.quantity[..], n.end)
            == (&number.experiment, &number.table, &number.row, quantity, End::Value)
    };
    numbers.iter().find(same).unwrap()
}

fn d_model(model: &str) -> f64 {
    [("pythia-70m", 512.0), ("pythia-160m", 768.0), ("pythia-410m", 1024.0)]
        .iter()
        .find(|(m, _)| *m == model)
        .unwrap()
        .1
}

#[test]
fn identities_hold_within_the_rounding() {
    let numbers = numbers();
    let mut checked: BTreeMap<&str, usize> = BTreeMap::new();
    for number in &numbers {
        let exact = |v: f64| [v, v];
        let expected = match number.quantity.as_str() {
            "loss_ratio" => span(range(beside(&numbers, number, "ce_rec")), exact(2.0), |c, two| two - c),
            "sse_per_token" => {
                span(range(beside(&numbers, number, "mse_mean")), exact(d_model(&number.model)), |m, d| m * d)
            }
            "sst_per_token" => {
                let of = |name| range(beside(&numbers, number, name));
                span(of("sse_per_token"), of("r2"), |sse, r2| sse / (1.0 - r2))
            }
            "pr_over_d_model" => {
                span(range(beside(&numbers, number, "pr")), exact(d_model(&number.model)), |p, d| p / d)
            }
            "k_star_ratio_0.85" | "k_star_ratio_0.90" => {
                let name = number.quantity.replace("ratio_", "");
                let of = |model: &str| {
                    let same = |n: &&Published| n.quantity == name && n.model == model && n.depth == number.depth;
                    range(numbers.iter().find(same).unwrap())
                };
                span(of("pythia-410m"), of("pythia-70m"), |large, small| large / small)
            }
            "sst_ratio" => {
                let of = |model: &str| {
                    range(numbers.iter().find(|n| n.quantity == "sst_per_token" && n.model == model).unwrap())
                };
                span(of("pythia-410m"), of("pythia-70m"), |large, small| large / small)
            }
            _ => continue,
        };
        assert_meet(&number.cell(), range(number), expected);
        let name = if number.quantity.starts_with("k_star_ratio") { "k_star_ratio" } else { &number.quantity };
        *checked.entry(name).or_default() += 1;
    }
    let expected = [
        ("k_star_ratio", 4),
        ("loss_ratio", 6),
        ("pr_over_d_model", 5),
        ("sse_per_token", 2),
        ("sst_per_token", 2),
        ("sst_ratio", 1),
    ];
    assert_eq!(checked.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn every_published_interval_holds_its_value() {
    let numbers = numbers();
    let intervals: Vec<_> = numbers.iter().filter_map(|n| Some((n, n.interval(&numbers)?))).collect();
    let ends = numbers.iter().filter(|n| n.end != End::Value && !n.is_bound()).count();
    assert_eq!(2 * intervals.len(), ends, "every end belongs to a value");
    assert!(intervals.iter().all(|(n, i)| i.contains(n.value)));
}

// ---- Stand-ins ----

#[test]
fn models_that_stand_for_published_ones_have_counterparts() {
    let example = root().join("results/example");
    let run = |args: &[&str]| stdout_of(assay().arg("compare").arg(&example).args(["--reference", "fast2"]).args(args));
    let without = run(&[]);
    assert!(
        without.contains("None of the ")
            && without.contains("model pythia-70m is not there (")
            && without.contains("`--all`")
    );
    assert!(
        without.contains("The models of these results are small, medium;") && without.contains("`--map small=pythia-")
    );
    let map = ["--map", "small=pythia-70m", "--map", "medium=pythia-410m"];
    let with = run(&map);
    assert!(!with.contains("`--map"));
    // At mid, k 8: the stand-in's layer is 3 like Pythia's, of the larger model it is not.
    let row = |row: &str, column: &str| {
        let found = with.lines().find(|line| line.contains(row) && line.contains(column));
        found.unwrap_or_else(|| panic!("{row}, {column}: {with}")).to_owned()
    };
    assert!(row("| 70M ", "| R² ").contains("0.569"), "{}", row("| 70M ", "| R² "));
    assert!(row("| 410M ", "| R² ").contains("0.4597"), "{}", row("| 410M ", "| R² "));
    assert!(with.lines().count() < run(&[&map[..], &["--all"]].concat()).lines().count());
    let wrong = |args: &[&str], parts: &[&str]| {
        refused(assay().arg("compare").arg(&example).args(["--reference", "fast2"]).args(args), parts);
    };
    wrong(&["--map", "tiny=pythia-70m"], &["--map", "tiny", "small, medium"]);
    wrong(&["--map", "small=pythia-7b"], &["--map", "pythia-7b", "pythia-70m"]);
    wrong(&["--map", "small=pythia-70m", "--map", "medium=pythia-70m"], &["two models stand for pythia-70m"]);
    let usage = assay().arg("compare").arg(&example).args(["--map", "small"]).output().unwrap();
    assert!(usage.status.code() == Some(2) && String::from_utf8_lossy(&usage.stderr).contains("OURS=PUBLISHED"));
    refused(assay().arg("compare").arg(csv()).args(["--map", "small=pythia-70m"]), &["--map", "is a file"]);
}

// ---- Published numbers with published numbers ----

#[test]
fn the_file_compared_with_itself_differs_nowhere() {
    let rows = compared(&csv(), "all");
    assert_eq!(rows.len(), 224 - 1);
    for row in &rows {
        assert_eq!(row["difference"], 0.0, "{row}");
        assert_eq!(row["equal_within_rounding"], true, "{row}");
        assert_eq!((&row["missing"], &row["reason"]), (&Value::Null, &Value::Null));
    }
    let text = stdout_of(assay().arg("compare").arg(csv()).args(["--check", "0"]));
    assert!(text.contains("223 of 223 published numbers have a counterpart"), "{text}");
    assert!(
        text.contains("223 are equal within the published rounding. 18 have an interval on both sides: 18 overlap."),
        "{text}"
    );
    assert!(!text.contains("Without a counterpart"));
    // A bar in a cell does not end it.
    assert!(text.contains("| \\|ΔCE_rec\\| (bound) "));
    let columns = |line: &str| line.replace("\\|", "").matches('|').count();
    assert!(text.lines().filter(|l| l.starts_with('|')).all(|l| columns(l) == 9));
}

#[test]
fn a_perturbed_copy_differs_in_the_cells_that_were_changed() {
    let dir = tempfile::tempdir().unwrap();
    let r2 = line_of(|n| n.table == "sst-inflation" && n.row == "410M" && n.quantity == "r2");
    let alive = line_of(|n| n.table == "budget-k32" && n.row == "70M (100M)" && n.quantity == "alive_frac");
    let low = line_of(|n| n.table == "phase2" && n.row == "10M" && n.end == End::Low);
    let bound = line_of(|n| n.is_bound() && n.row == "k=64");
    let copy = perturbed(
        dir.path(),
        &[
            (r2, ",0.961,", ",0.931,"),
            (alive, ",0.947,", ",0.9473,"),
            (low, ",-0.117,", ",-0.127,"),
            (bound, ",0.04,", ",0.03,"),
        ],
    );
    let differing: Vec<(usize, f64)> = compared(&copy, "all")
        .iter()
        .enumerate()
        .filter_map(|(at, row)| Some((at + 2, row["difference"].as_f64()?)).filter(|(_, d)| *d != 0.0))
        .collect();
    let mut expected = [(r2, -0.03), (alive, 0.0003), (low, -0.01), (bound, -0.01)];
    expected.sort_by_key(|(line, _)| *line);
    assert_eq!(differing.len(), 4);
    for ((line, difference), (expected_line, expected)) in differing.iter().zip(expected) {
        assert_eq!(*line, expected_line);
        assert!((difference - expected).abs() < 1e-12);
    }

    // 0.0003 is within the rounding of 94.7 %, and within the tolerance.
    let check = |tolerance: &str| {
        assay().arg("compare").arg(&copy).args(["--reference", "all", "--check", tolerance]).output().unwrap()
    };
    let output = check("0.001");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("220 are equal within the published rounding"), "{text}");
    let message = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = message.lines().collect();
    assert!(lines[0].starts_with("error: 3 of 223 numbers") && lines[0].contains("0.001"), "{message}");
    assert_eq!(
        lines[1..],
        [
            "  fast2 sst-inflation, 410M, R²: published 0.961, ours 0.9310",
            "  phase2 phase2, 10M, 95% CI (low): published -0.117, ours -0.1270",
            "  fast2 prose, k=64, |ΔCE_rec| (bound): published drops below 0.04, ours 0.03000",
        ]
    );
    assert!(check("0.1").status.success());
}

#[test]
fn what_one_file_lacks_is_said_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(csv()).unwrap();
    let fast2: Vec<&str> = text.lines().filter(|l| l.starts_with("experiment,") || l.starts_with("fast2,")).collect();
    let path = dir.path().join("fast2.csv");
    std::fs::write(&path, fast2.join("\r\n")).unwrap();
    let rows = compared(&path, "all");
    for row in &rows {
        let of = |key: &str| row[key].as_str().unwrap_or_default();
        if of("experiment") == "fast2" {
            assert_eq!(row["difference"], 0.0, "{row}");
        } else if of("model").contains("160m") {
            assert_eq!(of("missing"), "model", "{row}");
        }
    }
    // What two experiments measure is compared across them: 0.807 in Fast2, 0.810 in Fast3.
    let r2 = rows.iter().find(|r| r["experiment"] == "fast3" && r["quantity"] == "r2").unwrap();
    assert_eq!((r2["published"].as_f64(), r2["ours"].as_f64()), (Some(0.810), Some(0.807)));
}

#[test]
fn a_damaged_file_is_refused_with_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    let broken = |change: (usize, &str, &str), parts: &[&str]| {
        let path = perturbed(dir.path(), &[change]);
        refused(assay().arg("compare").arg(&path), &[&["perturbed.csv"], parts].concat());
        refused(assay().arg("compare").arg(csv()).arg("--reference").arg(&path), parts);
    };
    broken((2, ",0.807,", ",0.8o7,"), &["line 2, column 13 (value)", "\"0.8o7\" is no finite number"]);
    broken((3, ",8,", ",eight,"), &["line 3, column 8 (k)", "\"eight\" is no whole number"]);
    broken((4, ",low,", ",lower,"), &["line 4, column 12 (end)", "\"lower\" is neither value, low nor high"]);
    broken((5, "fast2,", "fast2"), &["line 5, column 15 (source)", "14 fields, the header 15"]);
    broken((31, "\"part 1", "\"part\" 1"), &["line 31, column 15 (source)", "a quotation mark stands inside it"]);
    broken((224, "3x,", "\"3x,"), &["line 224, column 14 (text)", "its quotation mark is not closed"]);
    broken((1, "quantity", "metric"), &["line 1, column 11 (quantity)", "the header has metric"]);
    refused(assay().args(["compare", "no-such-directory"]), &["no-such-directory", "runs.parquet", "assay sweep"]);
    refused(
        assay().arg("compare").arg(csv()).args(["--reference", "fast4"]),
        &["--reference fast4", "fast2, fast3, geometry, phase2"],
    );
    let mistake = assay().arg("compare").arg(csv()).args(["--check", "-1"]).output().unwrap();
    assert_eq!(mistake.status.code(), Some(2));
}

// ---- A results directory with published numbers ----

/// A sweep of the published cells k = 8 and 16 at mid depth, with stand-ins under the published models' names: small, with two
/// seeds and few tokens.
fn results() -> &'static Path {
    static DONE: OnceLock<PathBuf> = OnceLock::new();
    DONE.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compared");
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let second = format!(
            "layers = {{ mid = 3 }}\n\n[[models]]\nname = \"pythia-410m\"\npath = '{}'\nlayers = {{ mid = 4 }}",
            bundled("medium").display()
        );
        let spec = write_spec(
            &dir,
            &[
                ("k = [2, 4]", "k = [8, 16]\nseeds = [0, 1]"),
                ("\"small\"", "\"pythia-70m\""),
                ("layers = { mid = 3 }", &second),
                ("[20480]", "[4992]"),
            ],
        );
        let out = dir.join("out");
        stdout_of(&mut sweep(&spec, &out));
        out
    })
}

/// The published numbers as if they had been measured with the tiny sweep's budget, at its layer and its k.
fn scaled(dir: &Path) -> String {
    let text = std::fs::read_to_string(csv()).unwrap();
    let text = text
        // 4,992 is within 1 % of 5,000.
        .replace(",10000000,", ",5000,")
        .replace(",100000000,3,delta_ratio", ",5000,3,delta_ratio")
        .replace("pythia-410m,mid,12,", "pythia-410m,mid,4,")
        // Quantities that are published of other pairs and other k.
        .replace("pythia-160m − pythia-70m", "pythia-410m − pythia-70m")
        .replace(",mid,,32,", ",mid,,8,")
        .replace(",mid,,64,", ",mid,,16,");
    let path = dir.join("scaled.csv");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn what_is_found_is_what_was_measured() {
    let dir = tempfile::tempdir().unwrap();
    let rows = compared(results(), &scaled(dir.path()));
    let grid = frames::read(results()).unwrap();
    let seeds = |model: &str, k: u64, name: &str| -> Vec<f64> {
        let of = grid.runs.iter().filter(|r| r.model == model && r.setting.k == Some(k));
        of.map(|r| r.value(name).unwrap()).collect()
    };
    let mean = |model: &str, k: u64, name: &str| {
        let values = seeds(model, k, name);
        assert_eq!(values.len(), 2);
        values.iter().sum::<f64>() / 2.0
    };
    let (small, large) = ("pythia-70m", "pythia-410m");
    let delta = |k: u64, name: &str| mean(large, k, name) - mean(small, k, name);
    let opposite = |k: u64| {
        let pairs = (0..2).map(|s| {
            let d = |name| seeds(large, k, name)[s] - seeds(small, k, name)[s];
            f64::from(u8::from(d("r2") * d("ce_rec") < 0.0))
        });
        pairs.sum::<f64>() / 2.0
    };
    let layers = |model: &str| &grid.geometry.iter().find(|(m, _)| m == model).unwrap().1;
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for row in &rows {
        let of = |key: &str| row[key].as_str().unwrap_or_default();
        let (model, quantity) = (of("model"), of("quantity"));
        let Some(ours) = row["ours"].as_f64() else {
            assert!(row["reason"].is_string() && row["difference"].is_null(), "{row}");
            continue;
        };
        *found.entry(quantity.to_owned()).or_default() += 1;
        assert_eq!(row["difference"].as_f64().unwrap(), ours - row["published"].as_f64().unwrap());
        if of("end") != "value" && quantity != "abs_delta_ce_rec" {
            // An end of our interval, which stands beside our value.
            let same =
                |r: &&Value| ["model", "k", "quantity"].iter().all(|key| r[key] == row[key]) && r["end"] == "value";
            let interval = &rows.iter().find(same).unwrap()["our_interval"];
            assert_eq!(interval[usize::from(of("end") == "high")], row["ours"]);
            continue;
        }
        let k = row["k"].as_u64().unwrap_or(0);
        let expected = match quantity {
            "pr" | "pr_over_d_model" => {
                let layer = layers(model).iter().find(|l| Some(l.layer as u64) == row["layer"].as_u64()).unwrap();
                if quantity == "pr" { layer.pr.unwrap() } else { layer.pr_over_d_model.unwrap() }
            }
            "loss_ratio" => 2.0 - mean(model, k, "ce_rec"),
            "loss_increase" => 1.0 - mean(model, k, "ce_rec"),
            "delta_r2" => delta(k, "r2"),
            "delta_ce_rec" => delta(k, "ce_rec"),
            "abs_delta_ce_rec" => delta(k, "ce_rec").abs(),
            "delta_ratio" => delta(k, "r2") / delta(k, "ce_rec"),
            "monotone_r2" => f64::from(u8::from(delta(k, "r2") > 0.0)),
            "monotone_ce_rec" => f64::from(u8::from(delta(k, "ce_rec") < 0.0)),
            "sign_delta_ce_rec" => delta(k, "ce_rec").signum(),
            "sign_delta_cosine" => delta(k, "cosine").signum(),
            "sign_delta_rel_err" => delta(k, "rel_err").signum(),
            "sst_ratio" => mean(large, k, "sst_per_token") / mean(small, k, "sst_per_token"),
            "mismatch_rate" if k == 0 => (opposite(8) + opposite(16)) / 2.0,
            "mismatch_rate" => opposite(k),
            // Correlations, spreads and overlaps have tests where they are defined, and stand in the tables.
            "corr_pooled" | "corr_within_k" | "ce_sd_min" | "ce_sd_max" | "ci_overlap" | "cohen_d" => continue,
            name => mean(model, k, name),
        };
        assert!((ours - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{row}: {expected}");
    }
    for quantity in [
        "r2",
        "ce_rec",
        "cosine",
        "rel_err",
        "mse_mean",
        "sse_per_token",
        "sst_per_token",
        "alive_frac",
        "loss_ratio",
        "loss_increase",
        "delta_r2",
        "delta_ce_rec",
        "abs_delta_ce_rec",
        "sign_delta_ce_rec",
        "sign_delta_cosine",
        "sign_delta_rel_err",
        "delta_ratio",
        "mismatch_rate",
        "sst_ratio",
        "pr",
        "pr_over_d_model",
        "corr_pooled",
        "corr_within_k",
        "ce_sd_min",
        "ce_sd_max",
        "ci_overlap",
        "cohen_d",
        "monotone_r2",
        "monotone_ce_rec",
    ] {
        assert!(found.contains_key(quantity), "{quantity} was not found: {found:?}");
    }

    // And as the tables have them.
    let table = |name: &str| std::fs::read_to_string(results().join(format!("tables/{name}.md"))).unwrap();
    let find = |quantity: &str, row: &str| {
        let same = |r: &&Value| r["quantity"] == quantity && r["row"] == row && r["ours"].is_number();
        rows.iter().find(same).unwrap()["ours"].as_f64().unwrap()
    };
    for quantity in ["corr_pooled", "corr_within_k"] {
        assert!(table("correlations").contains(&format!("{:+.3}", find(quantity, "mid"))), "{quantity}");
    }
    for quantity in ["ce_sd_min", "ce_sd_max"] {
        assert!(table("spread").contains(&format!("{:.3}", find(quantity, "all conditions"))), "{quantity}");
    }
    assert!(table("overlap").contains(&format!("{:.3}", find("cohen_d", "k=8"))));
}

/// With a target halfway between CE_rec at k = 8 and at k = 16, k* is 12.
#[test]
fn k_star_is_found_for_any_target() {
    let grid = frames::read(results()).unwrap();
    let analysis = Analysis::new(&grid);
    let ce_rec = |k: u64| {
        let cell = analysis.cell("pythia-70m", &Site::resid_post("mid"), 4992, &Setting::topk(k)).unwrap();
        analysis.score(cell, on_all("ce_rec")).value.unwrap()
    };
    assert!(ce_rec(8) < ce_rec(16));
    let dir = tempfile::tempdir().unwrap();
    let path = scaled(dir.path());
    let target = format!("k_star_{}", (ce_rec(8) + ce_rec(16)) / 2.0);
    std::fs::write(&path, std::fs::read_to_string(&path).unwrap().replace("k_star_0.85", &target)).unwrap();
    let rows = compared(results(), &path);
    let of = |quantity: &str| {
        let same = |r: &&Value| r["model"] == "pythia-70m" && r["depth"] == "mid" && r["quantity"] == quantity;
        rows.iter().find(same).unwrap()
    };
    assert!((of(&target)["ours"].as_f64().unwrap() - 12.0).abs() < 1e-9);
    // 0.90 is out of reach of such SAEs.
    assert_eq!(of("k_star_0.90")["missing"], "undefined");
}

#[test]
fn what_is_not_there_is_said_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let rows = compared(results(), &scaled(dir.path()));
    let first = |key: &str, value: &str, table: &str| {
        let same = |r: &&Value| r["table"] == table && r[key].as_str().is_some_and(|v| v.contains(value));
        let row = rows.iter().find(same).unwrap();
        row["missing"].as_str().unwrap_or("found").to_owned()
    };
    assert_eq!(first("model", "160m", "three-model"), "model");
    assert_eq!(first("depth", "late", "correlations"), "depth");
    assert_eq!(first("row", "k=128", "delta-by-k"), "k");
    assert_eq!(first("row", "70M (100M)", "budget-k32"), "budget");
    let kinds: Vec<&str> = rows.iter().filter_map(|r| r["missing"].as_str()).collect();
    assert!(kinds.iter().all(|k| ["model", "depth", "k", "budget", "layer", "undefined"].contains(k)), "{kinds:?}");

    let text = stdout_of(assay().arg("compare").arg(results()).arg("--reference").arg(scaled(dir.path())));
    for part in ["model pythia-160m is not there (", "no depth late (", "no k = 32 (", "no budget of 100M tokens ("] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let listed: usize = text
        .lines()
        .filter_map(|l| l.strip_prefix("- ")?.rsplit_once(" (")?.1.strip_suffix(')')?.parse::<usize>().ok())
        .sum();
    assert_eq!(listed, kinds.len(), "every row without a counterpart is counted under one reason");

    // With the published budget and layers, only what needs neither is there: geometry.
    let rows = compared(results(), "all");
    let found: Vec<&str> = rows.iter().filter(|r| r["ours"].is_number()).filter_map(|r| r["table"].as_str()).collect();
    assert!(found.len() == 8 && found.iter().all(|t| *t == "pr"), "{found:?}");
    let headline: Vec<&str> =
        rows.iter().filter(|r| r["table"] == "headline").filter_map(|r| r["reason"].as_str()).collect();
    assert_eq!(headline[0], "no budget of 10M tokens");
    assert_eq!(headline[9], "mid of pythia-410m is layer 4, not 12");
    let unknown = scaled(dir.path());
    let renamed = std::fs::read_to_string(&unknown).unwrap().replace(",cosine,", ",cosines,");
    std::fs::write(&unknown, renamed).unwrap();
    let rows = compared(results(), &unknown);
    let cosine = rows.iter().find(|r| r["quantity"] == "cosines").unwrap();
    assert_eq!(
        (cosine["missing"].as_str(), cosine["reason"].as_str()),
        (Some("quantity"), Some("no quantity cosines"))
    );
}

#[test]
fn nothing_to_compare_passes_no_check() {
    let output = assay()
        .arg("compare")
        .arg(results())
        .args(["--reference", "budget-k32-100m", "--check", "1"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("no number of budget-k32-100m has a counterpart"), "{message}");
}
