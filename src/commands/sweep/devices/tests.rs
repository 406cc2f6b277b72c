//! Workers are processes that say what a worker says, and work by copying records that were made up.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::plan::Group;
use crate::record::RunRecord;
use crate::runner::made::MadeSweep;

#[test]
fn devices_are_names_and_are_told_apart() {
    assert_eq!(named("cpu").unwrap(), ["cpu"]);
    assert_eq!(named("cpu, cpu").unwrap(), ["cpu", "cpu"]);
    let cards = named("cuda:0,cuda:1");
    match device::backends().contains(&"cuda") {
        true => assert_eq!(cards.unwrap(), ["cuda:0", "cuda:1"]),
        false => assert!(format!("{:#}", cards.unwrap_err()).contains("`cuda:0`: this build lacks it")),
    }
    for text in ["", "cpu,", "cpu,tpu", "cuda:x"] {
        let error = format!("{:#}", named(text).unwrap_err());
        assert!(error.contains("--devices"), "{error}");
    }
    let names = ["cpu", "cuda:0", "cpu"].map(str::to_owned);
    assert_eq!(labels(&names), ["cpu #1", "cuda:0", "cpu #2"]);
}

/// A worker: for each order a line in the file `$LOG`, and then what is to come of it. Where its input ends, it ends.
const WORKER: &str = r#"
printf '{"opened":{"class":"%s"}}\n"ready"\n' "$CLASS"
while read -r order; do
    group=${order#*'"group":"'}; group=${group%%'"'*}
    echo "$group" >> "$LOG"
    case "$group" in
    $HELD) if [ -e "$LOG.held" ]; then
            cp "$MADE/$group/runs/"* "$RESULTS/runs/"; printf '{"done":"%s"}\n' "$group"
        else
            touch "$LOG.held"; (sleep "$LATE"; mv "$RESULTS/left" "$RESULTS/.state") > /dev/null &
            [ "$LATE" != 0 ] || wait
            printf '{"held":"%s"}\n' "$group"
        fi ;;
    $FAILS) printf '{"failed":{"group":"%s","error":"the text is damaged"}}\n' "$group" ;;
    $DIES) echo "a last word" >&2; exit 3 ;;
    *) case "$group" in b-*) sleep "$SLOW" ;; esac
        cp "$MADE/$group/runs/"* "$RESULTS/runs/"; printf '{"done":"%s"}\n' "$group" ;;
    esac
done
"#;

/// What groups come to, by a pattern of their names; none matches nothing.
#[derive(Clone, Copy, Default)]
struct Fate<'a> {
    fails: &'a str,
    dies: &'a str,
    /// Once; `late` seconds later the states are there that lie in `left`.
    held: &'a str,
    late: u32,
    /// Seconds that groups of the second model take.
    slow: u32,
}

/// A sweep of which each group was carried out in a directory of its own, from which workers take it.
struct Dealt {
    made: MadeSweep,
    results: PathBuf,
    log: PathBuf,
}

impl Dealt {
    fn new() -> Self {
        Self::of(&["k=[2]", "seeds=[0]", "controls=['random-model']"])
    }

    fn of(overrides: &[&str]) -> Self {
        let made = MadeSweep::new(overrides);
        let results = made.results("results");
        let log = results.join("log");
        for (_, group) in made.plan.groups() {
            let sites = group.sites();
            let some = (1..1_u32 << sites.len()).map(|bits| (0..sites.len()).filter(move |at| bits >> at & 1 == 1));
            for chosen in some.map(|chosen| chosen.map(|at| sites[at].clone()).collect::<Vec<_>>()) {
                let part = group.part(&chosen);
                made.carry_out(&part, &made.results(&format!("made/{}", part.name())));
            }
        }
        Self { made, results, log }
    }

    fn deal(&self, devices: &[&str], fate: Fate<'_>, stop: &dyn Fn() -> bool) -> Result<()> {
        let devices: Vec<String> = devices.iter().map(|&name| name.to_owned()).collect();
        let command = |device: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", WORKER]).env("CLASS", device.split_once(':').map_or(device, |(class, _)| class));
            command
                .env("LOG", &self.log)
                .env("MADE", self.results.with_file_name("made"))
                .env("RESULTS", &self.results);
            command.env("LATE", fate.late.to_string()).env("SLOW", fate.slow.to_string());
            command.env("FAILS", fate.fails).env("DIES", fate.dies).env("HELD", fate.held);
            command
        };
        deal_until(&devices, command, &self.results, Progress::Quiet, stop)
    }

    /// The groups that workers were given since this was asked last.
    fn given(&self) -> Vec<String> {
        let given = fs::read_to_string(&self.log).unwrap_or_default();
        _ = fs::remove_file(&self.log);
        given.lines().map(str::to_owned).collect()
    }

    fn is_done(&self, group: &Group) -> bool {
        group.runs.iter().all(|run| RunRecord::path(&self.results, &run.id).exists())
    }

    /// Leaves the state of a group, or of its part at some places of its sites.
    fn begin(&self, group: &str, places: &[usize]) -> PathBuf {
        self.made.begin(group, places, &self.results)
    }

    /// The names of groups that are done.
    fn done(&self) -> Vec<String> {
        self.made.plan.groups().filter(|(_, group)| self.is_done(group)).map(|(_, group)| group.name()).collect()
    }
}

