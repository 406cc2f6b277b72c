//! One class against the others: which texts are fitted on and which tested.

use assay_probes::probing::{Split, balanced, stratified};

use super::labelled::Labelled;

/// How rows are chosen.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Rows of a task, at most.
    pub most: usize,
    /// The share of them that is tested on.
    pub test_share: f64,
    /// Whether as many rows are taken of a class as of the others.
    pub balance: bool,
    /// Seed of the split.
    pub seed: u64,
}

/// A class against the others. Rows have numbers of their own here.
#[derive(Clone, Debug)]
pub struct Task {
    /// The set's name, and the class where there are more than two.
    pub name: String,
    /// The texts by their numbers in the set: those to fit on, then those to test.
    pub rows: Vec<usize>,
    /// Whether each is of the class.
    pub labels: Vec<bool>,
    /// The document of each, numbered as in the set, or by [`numbered`].
    pub documents: Vec<usize>,
    /// Which are fitted on and which tested.
    pub split: Split,
}

/// A class needs so many rows to fit on, and to test.
const FEWEST: [usize; 2] = [8, 4];

/// The tasks of a set: one against the others for each class, or one of two classes, the second being positive. Of classes with too few texts
/// there is none, and a sentence instead.
pub fn tasks(set: &Labelled, wanted: Wanted) -> (Vec<Task>, Vec<String>) {
    let Wanted { most, test_share, balance, seed } = wanted;
    let split = stratified(&set.labels, &set.documents, 1.0 - test_share, seed);
    let test_most = (test_share * most as f64).round() as usize;
    let (mut tasks, mut notes) = (Vec::new(), Vec::new());
    let two = set.classes.len() == 2;
    for class in if two { 1..2 } else { 0..set.classes.len() } {
        let side = |rows: &[usize], most: usize| match balance {
            true => balanced(rows, &set.labels, class, most),
            false => rows[..rows.len().min(most)].to_vec(),
        };
        let (train, test) = (side(&split.train, most - test_most), side(&split.test, test_most));
        let name = if two { set.name.clone() } else { format!("{}: {}", set.name, set.classes[class]) };
        let fewest = |rows: &[usize]| {
            let own = rows.iter().filter(|&&row| set.labels[row] == class).count();
            own.min(rows.len() - own)
        };
        let found = [fewest(&train), fewest(&test)];
        if found[0] < FEWEST[0] || found[1] < FEWEST[1] {
            notes.push(format!(
                "{name} is left out: its smaller class has {} texts to fit on and {} to test, and needs {} and {}",
                found[0], found[1], FEWEST[0], FEWEST[1]
            ));
            continue;
        }
        let rows: Vec<usize> = train.iter().chain(&test).copied().collect();
        tasks.push(Task {
            name,
            labels: rows.iter().map(|&row| set.labels[row] == class).collect(),
            documents: rows.iter().map(|&row| set.documents[row]).collect(),
            split: Split { train: (0..train.len()).collect(), test: (train.len()..rows.len()).collect() },
            rows,
        });
    }
    (tasks, notes)
}

/// Numbers the documents of tasks from 0 on, the same in all of them, and gives how many they are.
pub fn numbered(tasks: &mut [Task]) -> usize {
    let mut all: Vec<usize> = tasks.iter().flat_map(|task| task.documents.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    for document in tasks.iter_mut().flat_map(|task| &mut task.documents) {
        *document = all.partition_point(|known| known < document);
    }
    all.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_three_classes_each_is_a_task_and_of_two_one() {
        let row = |at: usize, classes: usize| (format!("text {at}"), format!("c{}", at % classes), None);
        let set = |classes| Labelled::new("s", (0..120).map(|at| row(at, classes))).unwrap();
        let wanted = Wanted { most: 60, test_share: 0.25, balance: true, seed: 0 };
        let (mut three, notes) = tasks(&set(3), wanted);
        let documents = numbered(&mut three);
        let highest = three.iter().flat_map(|task| task.documents.iter().copied()).max();
        assert!(highest == Some(documents - 1) && documents <= 120);
        assert!(notes.is_empty());
        assert_eq!(three.iter().map(|task| task.name.as_str()).collect::<Vec<_>>(), ["s: c0", "s: c1", "s: c2"]);
        for task in &three {
            assert_eq!((task.split.train.len(), task.split.test.len()), (44, 14));
            assert_eq!(task.labels.iter().filter(|&&label| label).count(), 29);
        }
        let (two, _) = tasks(&set(2), Wanted { balance: false, ..wanted });
        assert_eq!((two.len(), two[0].name.as_str(), two[0].rows.len()), (1, "s", 60));
        let few = Labelled::new("f", (0..12).map(|at| row(at, 2))).unwrap();
        let (none, notes) = tasks(&few, wanted);
        assert!(none.is_empty() && notes[0].contains("f is left out"), "{notes:?}");
    }
}
