//! `assay topology`: clouds from files of every kind, against GUDHI; the same bytes again; what is refused.

use std::path::{Path, PathBuf};

use polars::prelude::{DataType, ParquetReader, SerReader as _};
use serde_json::Value;

use crate::common::{assay, bundled, golden, npy_bytes, refused, stdout_of, write_floats};

/// A cloud and its runs, as ripser.py and GUDHI have them.
fn cloud(name: &str) -> Value {
    read(&golden(&format!("topology/{name}.json")))
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn points(cloud: &Value) -> (Vec<f64>, [usize; 2]) {
    let rows: Vec<Vec<f64>> = serde_json::from_value(cloud["points"].clone()).unwrap();
    let shape = [rows.len(), rows[0].len()];
    (rows.concat(), shape)
}

/// The points as numpy writes them in f64.
fn npy(path: &Path, cloud: &Value) {
    let (values, [n, d]) = points(cloud);
    let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({n}, {d}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    std::fs::write(path, bytes).unwrap();
}

fn json(path: &Path, arguments: &[&str]) -> Value {
    let mut command = assay();
    command.arg("topology").arg(path).args(["--json", "--nulls", "none"]).args(arguments);
    serde_json::from_str(&stdout_of(&mut command)).unwrap()
}

fn bars(value: &Value) -> Vec<(f64, f64)> {
    let bars: Vec<(f64, Option<f64>)> = serde_json::from_value(value.clone()).unwrap();
    bars.into_iter().map(|(birth, death)| (birth, death.unwrap_or(f64::INFINITY))).collect()
}

#[test]
fn bars_of_files_are_those_of_gudhi() {
    let dir = tempfile::tempdir().unwrap();
    let given = std::env::var_os("ASSAY_GOLDEN_TOPOLOGY").map(PathBuf::from);
    let dirs = [given.unwrap_or_else(|| golden("topology")), golden("topology-others")];
    let mut names: Vec<PathBuf> =
        dirs.iter().flat_map(|dir| std::fs::read_dir(dir).unwrap()).map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|e| e == "json") && !path.ends_with("pairs.json"));
    names.sort();
    assert!(names.len() >= 13, "{names:?}");
    for path in names {
        let cloud = read(&path);
        let file = dir.path().join("cloud.npy");
        npy(&file, &cloud);
        for run in cloud["runs"].as_array().unwrap() {
            let threshold = run["thresh"].as_f64().map(|t| t.to_string());
            let mut arguments = vec!["--metric", run["metric"].as_str().unwrap()];
            arguments.extend(threshold.iter().flat_map(|t| ["--threshold", t]));
            let found = json(&file, &arguments);
            for (ours, theirs) in [("h0", "H0"), ("h1", "H1")] {
                let (mut found, mut expected) = (bars(&found[ours]), bars(&run["gudhi"][theirs]));
                let long = |bars: &mut Vec<(f64, f64)>| bars.retain(|(birth, death)| death - birth > 1e-8);
                long(&mut found);
                long(&mut expected);
                let key = |x: f64| (x * 1e8).round();
                let order = |a: &(f64, f64), b: &(f64, f64)| key(a.0).total_cmp(&key(b.0)).then(a.1.total_cmp(&b.1));
                found.sort_by(order);
                expected.sort_by(order);
                assert_eq!(found.len(), expected.len(), "{path:?} {run}");
                for (f, e) in found.iter().zip(&expected) {
                    let close = |f: f64, e: f64| f == e || (f - e).abs() < 1e-9;
                    assert!(close(f.0, e.0) && close(f.1, e.1), "{path:?}: {f:?} and {e:?}");
                }
            }
        }
    }
}

