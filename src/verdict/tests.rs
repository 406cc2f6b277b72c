use assay_probes::metrics::Subset;
use assay_probes::stats::{Interval, Resamples};

use super::*;

const VOCAB: usize = 4096;

/// Sequences a little unlike one another, of which R² and the loss scores are near 0.8; `change` makes the case.
fn judged(change: impl Fn(&mut [Sums; 3])) -> Verdict {
    judged_of(40, MIN_REPLICATES, change)
}

/// Of one sequence.
fn judged_sums() -> Sums {
    Sums {
        tokens: 100.0,
        elements: 1000.0,
        sse: 20.0,
        sst: 100.0,
        norm_sq: 120.0,
        l0: 500.0,
        scored: 99.0,
        ce_orig: 300.0,
        ce_recon: 360.0,
        ce_zero: 610.0,
        ce_mean: 600.0,
        kl: 20.0,
        fwd: 2.0,
        fisher_isotropic: 20.0,
        drawn: 99.0,
        ..Sums::default()
    }
}

fn judged_of(count: usize, replicates: usize, change: impl Fn(&mut [Sums; 3])) -> Verdict {
    let sequences: Vec<[Sums; 3]> = (0..count)
        .map(|i| {
            let wobble = 1.0 + 0.01 * (i % 4) as f64;
            let mut sums = judged_sums();
            for sum in [&mut sums.sse, &mut sums.ce_recon, &mut sums.fwd, &mut sums.fisher_isotropic] {
                *sum *= wobble;
            }
            let mut subsets = [sums; 3];
            change(&mut subsets);
            subsets
        })
        .collect();
    let counts = Resamples::draw(count, replicates, 0).counts();
    verdict(&sequences, &Replicates::new(&sequences, &counts), VOCAB)
}

/// The same change in all subsets.
fn all(change: impl Fn(&mut Sums)) -> impl Fn(&mut [Sums; 3]) {
    move |subsets| subsets.iter_mut().for_each(&change)
}

fn rules(verdict: &Verdict) -> Vec<(Rule, Outcome)> {
    verdict.reasons.iter().map(|reason| (reason.rule, reason.outcome)).collect()
}

fn kinds(verdict: &Verdict) -> Vec<WarningKind> {
    verdict.warnings.iter().map(|warning| warning.kind).collect()
}

/// A cause that can't be is not named, and one that is known is: of an SAE that was trained here it is known what was asked for.
#[test]
fn an_sae_of_known_training_is_judged_by_what_was_asked_for() {
    let of = |setting: Option<&Setting>, l0: f64| {
        let sums = Sums { l0: 100.0 * l0, ..judged_sums() };
        let sequences = vec![[sums; 3]; 40];
        let counts = Resamples::draw(40, MIN_REPLICATES, 0).counts();
        judge(&sequences, &Replicates::new(&sequences, &counts), VOCAB, setting)
    };
    let read_as = "read as one without k";
    // The activations have 10 dimensions.
    assert!(of(None, 12.0).text.contains(read_as) && kinds(&of(None, 12.0)) == [WarningKind::DenseCode]);
    let steered =
        Setting { k: None, knob: Some("target_l0 8".to_owned()), architecture: "jumprelu".into(), ..Setting::topk(1) };
    let both = [WarningKind::DenseCode, WarningKind::SparsityMissed];
    for (setting, l0, expected, part) in [
        (&steered, 462.0, &both[..], "The target L0 of 8 was not reached: 462 latents"),
        (
            &Setting::topk(512),
            203.0,
            &both,
            "k is 512, and 203 latents are active per token: of those chosen, no more are positive",
        ),
        (&Setting::topk(8), 8.0, &[], ""),
        (&Setting::topk(8), 6.5, &[], ""),
        (&Setting { knob: Some("l0_coefficient 2".to_owned()), ..steered.clone() }, 5.0, &[], ""),
    ] {
        let found = of(Some(setting), l0);
        assert!(found.text.contains(part) && !found.text.contains(read_as), "{}", found.text);
        assert_eq!(kinds(&found), expected, "{l0}");
    }
}

