//! What a user says of an SAE, and the account of what was said, assumed and left out.

use assay_sae::Normalization;

/// What a user says of an SAE; `None` is what its files say, or else the table.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given {
    /// Nothing is taken from the table.
    pub no_assumptions: bool,
    /// The factor of the inputs in training, if it is not in the weights.
    pub input_scale: Option<f64>,
    /// What is done to each input first.
    pub normalization: Option<Normalization>,
    /// Whether it was trained on activations without their mean over d_model.
    pub center_residual: Option<bool>,
    /// Whether it was trained on `attn.hook_z` without b_V.
    pub without_value_bias: Option<bool>,
    /// Tokens of a context in training.
    pub context_size: Option<usize>,
    /// Whether contexts began with BOS in training.
    pub prepend_bos: Option<bool>,
}

/// One thing: what was given, what the files say, and what the table would have it be.
pub(super) struct Choice<T> {
    pub given: Option<T>,
    pub files: Option<T>,
    pub assumed: Option<T>,
}

/// What was decided, in words.
pub(super) struct Account {
    no_assumptions: bool,
    assumed: Vec<String>,
    given: Vec<String>,
    left_out: Vec<String>,
}

impl Account {
    pub fn new(no_assumptions: bool) -> Self {
        Self { no_assumptions, assumed: Vec::new(), given: Vec::new(), left_out: Vec::new() }
    }

    /// The value that takes the place of what the files say, if one does. `tell` has it as a sentence.
    pub fn decide<T: PartialEq>(&mut self, choice: Choice<T>, tell: impl Fn(&T) -> String) -> Option<T> {
        match choice {
            Choice { given: Some(given), files, assumed } => {
                let own = tell(&given);
                let instead = match (files, assumed) {
                    (Some(files), _) if files != given => format!(" (its files say: {})", tell(&files)),
                    (None, Some(assumed)) if assumed != given => format!(" (assumed otherwise: {})", tell(&assumed)),
                    _ => String::new(),
                };
                self.given.push(own + &instead);
                Some(given)
            }
            Choice { files: None, assumed: Some(assumed), .. } if self.no_assumptions => {
                self.left_out.push(tell(&assumed));
                None
            }
            Choice { files: None, assumed: Some(assumed), .. } => {
                self.assumed.push(tell(&assumed));
                Some(assumed)
            }
            _ => None,
        }
    }

    /// The note of what was assumed since the last of these.
    pub fn assumed_of(&mut self, repository: &str, source: &str) -> Option<String> {
        let said = std::mem::take(&mut self.assumed);
        (!said.is_empty()).then(|| {
            let said = said.join(", ");
            format!("the files of {repository} don't say it, and it is assumed: {said}. Source: {source}")
        })
    }

    /// The note of what was given.
    pub fn given(&self) -> Option<String> {
        (!self.given.is_empty()).then(|| format!("given on the command line: {}", self.given.join(", ")))
    }

    /// The note of what is known of a repository and was not used.
    pub fn left_out(&self, repository: &str) -> Option<String> {
        (!self.left_out.is_empty()).then(|| {
            let said = self.left_out.join(", ");
            format!("--no-assumptions leaves out what is known of {repository}: {said}")
        })
    }
}
