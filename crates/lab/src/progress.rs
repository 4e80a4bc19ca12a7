//! How far the lab is: a line for each step, with a spinner on a terminal.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// A step that is under way. Dropped unfinished, it stays on the screen as it was.
pub struct Step {
    text: String,
    begun: Instant,
    spinner: Option<ProgressBar>,
}

impl Step {
    /// Announces a step.
    pub fn begin(text: impl Into<String>) -> Self {
        let text = text.into();
        let spinner = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner:.cyan} {msg} {elapsed:.dim}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            let spinner = ProgressBar::new_spinner().with_style(style);
            spinner.set_message(text.clone());
            spinner.enable_steady_tick(Duration::from_millis(80));
            spinner
        });
        Self {
            text,
            begun: Instant::now(),
            spinner,
        }
    }

    /// Says that it is done, with what came of it.
    pub fn done(self, outcome: &str) {
        let spent = self.begun.elapsed().as_secs_f64();
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
        let outcome = if outcome.is_empty() {
            String::new()
        } else {
            format!(": {outcome}")
        };
        println!("✓ {}{outcome} ({spent:.1} s)", self.text);
    }
}