/// The whole table: sign and size of each score, live or dead, sparse or dense, losses that make sense or not.
#[test]
fn every_case_has_its_outcome() {
    use Outcome::{Agree, ForeignTokens, Overstates, Understates, Useless};
    use WarningKind::{CatastrophicAblation, DenseCode, MeasuresDisagree, NoLiveLatent};
    type Case = (&'static str, fn(&mut Sums), Outcome, &'static [WarningKind]);
    let cases: [Case; 18] = [
        ("both high", |_| (), Agree, &[]),
        ("R² lower", |s| s.sse *= 3.0, Understates, &[]),
        ("loss score lower", |s| s.ce_recon *= 1.3, Overstates, &[]),
        ("R² below 0, behaviour good", |s| s.sse *= 10.0, Understates, &[]),
        ("R² good, worse than the mean activation", |s| s.ce_recon = 620.0, Overstates, &[]),
        ("both exactly 0", |s| (s.sse, s.ce_recon) = (100.0, 600.0), Useless, &[]),
        ("both below 0", |s| (s.sse, s.ce_recon) = (2300.0, 700.0), Useless, &[]),
        // Mean ablation is so bad that the loss score is above 0, although the loss is more than doubled.
        (
            "R² below 0, a doubled loss",
            |s| (s.sse, s.ce_recon, s.ce_mean) = (2300.0, 700.0, 1000.0),
            Useless,
            &[CatastrophicAblation],
        ),
        ("both near 0", |s| (s.sse, s.ce_recon) = (95.0, 580.0), Agree, &[]),
        ("no live latent", |s| s.l0 = 0.0, Useless, &[NoLiveLatent]),
        (
            "no live latent, at the mean",
            |s| (s.l0, s.sse, s.ce_recon) = (0.0, 100.001, 599.0),
            Useless,
            &[NoLiveLatent],
        ),
        ("dense and good", |s| s.l0 = 1001.0, Agree, &[DenseCode]),
        ("dense and bad", |s| (s.l0, s.sse, s.ce_recon) = (5000.0, 2300.0, 700.0), Useless, &[DenseCode]),
        (
            "worse than a uniform guess",
            |s| (s.ce_orig, s.ce_mean, s.ce_zero) = (830.0, 900.0, 900.0),
            ForeignTokens,
            &[],
        ),
        ("worse than the mean activation", |s| s.ce_orig = 605.0, ForeignTokens, &[]),
        ("as bad as zeros", |s| (s.ce_orig, s.ce_zero) = (590.0, 590.0), ForeignTokens, &[]),
        (
            "R² below one behaviour and above the other",
            |s| (s.sse, s.ce_recon, s.ce_mean) = (60.0, 540.0, 1200.0),
            Understates,
            &[CatastrophicAblation, MeasuresDisagree],
        ),
        ("a perfect reconstruction", |s| (s.sse, s.ce_recon, s.kl) = (0.0, 300.0, 0.0), Agree, &[]),
    ];
    for (name, change, outcome, warnings) in cases {
        let found = judged(all(change));
        assert_eq!((found.outcome, kinds(&found)), (outcome, warnings.to_vec()), "{name}: {}", found.text);
        assert_eq!(found.comparisons[0].score, "ce_loss_score_mean");
        assert!(found.comparisons[0].decides && !found.comparisons[1].decides);
        assert!(!found.text.contains("misleading"), "{}", found.text);
    }
}

