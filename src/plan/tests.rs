//! Of plans of two small models: in which order work is done, and what it is known by.

use super::*;
use crate::record::GeometryKey;
use crate::runner::made::MadeSweep;

fn names(plan: &Plan) -> Vec<String> {
    plan.groups().map(|(_, group)| group.name()).collect()
}

fn ids(group: &Group) -> Vec<&str> {
    group.runs.iter().map(|run| run.id.as_str()).collect()
}

/// By model with its controls, and by budget, as the spec lists them; a group by site, seed and k, and then again its controls.
#[test]
fn groups_and_runs_have_the_order_of_the_spec() {
    let made = MadeSweep::new(&[]);
    let mut expected = Vec::new();
    for model in ["a", "a-random-model", "b", "b-random-model"] {
        expected.extend([128, 64].map(|tokens| format!("{model}-{tokens}tokens")));
    }
    assert_eq!(names(&made.plan), expected);
    let of = |run: &Run| {
        let k = run.key.train.architecture.k().unwrap();
        (run.key.control, run.depth.clone(), run.key.seed, k as u64)
    };
    let mut all = Vec::new();
    for control in [None, Some(SweepControl::PermutedDecoder)] {
        for depth in ["early", "mid"] {
            for seed in [0, 1] {
                all.extend([2, 4].map(|k| (control, depth.to_owned(), seed, k)));
            }
        }
    }
    let group = made.group("a-128tokens");
    assert_eq!(group.runs.iter().map(of).collect::<Vec<_>>(), all);
    // What is a control already has none.
    let random = made.group("b-random-model-64tokens");
    let expected: Vec<_> = all[..8]
        .iter()
        .map(|(_, depth, seed, k)| (Some(SweepControl::RandomModel), depth.clone(), *seed, *k))
        .collect();
    assert_eq!(random.runs.iter().map(of).collect::<Vec<_>>(), expected);
}

#[test]
fn a_group_goes_by_its_number_or_its_name() {
    let made = MadeSweep::new(&[]);
    for (at, name) in names(&made.plan).iter().enumerate() {
        let found = |wanted: &str| made.plan.group(wanted).unwrap().1.name();
        assert_eq!([found(name), found(&at.to_string())], [name.as_str(); 2]);
    }
    for wanted in ["8", "a", "c-64tokens", "-1"] {
        let error = made.plan.group(wanted).err().unwrap().to_string();
        assert!(error.contains(&format!("--group {wanted}: ")) && error.contains("1 (a-64tokens)"), "{error}");
    }
    for site in ["", "mid", "blocks.1.hook_resid_post,blocks.1"] {
        let error = made.plan.group(&format!("a-64tokens@{site}")).err().unwrap().to_string();
        let other = site.rsplit(',').next().unwrap();
        let expected = format!("a-64tokens has no site `{other}`; there are blocks.1.hook_resid_post, blocks.");
        assert!(error.contains(&expected), "{error}");
    }
}

#[test]
fn a_group_is_the_sum_of_its_parts() {
    let made = MadeSweep::new(&["hooks=['resid_post', 'mlp_out']"]);
    let outline = made.outline("# of\nspec");
    for ((model, group), outlined) in made.plan.groups().zip(&outline.groups) {
        let sites = group.sites();
        assert_eq!((sites.len(), &sites), (4, &outlined.sites()));
        assert_eq!(outlined.id(), group.id());
        for places in [&[0][..], &[1], &[3], &[0, 1], &[3, 0], &[0, 1, 2, 3]] {
            let chosen: Vec<String> = places.iter().map(|&at| sites[at].clone()).collect();
            let part = group.part(&chosen);
            let is_of = |run: &&Run| places.iter().any(|&at| run.key.hook == sites[at]);
            let of: Vec<&str> = group.runs.iter().filter(is_of).map(|run| run.id.as_str()).collect();
            assert_eq!(ids(&part), of);
            // What is the model's alone is left out of no part, and in one alone.
            assert_eq!(model.is_first(&part), model.is_first(group) && places.contains(&3));
            assert_eq!(model.audits_sites(&part), model.is_first(group));
            // The command line finds it, in whatever order its sites are; what is known without models is the same.
            let (_, found) = made.plan.group(&format!("{}@{}", group.name(), chosen.join(","))).unwrap();
            let outlined = outlined.part(&chosen);
            assert_eq!([&found.name(), &outlined.name], [&part.name(); 2]);
            assert_eq!([found.id(), outlined.id()], [part.id(), part.id()]);
            assert_eq!(part.name() == group.name(), places.len() == 4);
        }
    }
}