#[test]
fn the_largest_group_comes_first_and_each_once() {
    let sweep = Dealt::new();
    sweep.deal(&["cpu"], Fate::default(), &|| false).unwrap();
    let given = sweep.given();
    let large = ["a-128tokens", "a-random-model-128tokens", "b-128tokens", "b-random-model-128tokens"];
    assert_eq!(given[..4], large, "those of the larger budget, in the plan's order");
    assert_eq!(given[4..], large.map(|name| name.replace("128", "64")));
    assert_eq!(sweep.done().len(), 8);
    // Two share them, and none is done twice.
    let sweep = Dealt::new();
    sweep.deal(&["cpu", "cpu"], Fate::default(), &|| false).unwrap();
    let mut shared = sweep.given();
    shared.sort();
    let mut all = given;
    all.sort();
    assert_eq!(shared, all);
}

/// A group that is more than a device's share is dealt by sites; one that somebody has begun to train goes on as it was begun.
#[test]
fn a_large_group_is_dealt_by_sites() {
    let overrides = ["k=[2]", "seeds=[0]", "controls=[]", "models.a.training_tokens=[256]", "training_tokens=[64]"];
    let sweep = Dealt::of(&overrides);
    let [early, mid] = [0, 1].map(|at| sweep.made.parts("a-256tokens")[at].name());
    assert!(early.ends_with("@blocks.1.hook_resid_post"), "{early}");
    let whole = ["a-256tokens", "b-64tokens"].map(str::to_owned);
    let deal = |sweep: &Dealt, devices: &[&str]| {
        sweep.deal(devices, Fate::default(), &|| false).unwrap();
        let mut given = sweep.given();
        given.sort();
        given
    };
    assert_eq!(deal(&sweep, &["cpu"]), whole);
    assert_eq!(deal(&sweep, &["cpu", "cpu"]).len(), 2, "nothing is left of either");
    let sweep = Dealt::of(&overrides);
    assert_eq!(deal(&sweep, &["cpu", "cpu"]), [early.clone(), mid.clone(), whole[1].clone()]);
    assert_eq!(sweep.done(), whole);
    let sweep = Dealt::of(&overrides);
    sweep.begin("a-256tokens", &[1]);
    assert_eq!(deal(&sweep, &["cpu"]), [early, mid, whole[1].clone()]);
    let sweep = Dealt::of(&overrides);
    sweep.begin("a-256tokens", &[]);
    assert_eq!(deal(&sweep, &["cpu", "cpu"]), whole);
}

/// Sites that go to one device go together, and leave the first to another.
#[test]
fn sites_on_one_device_share_a_capture() {
    let hooks = "hooks=['resid_pre', 'mlp_out', 'resid_post']";
    let overrides = ["depths=['early']", hooks, "k=[2]", "seeds=[0]", "controls=[]", "models.a.training_tokens=[256]"];
    // The other group is a little more than a site.
    let overrides = [&overrides[..], &["training_tokens=[96]", "train.batch_size=16"]].concat();
    let shares = |sweep: &Dealt, devices: usize| {
        let outline = Outline::read(&sweep.results).unwrap().unwrap();
        let mut shares: Vec<String> =
            dealt(&sweep.results, &outline.groups, devices, &|_| ()).into_iter().map(|group| group.name).collect();
        shares.sort();
        shares
    };
    let sweep = Dealt::of(&overrides);
    let sites = sweep.made.group("a-256tokens").sites();
    let part = |places: &[usize]| {
        let of = places.iter().map(|&at| sites[at].as_str()).collect::<Vec<_>>();
        format!("a-256tokens@{}", of.join(","))
    };
    let with_other = |parts: &[&[usize]]| {
        let mut names: Vec<String> = parts.iter().map(|places| part(places)).collect();
        names.push("b-96tokens".to_owned());
        names.sort();
        names
    };
    assert_eq!(shares(&sweep, 1), ["a-256tokens", "b-96tokens"]);
    assert_eq!(shares(&sweep, 2), with_other(&[&[0], &[1, 2]]));
    assert_eq!(shares(&sweep, 4), with_other(&[&[0], &[1], &[2]]));
    // Begun by as many others; what is not begun goes together.
    sweep.begin("a-256tokens", &[1]);
    assert_eq!(shares(&sweep, 1), with_other(&[&[0, 2], &[1]]));
    sweep.begin("a-256tokens", &[0, 2]);
    assert_eq!(shares(&sweep, 3), with_other(&[&[0, 2], &[1]]));
    // One that is damaged says nothing of whose it is.
    std::fs::write(sweep.begin("a-256tokens", &[0, 2]).join("group.json"), "{").unwrap();
    assert_eq!(shares(&sweep, 4), with_other(&[&[0], &[1], &[2]]));
}

