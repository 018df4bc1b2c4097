//! Which time the engine believes: pure rules over readings of the two clocks.
//!
//! Engine time never goes back and is raised by the boot-time clock alone, or by a wall clock that
//! runs ahead by no more than a budget of one hour per day. A larger step ahead is *suspect*: what
//! was born before it is hidden as if it were true, but nothing is destroyed until the wall clock
//! has agreed with itself for a grace period, or someone confirms it. It knows no files: what must
//! survive a restart is a [`SavedTime`].

#[cfg(test)]
mod tests;

use super::BootId;
use crate::planted::{Bug, is_planted};

/// Steps kept apart; later ones are merged into the newest.
pub(crate) const MAX_STEPS: usize = 16;
/// Disagreement between the clocks that is taken for rounding, in milliseconds.
const TOLERANCE_MS: u64 = 1_000;
/// The slew budget when full: one hour.
const FULL_BUDGET_MS: u64 = 3_600_000;
/// Boot time that earns a millisecond of budget: an hour for a day.
const BUDGET_RATE: u64 = 24;
/// The time between two records of the engine time, and so the most that a power cut can hide.
pub(crate) const SAVE_INTERVAL_MS: u64 = 60_000;

/// A forward step of the wall clock that is not yet believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// How far it went.
    pub(crate) lead_ms: u64,
    /// For how long of boot time the wall clock has stood by it.
    pub(crate) agreed_ms: u64,
    /// The last sequence number given out before it.
    pub(crate) last_seq: u64,
}

/// The time was set back, and what was born in the future before may not all say yet that it leaves
/// sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Correction {
    /// What the time was set to.
    pub(crate) to_ms: u64,
    /// All files born before have numbers below this one, and none of those after.
    pub(crate) next_number: u64,
}

/// What of the engine time survives a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SavedTime {
    pub(crate) engine_ms: u64,
    pub(crate) wall_ms: u64,
    pub(crate) boot_ms: u64,
    pub(crate) boot_id: BootId,
    /// How far the wall clock is behind the engine.
    pub(crate) lag_ms: u64,
    /// Boot time not yet spent on slewing.
    pub(crate) earned_ms: u64,
    pub(crate) steps: Vec<Step>,
    pub(crate) correction: Option<Correction>,
}

/// One look at both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) wall_ms: u64,
    pub(crate) boot_ms: u64,
    pub(crate) boot_id: BootId,
}

/// The engine time and what it was concluded from.
#[derive(Debug, Clone)]
pub(crate) struct EngineTime {
    saved: SavedTime,
    grace_ms: u64,
}

impl EngineTime {
    /// The time of a new store: the wall clock is all there is.
    pub(crate) fn new(reading: Reading, grace_ms: u64) -> Self {
        let saved = SavedTime {
            engine_ms: reading.wall_ms,
            wall_ms: reading.wall_ms,
            boot_ms: reading.boot_ms,
            boot_id: reading.boot_id,
            lag_ms: 0,
            earned_ms: FULL_BUDGET_MS * BUDGET_RATE,
            steps: Vec::new(),
            correction: None,
        };
        Self { saved, grace_ms }
    }

    /// The time of a store whose record of it is lost: the wall clock's, but not before this.
    pub(crate) fn new_at_least(at_least_ms: u64, reading: Reading, grace_ms: u64) -> Self {
        let mut time = Self::new(reading, grace_ms);
        let lag_ms = at_least_ms.saturating_sub(reading.wall_ms);
        time.advance(lag_ms);
        time.saved.lag_ms = lag_ms;
        time
    }