#[test]
fn a_cloud_is_read_from_files_of_every_kind() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let cloud = cloud("circle");
    let (values, [n, d]) = points(&cloud);
    let narrow: Vec<f32> = values.iter().map(|&v| v as f32).collect();
    std::fs::write(at("c.npy"), npy_bytes(&narrow, &format!("({n}, {d})"))).unwrap();
    // In Fortran's order, and big-endian.
    let columns: Vec<f32> = (0..d).flat_map(|c| (0..n).map(move |r| (r, c))).map(|(r, c)| narrow[r * d + c]).collect();
    let header = format!("{{'descr': '>f4', 'fortran_order': True, 'shape': ({n}, {d}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(columns.iter().flat_map(|v| v.to_be_bytes()));
    std::fs::write(at("f.npy"), bytes).unwrap();
    write_floats(&at("t.safetensors"), &[("a", narrow.clone(), vec![n, d]), ("b", vec![0.0; 4], vec![2, 2])]);
    let mut zip = zip::ZipWriter::new(std::fs::File::create(at("z.npz")).unwrap());
    for (name, bytes) in
        [("a.npy", npy_bytes(&narrow, &format!("({n}, {d})"))), ("b.npy", npy_bytes(&[0.0; 4], "(2, 2)"))]
    {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut zip, &bytes).unwrap();
    }
    zip.finish().unwrap();
    let expected = json(&at("c.npy"), &[])["h1"].clone();
    assert_eq!(bars(&expected).len(), 1);
    for (file, key) in [("f.npy", None), ("t.safetensors", Some("a")), ("z.npz", Some("a"))] {
        let arguments: Vec<&str> = key.iter().flat_map(|key| ["--key", key]).collect();
        assert_eq!(json(&at(file), &arguments)["h1"], expected, "{file}");
    }
    let topology = |file: &str, arguments: &[&str]| {
        let mut command = assay();
        command.arg("topology").arg(at(file)).args(arguments);
        command
    };
    refused(&mut topology("z.npz", &[]), &["z.npz", "--key", "a, b"]);
    refused(&mut topology("t.safetensors", &["--key", "c"]), &["no `c`", "a, b"]);
    refused(&mut topology("gone.npy", &[]), &["gone.npy"]);
    refused(assay().arg("topology").arg(bundled("eval.parquet")), &["eval.parquet", "`tokens` holds ids of tokens"]);
    let damaged = std::fs::read(at("c.npy")).unwrap();
    std::fs::write(at("short.npy"), &damaged[..damaged.len() - 3]).unwrap();
    refused(&mut topology("short.npy", &[]), &["short.npy", "[60, 2]"]);
    refused(&mut topology("c.npy", &["--metric", "euclidean,euclidean"]), &["--metric: euclidean is there twice"]);
    refused(&mut topology("c.npy", &["--nulls", "axes,axes"]), &["--nulls", "twice"]);
    refused(
        &mut topology("c.npy", &["--nulls", "clusters:60"]),
        &["--nulls clusters:60", "60 points", "fewer clusters"],
    );
    // Of one point nothing is claimed, and the earlier rule, which halves the cloud, stops no audit.
    let one = stdout_of(&mut topology("c.npy", &["--landmarks", "1", "--draws", "19"]));
    assert!(one.contains("nothing was drawn"), "{one}");
    stdout_of(&mut topology("c.npy", &["--filtration", "geodesic:30", "--draws", "19", "--nulls", "gaussian"]));
    refused(&mut topology("c.npy", &["--draws", "5"]), &["--draws 5", "give --draws 19"]);
    refused(&mut topology("c.npy", &["--metric", "jaccard"]), &["none of the metric jaccard", "--nulls columns"]);
    refused(&mut topology("c.npy", &["--metric", "jaccard", "--nulls", "none"]), &["0 or 1"]);
    // More points than fit into any memory; `--rows` alone is no reason.
    let tall = vec![0.0; 1_000_000];
    std::fs::write(at("tall.npy"), npy_bytes(&tall, "(1000000, 1)")).unwrap();
    refused(&mut topology("tall.npy", &["--rows", "1000000"]), &["1000000 points take about", "--rows or --landmarks"]);
    stdout_of(&mut topology("c.npy", &["--rows", "1000000", "--draws", "19"]));
    let mut broken = narrow.clone();
    broken[3] = f32::NAN;
    std::fs::write(at("nan.npy"), npy_bytes(&broken, &format!("({n}, {d})"))).unwrap();
    refused(&mut topology("nan.npy", &[]), &["nan.npy", "row 1, column 1", "NaN"]);
}