/// So that what is done already is not done again, whatever the spec asks for besides and whatever it calls it.
#[test]
fn a_run_is_known_by_what_changes_its_numbers() {
    let made = MadeSweep::new(&[]);
    let [ours, budget] = ["a-128tokens", "a-64tokens"].map(|name| ids(made.group(name)));
    assert!(ours.iter().all(|id| !budget.contains(id)));
    let same = |overrides: &[&str], name: &str| {
        let other = MadeSweep::new(overrides);
        let theirs: Vec<String> = ids(other.group(name)).iter().map(|&id| id.to_owned()).collect();
        theirs.iter().filter(|id| ours.contains(&id.as_str())).count()
    };
    assert_eq!(same(&["name=other", "eval.resamples=200", "training_tokens=[64, 128]"], "a-128tokens"), 16);
    assert_eq!(same(&["models.a.name=c"], "c-128tokens"), 16, "the weights say which model it is");
    assert_eq!(same(&["k=[4, 8]"], "a-128tokens"), 8);
    assert_eq!(same(&["seeds=[1, 2, 3]", "controls=[]"], "a-128tokens"), 4);
    assert_eq!(same(&["train.lr=1e-3"], "a-128tokens"), 0);
    assert_eq!(same(&["eval.sequences=3"], "a-128tokens"), 0);
}

#[test]
fn models_of_the_same_weights_are_refused() {
    let made = MadeSweep::new(&[]);
    let path = made.spec.models[1].path.clone().unwrap();
    let mut spec = made.spec.clone();
    spec.models[0].path = Some(path);
    let sources = crate::fetch::sources(&spec, Progress::Quiet).unwrap();
    let opened = crate::device::open("cpu").unwrap();
    let error = Plan::open(&spec, &sources, &opened, Progress::Quiet).err().unwrap().to_string();
    assert!(error.contains("models `a` and `b` have the same weights"), "{error}");
}

/// A plan in a file has the groups, and what the first of each model measures besides; and it knows the spec that it was made of.
#[test]
fn an_outline_is_the_plan_without_models() {
    let made = MadeSweep::new(&[]);
    let results = made.results("results");
    let outline = Outline::read(&results).unwrap().unwrap();
    assert_eq!(outline.groups.iter().map(|group| group.name.clone()).collect::<Vec<_>>(), names(&made.plan));
    for ((model, group), of) in made.plan.groups().zip(&outline.groups) {
        assert_eq!(of.runs.iter().map(|run| run.key.id()).collect::<Vec<_>>(), ids(group));
        let first = model.control.is_none() && group.training_tokens == 128;
        assert_eq!(of.geometry, first.then(|| GeometryKey::of(&group.runs[0].key).id()));
    }
    assert!(outline.is_of_recorded(&results));
    let recorded = results.join("sweep.toml");
    let text = std::fs::read_to_string(&recorded).unwrap();
    std::fs::write(&recorded, text.replace("made.toml", "moved.toml")).unwrap();
    assert!(outline.is_of_recorded(&results), "from where it came changes nothing");
    std::fs::write(&recorded, text.replace("k = [2, 4]", "k = [2]")).unwrap();
    assert!(!outline.is_of_recorded(&results));
}