    /// Goes on from what was saved. `last_seq` is the last sequence number ever given out. On another boot time
    /// is no earlier than what may have been shown since, whatever the wall clock says; that is nothing later if the
    /// store was closed in order.
    pub(crate) fn resume(
        saved: SavedTime,
        was_closed: bool,
        reading: Reading,
        last_seq: u64,
        grace_ms: u64,
    ) -> Self {
        let same_boot = reading.boot_id != BootId::default()
            && reading.boot_id == saved.boot_id
            && reading.boot_ms >= saved.boot_ms;
        let mut time = Self { saved, grace_ms };
        if same_boot {
            time.update(reading.wall_ms, reading.boot_ms, last_seq);
            return time;
        }
        let unknown = BootId::default();
        let are_told_apart = reading.boot_id != unknown && time.saved.boot_id != unknown;
        let unrecorded_ms = if was_closed { 0 } else { SAVE_INTERVAL_MS };
        let may_have_shown = time.saved.engine_ms.saturating_add(unrecorded_ms);
        let before = time.saved.wall_ms;
        time.saved.wall_ms = reading.wall_ms;
        time.saved.boot_ms = reading.boot_ms;
        time.saved.boot_id = reading.boot_id;
        if reading.wall_ms >= before {
            time.pass_closed(reading.wall_ms - before, last_seq);
        } else {
            time.step_back(before - reading.wall_ms);
        }
        // Where boots are not told apart it may be the same one, whose wall clock has gone on: each of many short
        // lives would add a minute.
        if are_told_apart || reading.wall_ms < before {
            time.raise(may_have_shown);
        }
        time
    }

    /// What must be written down now.
    pub(crate) fn saved(&self) -> &SavedTime {
        &self.saved
    }

    /// The engine time at a reading, if nothing about it needs recording.
    pub(crate) fn peek(&self, wall_ms: u64, boot_ms: u64) -> Option<u64> {
        let elapsed = boot_ms.checked_sub(self.saved.boot_ms)?;
        let expected = self.saved.wall_ms.saturating_add(elapsed);
        let ripens = |step: &Step| step.agreed_ms.saturating_add(elapsed) >= self.grace_ms;
        (Self::agrees(expected, wall_ms) && !self.saved.steps.iter().any(ripens))
            .then(|| self.saved.engine_ms.saturating_add(elapsed))
    }

    /// True if the wall clock is where it is expected, but for rounding.
    pub(crate) fn agrees(expected_ms: u64, wall_ms: u64) -> bool {
        expected_ms.abs_diff(wall_ms) <= TOLERANCE_MS
    }

    /// Takes a reading into account and gives the engine time.
    pub(crate) fn update(&mut self, wall_ms: u64, boot_ms: u64, last_seq: u64) -> u64 {
        let elapsed = boot_ms.saturating_sub(self.saved.boot_ms);
        self.saved.boot_ms = self.saved.boot_ms.max(boot_ms);
        self.advance(elapsed);
        let earned = self.saved.earned_ms.saturating_add(elapsed);
        self.saved.earned_ms = earned.min(FULL_BUDGET_MS * BUDGET_RATE);
        let expected = self.saved.wall_ms.saturating_add(elapsed);
        if Self::agrees(expected, wall_ms) {
            self.saved.wall_ms = expected;
            self.agree(elapsed);
        } else {
            self.saved.wall_ms = wall_ms;
            if wall_ms > expected {
                self.step_ahead(wall_ms - expected, last_seq);
            } else {
                self.step_back(expected - wall_ms);
            }
        }
        self.saved.engine_ms
    }

    /// The time by which a record of this sequence number is judged hidden: engine time, plus
    /// every suspect step that came after it was born.
    pub(crate) fn hiding_time(&self, engine_ms: u64, seq: u64) -> u64 {
        let leads = self.saved.steps.iter().filter(|step| step.last_seq >= seq);
        leads.fold(engine_ms, |time, step| time.saturating_add(step.lead_ms))
    }

    /// How far ahead the suspect steps are, all together.
    pub(crate) fn suspect_ms(&self) -> u64 {
        self.saved.steps.iter().fold(0, |sum, step| sum.saturating_add(step.lead_ms))
    }

    /// Believes all suspect steps.
    pub(crate) fn confirm(&mut self) {
        let lead = self.suspect_ms();
        self.advance(lead);
        self.saved.steps.clear();
    }

