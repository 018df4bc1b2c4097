//! What a broken promise is told by: the words with which the simulator and the fixed steps complain of it.

/// What the store promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// What was acknowledged as durable is there.
    Durable,
    /// What was invalidated, replaced, dropped or has expired is not there any more.
    Gone,
    /// What is given is what was written, also while it is held.
    Whole,
    /// Nothing is called damaged that a crash alone can leave.
    Sound,
    /// Numbers only grow.
    Numbers,
    /// Time passes no faster than is believed.
    Time,
    /// What may always be done is not refused.
    Willing,
}

impl Promise {
    /// Of the first line of a complaint, any of these.
    const fn words(self) -> &'static [&'static str] {
        match self {
            Self::Durable => &["gives nothing at", "is missing at", "what was durable is gone"],
            Self::Gone => &[
                "is back",
                "cannot be the winner",
                "but Sight { hidden: Yes",
                "a bucket left twice",
                "what is denied was taken",
            ],
            Self::Whole => &[
                "wrong bytes",
                "the value of another key",
                "a held value changed",
                "bytes changed that are held",
                "what was stored is not whole",
                "the neighbour is gone",
                SHOWN_UNWRITTEN,
            ],
            Self::Sound => &["RecoveryReport {", "Problem {"],
            Self::Numbers => &["is not above"],
            Self::Time => &["more was believed than the budget allows"],
            Self::Willing => &["no space left to write"],
        }
    }
}

/// What a disk in memory says, which stands in the engine itself.
const SHOWN_UNWRITTEN: &str = "a window shows bytes that are not written yet";

/// A complaint.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) text: String,
    /// The file that it comes from.
    pub(crate) file: String,
}

impl Finding {
    fn first_line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// True if the engine itself has panicked, as it never may, whatever mistake was made.
    pub(crate) fn is_of_the_engine(&self) -> bool {
        !self.file.starts_with("tests/") && !self.first_line().contains(SHOWN_UNWRITTEN)
    }

    /// True if it is about one of these promises.
    pub(crate) fn is_about(&self, promises: &[Promise]) -> bool {
        let words = promises.iter().flat_map(|promise| promise.words());
        !self.is_of_the_engine() && words.into_iter().any(|word| self.first_line().contains(word))
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text: String = self.text.chars().take(160).collect();
        write!(f, "{}: {text}", self.file)
    }
}