/// A circle has more of a loop than the nulls; threads and runs change no byte; files hold what is printed.
#[test]
fn a_circle_is_told_from_nulls() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cloud.npy");
    npy(&file, &cloud("circle"));
    let run = |threads: &str, out: &str| {
        let mut command = assay();
        command.arg("topology").arg(&file).args(["--draws", "39", "--threads", threads, "--json"]);
        command.args(["--metric", "euclidean,cityblock", "--out"]).arg(dir.path().join(out));
        command.arg("--plot").arg(dir.path().join(format!("{out}.svg")));
        stdout_of(&mut command)
    };
    let printed = run("1", "one");
    assert_eq!(printed, run("2", "two"));
    for name in ["topology.parquet", "bars.parquet"] {
        let read = |out: &str| std::fs::read(dir.path().join(out).join(name)).unwrap();
        assert_eq!(read("one"), read("two"));
    }
    let found: Value = serde_json::from_str(&printed).unwrap();
    let svg = std::fs::read_to_string(dir.path().join("one.svg")).unwrap();
    assert_eq!(svg, std::fs::read_to_string(dir.path().join("two.svg")).unwrap());
    for part in ["euclidean: ", "cityblock: ", "gaussian, death/birth", "axes, death − birth", "birth"] {
        assert!(svg.contains(part), "{part}");
    }
    // A disc for each bar, and one in the legend.
    let bars: usize = found.as_array().unwrap().iter().map(|metric| metric["h1"].as_array().unwrap().len()).sum();
    assert_eq!(svg.matches("<circle").count(), bars + 1);
    for metric in found.as_array().unwrap() {
        assert_eq!(metric["exceeds_every_null"], true, "{metric}");
        assert_eq!(metric["nulls"].as_array().unwrap().len(), 2);
        // No draw reaches the circle in either metric, so that both together have the least p that there is.
        assert_eq!(metric["p_over_metrics"], 1.0 / 40.0);
    }
    // What is there is not replaced.
    let mut again = assay();
    again.arg("topology").arg(&file).args(["--nulls", "none", "--out"]).arg(dir.path().join("one"));
    refused(&mut again, &["topology.parquet is there already", "another directory"]);
    // Three metrics want more draws than 39, and that is said.
    let mut many = assay();
    many.arg("topology").arg(&file).args(["--draws", "39", "--metric", "euclidean,cityblock,chebyshev"]);
    let said = String::from_utf8(many.output().unwrap().stderr).unwrap();
    assert!(said.contains("warning: of 3 metrics") && said.contains("--draws 59 would do"), "{said}");
    let mut command = assay();
    command.arg("topology").arg(&file).args(["--draws", "39"]);
    let text = stdout_of(&mut command);
    for part in ["There is more of a loop than in each of 2 nulls", "ratio_author", "Not claimed"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// What it will take is said without being done; parts are drawn and written.
#[test]
fn time_memory_and_parts_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    npy(&at("cloud.npy"), &cloud("circle"));
    let topology = |arguments: &[&str]| {
        let mut command = assay();
        command.current_dir(dir.path()).args(["topology", "cloud.npy", "--draws", "19"]).args(arguments);
        command
    };
    let text = stdout_of(&mut topology(&["--dry-run", "--metric", "euclidean,angular", "--rows", "50"]));
    for part in
        ["50 of 60 points in 2 dimensions", "memory: up to about", "are free", "time, angular: about", "up to 38 draws"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let text = stdout_of(&mut topology(&["--dry-run", "--nulls", "none", "--landmarks", "20"]));
    assert!(text.contains("20 landmarks stand") && text.contains("for its bars alone"), "{text}");
    assert_eq!(topology(&["--dry-run", "--json"]).output().unwrap().status.code(), Some(2));
    refused(&mut topology(&["--nulls", "none", "--plot-parts", "p.svg"]), &["--nulls none"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);

    let text = stdout_of(&mut topology(&["--plot-parts", "p.svg", "--out", "out", "--metric", "euclidean,cosine"]));
    let circle = text.split("# ").nth(1).unwrap();
    for part in ["| 15 ", "| 30 ", "of 16 halves (both ends nearer", "Confidence band", "| above "] {
        assert!(circle.contains(part), "{part}: {text}");
    }
    // 1 - cos is no metric, by which a band would be of nothing.
    assert_eq!(text.matches("Confidence band").count(), 1);
    let svg = std::fs::read_to_string(at("p.svg")).unwrap();
    for part in ["euclidean", "cosine", "the cloud", "gaussian", "axes", "largest death/birth", "\n15\n", "\n60\n"] {
        assert!(svg.contains(part), "{part}");
    }
    let written = columns(&at("out/topology.parquet"));
    let of = |name: &str| written.iter().find(|(column, _)| column == name).map(|(_, values)| values.clone()).unwrap();
    let (pi, halves, quarters) = (of("observed")[0], of("pi_of_halves")[0], of("pi_of_quarters")[0]);
    assert!(quarters < halves && halves < pi, "{quarters:?} {halves:?} {pi:?}");
    // Thirty points are few for a circle: its bar begins later in some halves.
    assert!(of("recurrence")[0] >= Some(0.5));
    assert!(of("birth_sd")[0] > Some(0.0) && of("death_sd")[0] > Some(0.0));
    let band = of("band_c");
    assert!(band[0] > Some(0.0) && band.last() == Some(&None), "{band:?}");
}

/// Columns of numbers of a file.
fn columns(path: &Path) -> Vec<(String, Vec<Option<f64>>)> {
    let frame = ParquetReader::new(std::fs::File::open(path).unwrap()).finish().unwrap();
    let numbers = frame.columns().iter().filter(|column| *column.dtype() == DataType::Float64);
    numbers.map(|column| (column.name().to_string(), column.f64().unwrap().iter().collect())).collect()
}

/// Which of a code's latents fire, against tables with the same sums of rows and columns.
#[test]
fn bits_are_compared_with_tables_of_the_same_margins() {
    let dir = tempfile::tempdir().unwrap();
    let bits: Vec<f32> = (0..40 * 12).map(|i| f32::from(u8::from((i * 7919 + i / 12) % 5 < 2))).collect();
    std::fs::write(dir.path().join("bits.npy"), npy_bytes(&bits, "(40, 12)")).unwrap();
    let topology = |arguments: &[&str]| {
        let mut command = assay();
        command.current_dir(dir.path()).args(["topology", "bits.npy", "--draws", "19", "--json"]).args(arguments);
        command
    };
    let found = stdout_of(&mut topology(&["--metric", "jaccard", "--nulls", "margins,columns"]));
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!((&found["nulls"][0]["null"], &found["nulls"][1]["null"]), (&"margins".into(), &"columns".into()));
    refused(&mut topology(&["--metric", "tanimoto", "--nulls", "margins"]), &["none of the metric tanimoto"]);
    npy(&dir.path().join("bits.npy"), &cloud("circle"));
    refused(&mut topology(&["--nulls", "margins"]), &["zeros and ones", "another null"]);
}

/// Points of a sphere, one turn of the golden angle after another.
fn sphere(count: usize) -> Vec<f32> {
    let turn = std::f64::consts::PI * (3.0 - 5.0_f64.sqrt());
    let point = |i: usize| {
        let (height, angle) = (1.0 - (2 * i + 1) as f64 / count as f64, turn * i as f64);
        let radius = (1.0 - height * height).sqrt();
        [radius * angle.cos(), radius * angle.sin(), height]
    };
    (0..count).flat_map(point).map(|v| v as f32).collect()
}

/// What dimension 2 says is printed and written: a sphere has a void, a circle has none.
#[test]
fn dimension_2_tells_a_void() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("sphere.npy"), npy_bytes(&sphere(60), "(60, 3)")).unwrap();
    npy(&at("circle.npy"), &cloud("circle"));
    let topology = |file: &str, arguments: &[&str]| {
        let mut command = assay();
        command.arg("topology").arg(at(file)).args(["--draws", "19"]).args(arguments);
        stdout_of(&mut command)
    };
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let out = at("out").display().to_string();
    let found = read(&topology("sphere.npy", &["--max-dim", "2", "--json", "--out", &out]));
    assert_eq!(found["is_explained_by_a_void"], true, "{found}");
    let tests = found["nulls"][0]["tests"].as_array().unwrap();
    assert_eq!((tests.len(), &tests[8]["statistic"], &tests[8]["p"]), (9, &"void".into(), &0.05.into()));
    assert_eq!(tests[8]["observed"], found["voids"]["pi"]);
    assert!(at("out/topology.parquet").exists());
    // Without dimension 2 the verdict says how to ask; with it, what was found.
    let text = topology("circle.npy", &[]);
    assert!(text.contains("--max-dim 2 tells whether a void explains it"), "{text}");
    let text = topology("circle.npy", &["--max-dim", "2"]);
    assert!(text.contains("No void explains it"), "{text}");
}