    /// Takes the wall clock's word, backwards too. Files born from now on have at least this number.
    pub(crate) fn reset(&mut self, wall_ms: u64, next_number: u64) {
        // What was saved of it may be off by the tolerance.
        self.saved.wall_ms = wall_ms;
        self.saved.engine_ms = wall_ms;
        self.saved.lag_ms = 0;
        self.saved.steps.clear();
        self.saved.correction = Some(Correction { to_ms: wall_ms, next_number });
    }

    /// All that was born in a future that was wrong says when it leaves.
    pub(crate) fn end_correction(&mut self) {
        self.saved.correction = None;
    }

    /// Raises the engine time to one that it is known to have reached. That confirms as much of the
    /// suspect steps; where there are none the wall clock is behind.
    pub(crate) fn raise(&mut self, at_least_ms: u64) {
        let mut missing = at_least_ms.saturating_sub(self.saved.engine_ms);
        self.advance(missing);
        for step in &mut self.saved.steps {
            let confirmed = step.lead_ms.min(missing);
            step.lead_ms -= confirmed;
            missing -= confirmed;
        }
        self.saved.steps.retain(|step| step.lead_ms > 0);
        self.saved.lag_ms = self.saved.lag_ms.saturating_add(missing);
    }

    fn advance(&mut self, by_ms: u64) {
        self.saved.engine_ms = self.saved.engine_ms.saturating_add(by_ms);
    }

    /// Time during which the machine may have been off: the wall clock alone tells of it.
    fn pass_closed(&mut self, mut by_ms: u64, last_seq: u64) {
        if self.saved.lag_ms > FULL_BUDGET_MS && by_ms >= self.saved.lag_ms {
            by_ms -= self.saved.lag_ms;
            self.saved.lag_ms = 0;
        }
        self.believe_or_suspect(by_ms, last_seq);
    }

    fn step_ahead(&mut self, by_ms: u64, last_seq: u64) {
        let caught_up = by_ms.min(self.saved.lag_ms);
        self.saved.lag_ms -= caught_up;
        self.believe_or_suspect(by_ms - caught_up, last_seq);
    }

    fn believe_or_suspect(&mut self, by_ms: u64, last_seq: u64) {
        if is_planted(Bug::ForwardStepBelieved) {
            return self.advance(by_ms);
        }
        if by_ms <= self.saved.earned_ms / BUDGET_RATE {
            self.saved.earned_ms -= by_ms * BUDGET_RATE;
            self.advance(by_ms);
            return;
        }
        let step = Step { lead_ms: by_ms, agreed_ms: 0, last_seq };
        let crowded = self.saved.steps.len() >= MAX_STEPS;
        match self.saved.steps.last_mut() {
            Some(newest) if crowded => {
                newest.lead_ms = newest.lead_ms.saturating_add(by_ms);
                newest.agreed_ms = 0;
                newest.last_seq = last_seq;
            }
            _ => self.saved.steps.push(step),
        }
    }

    fn step_back(&mut self, mut by_ms: u64) {
        while let Some(newest) = self.saved.steps.last_mut() {
            if newest.lead_ms > by_ms {
                newest.lead_ms -= by_ms;
                newest.agreed_ms = 0;
                return;
            }
            by_ms -= newest.lead_ms;
            self.saved.steps.pop();
        }
        self.saved.lag_ms = self.saved.lag_ms.saturating_add(by_ms);
    }

    fn agree(&mut self, elapsed_ms: u64) {
        for step in &mut self.saved.steps {
            step.agreed_ms = step.agreed_ms.saturating_add(elapsed_ms);
        }
        let ripe = self.saved.steps.iter().filter(|step| step.agreed_ms >= self.grace_ms);
        let lead = ripe.fold(0_u64, |sum, step| sum.saturating_add(step.lead_ms));
        self.saved.steps.retain(|step| step.agreed_ms < self.grace_ms);
        self.advance(lead);
    }
}
