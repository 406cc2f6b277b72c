//! `dashboard.html` in Chromium, opened from disk: a corpus that would like to be markup is text, and nothing is asked of anybody.

use std::path::{Path, PathBuf};

use polars::prelude::{ParquetReader, SerReader as _};
use serde_json::{Map, Value};

use crate::common::browser::Chromium;
use crate::common::{assay, bundled, copy_dir, golden, stdout_of};

/// What stands in the page's own parts, without its data and script.
fn body(page: &str) -> String {
    let (start, end) = (page.find("<body>").unwrap(), page.find("<script type=\"text/plain\"").unwrap());
    page[start..end].to_owned()
}

const HOSTILE: [&str; 5] = [
    "<script>document.title='taken'</script>",
    "</script><img src=x onerror=alert(1)>",
    "\u{202e}gnp.exe\u{200f}",
    "&lt;b&gt;\"'`${1}",
    "\u{1b}]0;taken\u{7}",
];

/// The bundled model with other words for its most frequent tokens, the last of them a huge one.
fn hostile_model(dir: &Path) -> PathBuf {
    let model = dir.join("model");
    copy_dir(&bundled("small"), &model);
    let path = model.join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let tokens = crate::common::Reference::open(golden("eval-small/tokens.safetensors")).tokens("tokens");
    let mut counts = vec![0; 4096];
    tokens.iter().for_each(|&id| counts[id as usize] += 1);
    let mut frequent: Vec<u64> = (300..4096).collect();
    frequent.sort_by_key(|&id| std::cmp::Reverse(counts[id as usize]));
    let words: Vec<String> = HOSTILE.iter().map(|&word| word.to_owned()).chain(["x".repeat(100_000)]).collect();
    let vocabulary = tokenizer["model"]["vocab"].as_object().unwrap();
    let renamed = vocabulary.iter().map(|(word, id)| {
        let place = frequent[..words.len()].iter().position(|frequent| id.as_u64() == Some(*frequent));
        (place.map_or_else(|| word.clone(), |place| words[place].clone()), id.clone())
    });
    tokenizer["model"]["vocab"] = Value::Object(renamed.collect::<Map<String, Value>>());
    // Merges name words that are no longer there; token files need none.
    tokenizer["model"]["merges"] = Value::Array(Vec::new());
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    model
}

#[test]
fn a_page_opens_from_disk_and_shows_a_hostile_corpus_as_text() {
    let Some(chromium) = Chromium::found() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (hostile_model(dir.path()), dir.path().join("features"));
    let features = || {
        let mut command = assay();
        command.arg("features").arg("--model").arg(&model).arg("--out").arg(&out).args(["--ablate", "0"]);
        command.arg("--sae").arg(golden("eval-small/L3_k8")).arg("--tokens");
        command.arg(golden("eval-small/tokens.safetensors"));
        command
    };
    stdout_of(features().arg("--json"));
    let page = out.join("dashboard.html");
    let text = std::fs::read_to_string(&page).unwrap();
    // In the file the corpus is base64: what is markup in it is ours.
    assert_eq!(text.matches("<script>").count(), 1);
    assert!(!text.contains("onerror") && !text.contains(" src=") && !text.contains("<link"));
    assert!(text.contains("default-src 'none'"));

    let (dom, console) = chromium.opened(&page, "latent=3");
    assert!(console.is_empty(), "{console}");
    let shown = body(&dom);
    assert!(dom.contains("data-ready=") && dom.contains("data-latent=\"3\""), "{}", &dom[..600]);
    assert!(shown.contains("<h1>Latent 3</h1>") && shown.contains("1,024 of 1,024 latents"), "{shown}");

    // Every hostile word is found by a search, and stands as text among the tokens of a latent that fires on it.
    let table = ParquetReader::new(std::fs::File::open(out.join("features.parquet")).unwrap()).finish().unwrap();
    let read = table.column("tokens_in").unwrap().as_materialized_series().list().unwrap().clone();
    let fires_on = |word: &str| {
        let of = |latent: usize| {
            read.get_as_series(latent).is_some_and(|s| s.str().unwrap().iter().flatten().any(|t| t == word))
        };
        (0..1024).find(|&latent| of(latent)).unwrap()
    };
    let seen = [
        "&lt;script&gt;document.title='taken'&lt;/script&gt;",
        "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;",
        "[U+202E]gnp.exe[U+200F]",
        "&amp;lt;b&amp;gt;\"'`${1}",
        "[U+001B]]0;taken[U+0007]",
        "… (100000 characters)",
    ];
    let huge = "x".repeat(100_000);
    let searched = ["%3Cscript%3E", "%3C%2Fscript%3E%3Cimg", "gnp.exe", "%26lt%3B", "taken%07", "xxxxxxxx"];
    for ((word, searched), seen) in HOSTILE.into_iter().chain([huge.as_str()]).zip(searched).zip(seen) {
        let (dom, console) = chromium.opened(&page, &format!("latent={}&q={searched}", fires_on(word)));
        let shown = body(&dom);
        assert!(console.is_empty(), "{searched}: {console}");
        assert!(shown.contains(seen), "{searched}: {seen} is not in {shown}");
        assert!(
            !shown.contains(">0 of 1,024") && !shown.contains("1,024 of 1,024") && !shown.contains("<img"),
            "{searched}"
        );
        assert!(
            !dom.contains("<title>taken") && !shown.contains('\u{202e}') && !shown.contains('\u{1b}'),
            "{searched}"
        );
    }

    // Only those with a score in a range, the largest first; a number finds its latent.
    let (dom, _) = chromium.opened(&page, "only=purity&from=0.9&sort=purity&down=1&latent=7");
    let shown = body(&dom);
    assert!(!shown.contains("1,024 of 1,024 latents") && shown.contains("<h1>Latent 7</h1>"), "{shown}");
    let (dom, _) = chromium.opened(&page, "q=1001");
    assert!(body(&dom).contains("data-latent=\"1001\""));

    // The same as a folder, from disk as well.
    let mut folder = features();
    assert!(stdout_of(folder.arg("--shards")).contains("dashboard/index.html"));
    let index = out.join("dashboard/index.html");
    let shards = std::fs::read_dir(out.join("dashboard/data")).unwrap().count();
    assert_eq!(shards, 16);
    let shard = std::fs::read_to_string(out.join("dashboard/data/s15.js")).unwrap();
    let bytes = shard.trim().strip_prefix("__shard(15,\"").unwrap().strip_suffix("\")").unwrap();
    assert!(text.contains(&format!("id=\"shard-15\">{bytes}</script>")), "the same bytes");
    for latent in [3, 1000] {
        let (own, console) = chromium.opened(&index, &format!("latent={latent}"));
        assert!(console.is_empty(), "{console}");
        let (other, _) = chromium.opened(&page, &format!("latent={latent}"));
        let main = |dom: &str| dom[dom.find("<main").unwrap()..dom.find("</main>").unwrap()].to_owned();
        assert!(main(&own).contains(&format!("<h1>Latent {latent}</h1>")) && main(&own) == main(&other));
    }
    std::fs::write(out.join("dashboard/data/s14.js"), &shard[..shard.len() / 2]).unwrap();
    let (dom, _) = chromium.opened(&index, "latent=900");
    assert!(dom.contains("data/s14.js is damaged") && dom.contains("<title>900 "), "a damaged shard is named");
    std::fs::remove_file(out.join("dashboard/data/s15.js")).unwrap();
    let (dom, _) = chromium.opened(&index, "latent=1000");
    assert!(dom.contains("data/s15.js is not beside it"), "a shard that is not there is named");
}