#[test]
fn the_sentence_says_what_the_outcome_is() {
    let starts = |change: fn(&mut Sums), start: &str| {
        let text = judged(all(change)).text;
        assert!(text.starts_with(start), "{text}");
    };
    let keeps =
        |share: &str| format!("On this text the SAE keeps {share} of what the activation does for the model's loss");
    starts(|_| (), &format!("{}, and R² says about as much (80 %).\n- R² 0.7970 [0.79", keeps("78 %")));
    starts(|s| s.sse *= 3.0, &format!("{}; R² understates that (39 %).\n- R² 0.391 [0.", keeps("78 %")));
    starts(|s| s.ce_recon *= 1.3, &format!("{}; R² overstates that (80 %).\n- R² 0.7970 [0.", keeps("42 %")));
    starts(
        |s| s.l0 = 0.0,
        "On this text the SAE is of no use to the model, and R² says so too.\n- No latent fires (L0 is 0). R² 0.797",
    );
    starts(
        |s| s.ce_orig = 900.0,
        "There is no verdict, because these tokens are not this model's text.\n- The model's own loss is 9.091 nats",
    );
    let says = |change: fn(&mut Sums), part: &str| {
        let text = judged(all(change)).text;
        assert!(text.contains(part), "{text}");
    };
    says(|s| (s.sse, s.ce_recon) = (95.0, 580.0), "of little use");
    says(|s| s.ce_recon = 620.0, "keeps nothing of what the activation does");
    says(|s| s.sse *= 10.0, "R² understates that: it is not even above 0.");
    says(|_| (), "Beside it, on other scales: pooled CE_rec 0.782 [");
}

#[test]
fn the_rule_is_the_same_in_both_directions() {
    let outcome =
        |low: f64, high: f64| Difference { value: (low + high) / 2.0, interval: Interval { low, high } }.outcome();
    for (low, high, right, mirrored) in [
        (-0.05, 0.07, Outcome::Agree, Outcome::Agree),
        (0.13, 0.3, Outcome::Overstates, Outcome::Understates),
        (0.09, 0.11, Outcome::Undecided, Outcome::Undecided),
        (0.02, 0.08, Outcome::Undecided, Outcome::Undecided),
        (0.11, 0.3, Outcome::Undecided, Outcome::Undecided),
        (-0.2, 0.2, Outcome::Undecided, Outcome::Undecided),
        (0.0, AGREE, Outcome::Undecided, Outcome::Undecided),
        (DIFFER, 0.3, Outcome::Undecided, Outcome::Undecided),
    ] {
        assert_eq!((outcome(low, high), outcome(-high, -low)), (right, mirrored), "[{low}, {high}]");
    }
}

#[test]
fn what_would_decide_follows_from_the_width_of_the_interval() {
    let needed =
        |low: f64, value: f64, high: f64| Difference { value, interval: Interval { low, high } }.sequences_needed(40);
    // An arm of 0.1 where 0.05 are left: four times the sequences.
    assert_eq!(needed(-0.075, 0.025, 0.125), Some(160));
    assert_eq!(needed(-0.125, -0.025, 0.075), Some(160));
    assert_eq!(needed(0.075, 0.175, 0.275), Some(160));
    assert_eq!(needed(-0.275, -0.175, -0.075), Some(160));
    // Both thresholds are crossed: the wider need counts.
    assert_eq!(needed(-0.15, 0.0, 0.3), Some(640));
    assert_eq!(needed(-0.01, 0.065, 0.13), Some(1700));
    // At a threshold and between the two no number would do, and what is decided needs no more than any verdict.
    assert_eq!(needed(0.0, AGREE, 0.2), None);
    assert_eq!(needed(0.09, 0.1, 0.11), None);
    assert_eq!(needed(0.1, DIFFER, 0.3), None);
    assert_eq!(needed(-0.01, 0.0, 0.01), Some(MIN_SEQUENCES));
}

#[test]
fn too_little_to_go_by_leaves_it_undecided_and_says_what_to_do() {
    let few = judged_of(MIN_SEQUENCES - 1, MIN_REPLICATES, |_| ());
    assert_eq!(few.outcome, Outcome::Undecided);
    assert_eq!(few.sequences_needed, Some(MIN_SEQUENCES));
    assert!(few.text.contains("31 sequences are too few: give 32 or more"), "{}", few.text);

    let hasty = judged_of(40, MIN_REPLICATES - 1, |_| ());
    assert_eq!(hasty.outcome, Outcome::Undecided);
    assert!(hasty.text.contains("--resamples 1000"), "{}", hasty.text);

    let constant = judged(all(|s| (s.sse, s.sst) = (50.0, 0.0)));
    assert_eq!((constant.outcome, kinds(&constant)), (Outcome::Undecided, vec![WarningKind::ConstantActivations]));
    assert!(constant.comparisons[0].difference.is_none(), "{:?}", constant.comparisons);
    assert!(constant.text.contains("R² is undefined here"), "{}", constant.text);

    // One sequence in twenty is not this model's text, and weighs so much that in some resamples the mean activation costs less than
    // the model itself.
    let at = std::cell::Cell::new(0);
    let torn = judged(|subsets| {
        at.set(at.get() + 1);
        let (own, mean) = if at.get() % 20 == 0 { (4000.0, 80.0) } else { (300.0, 600.0) };
        subsets.iter_mut().for_each(|s| (s.ce_orig, s.ce_mean, s.ce_zero) = (own, mean, 9000.0));
    });
    assert_eq!((torn.outcome, torn.comparisons[0].interval_95), (Outcome::Undecided, None), "{}", torn.text);
    assert!(torn.text.contains("In some of the resamples"), "{}", torn.text);

    // What is plain needs no interval.
    let useless = judged_of(4, MIN_REPLICATES, all(|s| (s.sse, s.ce_recon) = (2300.0, 700.0)));
    assert_eq!((useless.outcome, kinds(&useless)), (Outcome::Useless, vec![WarningKind::FewSequences]));
}