/// An earlier sweep's worker, whose own parent was killed, saves all of a group while a part of it is asked for: all of it goes on from there,
/// also where that takes longer than it takes to ask again, while all workers have other work.
#[test]
fn what_another_process_leaves_of_a_group_is_gone_on_with() {
    let overrides =
        ["k=[2]", "seeds=[0]", "controls=[]", "models.a.training_tokens=[256]", "training_tokens=[64, 128]"];
    for (late, slow) in [(0, 0), (2, 4)] {
        let sweep = Dealt::of(&overrides);
        let [early, mid] = [0, 1].map(|at| sweep.made.parts("a-256tokens")[at].name());
        sweep.begin("a-256tokens", &[]);
        fs::rename(sweep.results.join(".state"), sweep.results.join("left")).unwrap();
        let fate = Fate { held: &early, late, slow, ..Fate::default() };
        sweep.deal(&["cpu", "cpu"], fate, &|| false).unwrap();
        let mut given = sweep.given();
        given.sort();
        let whole = ["a-256tokens", "b-128tokens", "b-64tokens"].map(str::to_owned);
        let [a, rest @ ..] = whole.clone();
        assert_eq!(given, [&[a, early, mid], &rest[..]].concat(), "{late} s");
        let mut done = sweep.done();
        done.sort();
        assert_eq!(done, whole);
    }
}

#[test]
fn what_is_left_of_a_sweep_is_dealt_before_what_is_done() {
    let sweep = Dealt::new();
    let [done, failed] = ["a-128tokens", "b-128tokens"].map(|name| sweep.made.group(name));
    sweep.made.carry_out(done, &sweep.results);
    failed.runs.iter().for_each(|run| sweep.made.fail(failed, run, &sweep.results));
    sweep.deal(&["cpu"], Fate::default(), &|| false).unwrap();
    let given = sweep.given();
    assert_eq!(given[..2], ["a-random-model-128tokens", "b-random-model-128tokens"]);
    assert_eq!(given[6..], ["a-128tokens", "b-128tokens"], "nothing is left of them");
}

#[test]
fn a_group_that_fails_does_not_stop_the_others() {
    let sweep = Dealt::new();
    let error = sweep
        .deal(&["cpu", "cpu"], Fate { fails: "b-128tokens", ..Fate::default() }, &|| false)
        .unwrap_err()
        .to_string();
    assert!(error.contains("not all groups are finished; the same command tries them again"), "{error}");
    assert!(error.contains("b-128tokens: the text is damaged") && !error.contains("a-128tokens"), "{error}");
    assert_eq!((sweep.given().len(), sweep.done().len()), (8, 7));
    assert!(!sweep.is_done(sweep.made.group("b-128tokens")));
    // The same command does what is left first.
    sweep.deal(&["cpu"], Fate::default(), &|| false).unwrap();
    assert_eq!((sweep.given()[0].as_str(), sweep.done().len()), ("b-128tokens", 8));
}

#[test]
fn a_group_that_kills_its_workers_is_given_up() {
    let sweep = Dealt::new();
    let error = sweep
        .deal(&["cpu", "cpu"], Fate { dies: "a-128tokens", ..Fate::default() }, &|| false)
        .unwrap_err()
        .to_string();
    assert!(error.contains("while it worked on a-128tokens, as 1 before: a last word"), "{error}");
    let given = sweep.given();
    assert_eq!((given.iter().filter(|group| *group == "a-128tokens").count(), given.len()), (ATTEMPTS, 7 + ATTEMPTS));
    assert_eq!(sweep.done().len(), 7);
}

#[test]
fn workers_of_different_classes_are_refused() {
    let sweep = Dealt::new();
    let error = sweep.deal(&["cpu", "cuda-sm90:0"], Fate::default(), &|| false).unwrap_err().to_string();
    assert!(error.contains("the runs of a sweep are of one class of devices"), "{error}");
}

/// Between two groups: what is done stays, what is not begun is not, and the same command resumes.
#[test]
fn an_interrupt_between_groups_leaves_the_others() {
    let sweep = Dealt::new();
    let first = sweep.made.group("a-128tokens");
    let error = sweep.deal(&["cpu"], Fate::default(), &|| sweep.is_done(first)).unwrap_err();
    assert!(error.is::<Interrupted>() && error.to_string().contains("the same command resumes"), "{error}");
    let mut done = sweep.done();
    assert!(done.contains(&"a-128tokens".to_owned()) && done.len() < 8, "{done:?}");
    done.sort();
    let mut given = sweep.given();
    given.sort();
    assert_eq!(given, done);
    sweep.deal(&["cpu"], Fate::default(), &|| false).unwrap();
    let given = sweep.given();
    assert!(given[..8 - done.len()].iter().all(|group| !done.contains(group)), "{given:?}");
    assert_eq!(sweep.done().len(), 8);
}