/// Points that have a label, against as many of all.
#[test]
fn points_of_a_label_are_compared_with_shuffled_labels() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (circle, [n, _]) = points(&cloud("circle"));
    // Twice as many others, in a square about it.
    let others = (0..2 * n).flat_map(|i| [(i * 37 % 101) as f64 / 25.0 - 2.0, (i * 61 % 103) as f64 / 25.0 - 2.0]);
    let values: Vec<f32> = circle.iter().copied().chain(others).map(|v| v as f32).collect();
    std::fs::write(at("all.npy"), npy_bytes(&values, &format!("({}, 2)", 3 * n))).unwrap();
    let labels: Vec<f32> = (0..3 * n).flat_map(|i| [f32::from(u8::from(i >= n)), f32::from(u8::from(i < n))]).collect();
    std::fs::write(at("labels.npy"), npy_bytes(&labels, &format!("({}, 2)", 3 * n))).unwrap();
    let topology = |arguments: &[&str]| {
        let mut command = assay();
        command.current_dir(dir.path()).args(["topology", "all.npy", "--draws", "19"]).args(arguments);
        command
    };
    let of_label = ["--labels", "labels.npy", "--label", "1", "--nulls", "labels,gaussian"];
    let text = stdout_of(&mut topology(&of_label));
    for part in
        ["# all.npy, label 1 of labels.npy, euclidean", "There is more of a loop than in each of 2 nulls", "60 points"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let found = stdout_of(topology(&["--labels", "labels.npy", "--nulls", "labels"]).arg("--json"));
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!((&found["points"], &found["nulls"][0]["null"]), (&(2 * n).into(), &"labels".into()));
    refused(&mut topology(&["--nulls", "labels"]), &["--labels FILE"]);
    refused(&mut topology(&["--labels", "labels.npy", "--label", "2"]), &["--label 2", "columns 0 to 1"]);
    refused(&mut topology(&["--labels", "all.npy"]), &["0 or 1"]);
}

#[test]
fn the_decoder_of_an_sae_is_a_cloud() {
    let sae = golden("eval-small/L3_k8");
    let found = json(&sae, &["--metric", "angular", "--rows", "100"]);
    assert_eq!((found["points"].as_u64(), found["rows"].as_u64().map(|r| r > 100)), (Some(100), Some(true)));
    assert!(found["diameter"].as_f64().unwrap() <= std::f64::consts::PI);
}

/// Clouds about as small as a loop: too few for the halves that the earlier rule looks at.
#[test]
fn a_cloud_of_a_few_points_has_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("few.npy");
    for count in 1..=8 {
        let values: Vec<f32> = (0..count * 3).map(|i| ((i * 7919 + 13) % 101) as f32).collect();
        std::fs::write(&path, npy_bytes(&values, &format!("({count}, 3)"))).unwrap();
        let mut command = assay();
        command.arg("topology").arg(&path).args(["--json", "--metric", "euclidean", "--draws", "19"]);
        let found: Value = serde_json::from_str(&stdout_of(&mut command)).unwrap();
        assert_eq!(found["points"], count, "{found}");
    }
}