#[test]
fn a_few_tokens_may_carry_the_variance() {
    let found = judged(|subsets| {
        let without = &mut subsets[Subset::NoOutlier.index()];
        (without.sst, without.tokens) = (40.0, 98.0);
    });
    assert_eq!((found.outcome, rules(&found)), (Outcome::Agree, vec![(Rule::MassiveTokens, Outcome::Overstates)]));
    let reason = &found.reasons[0];
    assert!(reason.difference > 0.29 && reason.interval_95[0] > GAP, "{reason:?}");
    for part in ["A few tokens raise R²", "2.0 % of the tokens", "60.0 % of the variance"] {
        assert!(reason.text.contains(part), "{}", reason.text);
    }
    let first = judged(|subsets| subsets[Subset::NoFirst.index()].sse = 1.0);
    assert_eq!(rules(&first), [(Rule::FirstTokens, Outcome::Understates)]);
    assert!(first.reasons[0].text.contains("lower R²"), "{}", first.reasons[0].text);
}

#[test]
fn where_errors_lie_is_said_where_r2_and_behaviour_differ() {
    let lost = |fwd: f64| {
        judged(move |subsets| {
            subsets[0].ce_recon *= 1.4;
            subsets[0].fwd = fwd;
        })
    };
    let found = lost(50.0);
    assert_eq!(found.outcome, Outcome::Overstates);
    assert!(found.text.contains("errors lie where the loss is sensitive."), "{}", found.text);
    assert!(lost(0.5).text.contains("where the loss is less sensitive."), "{}", lost(0.5).text);
    assert!(!judged(|_| ()).text.contains("sensitive"));
}

#[test]
fn a_disastrous_ablation_flatters_the_loss_score_but_not_r2() {
    let found = judged(all(|s| s.ce_zero = 3000.0));
    assert_eq!((found.outcome, rules(&found)), (Outcome::Agree, vec![(Rule::ZeroAblation, Outcome::Overstates)]));
    assert_eq!(found.reasons[0].about, "ce_loss_score");
    assert!(found.text.contains("zeros cost 30.30 nats and the mean activation 6.061"), "{}", found.text);
}

#[test]
fn what_is_uncertain_is_no_reason() {
    // Half of the sequences say one thing, half the other: the mean differs by more than the gap, but may be 0.
    let toggle = std::cell::Cell::new(false);
    let torn = judged(|subsets| {
        toggle.set(!toggle.get());
        subsets[Subset::NoOutlier.index()].sse = if toggle.get() { 0.0 } else { 70.0 };
    });
    assert_eq!(rules(&torn), []);
}

#[test]
fn an_outcome_is_written_as_one_word() {
    let json = serde_json::to_value(judged(|_| ())).unwrap();
    assert_eq!((&json["outcome"], &json["agree_within"]), (&"agree".into(), &AGREE.into()));
    assert_eq!(json["comparisons"][1]["score"], "ce_rec_pooled");
    assert!(json["sequences_needed"].is_null());
    assert_eq!(serde_json::to_value(Outcome::ForeignTokens).unwrap(), "foreign_tokens");
}
