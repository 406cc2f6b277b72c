//! Texts that end with one of several classes, which have an order.

use anyhow::{Result, bail, ensure};

use crate::probe::Labelled;

/// Texts, and classes in order, the last of which is followed by the first.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is called.
    pub name: String,
    /// The classes in their order.
    pub classes: Vec<String>,
    /// The texts.
    pub texts: Vec<String>,
    /// The class of each, by its place in the order.
    pub labels: Vec<usize>,
    /// What makes a model name a class behind a text; `None`: it is not asked.
    pub then: Option<String>,
}

const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// What stands before a weekday.
const BEFORE_WEEKDAYS: [&str; 16] = [
    "Today is",
    "The meeting was moved to",
    "She arrived late on",
    "The shop is closed every",
    "We will see each other next",
    "The report is due on",
    "It has been raining since",
    "The concert was held last",
    "Let's have dinner on",
    "The museum opens at nine on",
    "He always calls his mother on",
    "The train does not run on",
    "My favourite day of the week is",
    "The exam will take place on",
    "They painted the house on",
    "The letter was sent on",
];
/// What stands before a month.
const BEFORE_MONTHS: [&str; 16] = [
    "The wedding will be in",
    "She was born in",
    "The museum was opened in",
    "We are going on holiday in",
    "The harvest begins in",
    "It rained every day in",
    "The new law comes into force in",
    "Their son moved out in",
    "The coldest nights were in",
    "Prices rose again in",
    "The festival takes place every",
    "He lost his job in",
    "The bridge was finished in",
    "The birds come back in",
    "The course starts in",
    "The house was sold in",
];

impl Case {
    /// Cases that need no file: `weekdays` and `months`, sixteen sentences of each class.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn ready(name: &str) -> Result<Self> {
        let (classes, before, then): (&[&str], &[&str], _) = match name {
            "weekdays" => (&WEEKDAYS, &BEFORE_WEEKDAYS, ". The day after that is"),
            "months" => (&MONTHS, &BEFORE_MONTHS, ". The month after that is"),
            _ => bail!("there is no case `{name}`; there are weekdays and months"),
        };
        let pairs = || before.iter().flat_map(|before| classes.iter().enumerate().map(move |of| (before, of)));
        Ok(Self {
            name: name.to_owned(),
            classes: classes.iter().map(|&class| class.to_owned()).collect(),
            texts: pairs().map(|(before, (_, class))| format!("{before} {class}")).collect(),
            labels: pairs().map(|(_, (label, _))| label).collect(),
            then: Some(then.to_owned()),
        })
    }

    /// Labelled texts, their classes put in the given order.
    ///
    /// # Errors
    /// If the order does not name each class once.
    pub fn ordered(texts: Labelled, order: &[String], then: Option<String>) -> Result<Self> {
        let place = |class: &String| order.iter().position(|known| known == class);
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        let mut classes = texts.classes.clone();
        classes.sort_unstable();
        ensure!(
            sorted == classes,
            "--order names {}, and the labels are {}; name each once, in the order in which they go around",
            order.join(", "),
            texts.classes.join(", ")
        );
        let places: Vec<usize> = texts.classes.iter().filter_map(place).collect();
        Ok(Self {
            name: texts.name,
            classes: order.to_vec(),
            labels: texts.labels.iter().map(|&label| places[label]).collect(),
            texts: texts.texts,
            then,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_put_in_their_order() {
        let rows = ["b", "a", "c", "a"].map(|label| (format!("text of {label}"), label.to_owned(), None));
        let texts = Labelled::new("s", rows).unwrap();
        let order = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let case = Case::ordered(texts.clone(), &order(&["c", "a", "b"]), None).unwrap();
        assert_eq!((case.labels, case.classes), (vec![2, 1, 0, 1], order(&["c", "a", "b"])));
        for wrong in [&["a", "b"][..], &["a", "b", "b"], &["a", "b", "d"]] {
            let error = Case::ordered(texts.clone(), &order(wrong), None).unwrap_err().to_string();
            assert!(error.contains("name each once"), "{error}");
        }
        let weekdays = Case::ready("weekdays").unwrap();
        assert_eq!((weekdays.texts.len(), weekdays.labels[8]), (16 * 7, 1));
        assert!(weekdays.texts.iter().zip(&weekdays.labels).all(|(text, &at)| text.ends_with(&weekdays.classes[at])));
        assert!(Case::ready("years").is_err());
    }
}
