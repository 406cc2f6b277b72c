//! The store against what went in: any chunks give the same bytes, and damage is named.

use std::collections::BTreeMap;

use super::*;

fn contents(d_sae: usize, sequences: usize) -> Contents {
    Contents {
        model: "m".to_owned(),
        weights: String::new(),
        sae: "s".to_owned(),
        sae_weights: String::new(),
        hook: "blocks.0.hook_resid_post".to_owned(),
        device: "cpu".to_owned(),
        tokens: String::new(),
        sequences,
        context_size: 4,
        batch: 1,
        bos: None,
        is_text: false,
        separators: Vec::new(),
        d_sae,
    }
}

/// The firings of a context, by a rule.
fn firings(context: usize, d_sae: usize) -> Vec<(usize, u32, f32)> {
    let at = |position: usize| (4 * context + position) as u32;
    let of = |position: usize| {
        let latents =
            (0..d_sae).filter(move |latent| (7 * context + 3 * position + 5 * latent) % 11 < 3 && *latent != 2);
        latents.map(move |latent| (latent, at(position), (latent + 10 * position) as f32 + 0.5))
    };
    (0..4).flat_map(of).collect()
}

fn make(dir: &Path, cuts: &[usize], sequences: usize, d_sae: usize) -> Store {
    let mut store = Store::open(dir, contents(d_sae, sequences)).unwrap();
    store.begin().unwrap();
    std::fs::write(dir.join(TOKENS), "").unwrap();
    for context in store.next()..sequences {
        for (latent, position, value) in firings(context, d_sae) {
            store.push(latent, position, value);
        }
        store.reached(context + 1, cuts.contains(&context) || context + 1 == sequences).unwrap();
    }
    store
}

#[test]
fn any_chunks_make_the_same_store_and_it_holds_what_went_in() {
    let (sequences, d_sae) = (300, 9);
    let mut bytes: Option<Vec<u8>> = None;
    // With a chunk a context there are more than are merged at once.
    for cuts in [vec![], vec![0, 5, 6], (0..sequences).collect::<Vec<_>>()] {
        let dir = tempfile::tempdir().unwrap();
        let mut merged = 0;
        make(dir.path(), &cuts, sequences, d_sae).finish(String::new(), &mut |n| merged += n).unwrap();
        let found = std::fs::read(dir.path().join(EVENTS)).unwrap();
        assert!(!dir.path().join(CHUNKS).exists());
        let mut events = Events::open(dir.path()).unwrap();
        assert_eq!(merged, 2 * events.total());
        let mut expected: BTreeMap<usize, Vec<(u32, f32)>> = BTreeMap::new();
        for (latent, position, value) in (0..sequences).flat_map(|context| firings(context, d_sae)) {
            expected.entry(latent).or_default().push((position, value));
        }
        for latent in 0..d_sae {
            let mut seen = Vec::new();
            events
                .each(latent, |position, value| {
                    seen.push((position, value));
                    Ok(())
                })
                .unwrap();
            assert_eq!(seen.len() as u64, events.firings(latent));
            assert_eq!(seen, expected.remove(&latent).unwrap_or_default(), "latent {latent}");
        }
        assert_eq!(events.firings(2), 0);
        assert_eq!(*bytes.get_or_insert_with(|| found.clone()), found);
        let parsed = safetensors::SafeTensors::deserialize(&found).unwrap();
        assert_eq!(parsed.tensor("offsets").unwrap().shape(), [d_sae + 1]);
    }
}

#[test]
fn a_store_goes_on_after_the_last_whole_chunk() {
    let dir = tempfile::tempdir().unwrap();
    let store = make(dir.path(), &[3, 7], 12, 5);
    assert_eq!(store.next(), 12);
    std::fs::write(chunk_path(dir.path(), 1), "short").unwrap();
    let again = Store::open(dir.path(), contents(5, 12)).unwrap();
    assert_eq!(again.next(), 4);
    make(dir.path(), &[9], 12, 5).finish(String::new(), &mut |_| ()).unwrap();
    let whole = tempfile::tempdir().unwrap();
    make(whole.path(), &[], 12, 5).finish(String::new(), &mut |_| ()).unwrap();
    let bytes = |dir: &Path| std::fs::read(dir.join(EVENTS)).unwrap();
    assert_eq!(bytes(dir.path()), bytes(whole.path()));
    assert!(Store::open(dir.path(), contents(5, 12)).unwrap().is_finished());

    let other = Contents { device: "cuda".to_owned(), ..contents(5, 12) };
    let error = Store::open(dir.path(), other).err().unwrap().to_string();
    assert!(error.contains("device is \"cpu\" there, \"cuda\" here"), "{error}");
    let other = Contents { context_size: 8, ..contents(5, 12) };
    let error = Store::open(dir.path(), other).err().unwrap().to_string();
    assert!(error.contains("context_size is 4 there, 8 here") && error.contains("--out"), "{error}");
}

#[test]
fn damage_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = make(dir.path(), &[3], 12, 5);
    let chunk = chunk_path(dir.path(), 0);
    let mut bytes = std::fs::read(&chunk).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&chunk, &bytes).unwrap();
    let error = store.finish(String::new(), &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("000000.bin is damaged"), "{error}");
    assert!(Events::open(dir.path()).err().unwrap().to_string().contains("not finished"));

    let dir = tempfile::tempdir().unwrap();
    let tokens = blake3::hash(b"").to_hex().to_string();
    make(dir.path(), &[], 12, 5).finish(tokens, &mut |_| ()).unwrap();
    Events::verify(dir.path()).unwrap();
    let path = dir.path().join(EVENTS);
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert!(Events::verify(dir.path()).unwrap_err().to_string().contains("BLAKE3"));
    std::fs::write(&path, &bytes[..last]).unwrap();
    assert!(Events::open(dir.path()).err().unwrap().to_string().contains("is damaged"));

    let full = tempfile::tempdir().unwrap();
    std::fs::write(full.path().join("mine.txt"), "").unwrap();
    let error = Store::check(full.path()).unwrap_err().to_string();
    assert!(error.contains("mine.txt") && error.contains("--out"), "{error}");
}
