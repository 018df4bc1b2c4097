//! Which time the engine believes: pure rules over readings of the two clocks.
//!
//! Engine time never goes back and is raised by the boot-time clock alone, or by a wall clock that
//! runs ahead by no more than a budget of one hour per day. A larger step ahead is *suspect*: what
//! was born before it is hidden as if it were true, but nothing is destroyed until the wall clock
//! has agreed with itself for a grace period, or someone confirms it. It knows no files: what must
//! survive a restart is a [`SavedTime`].

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

    /// Goes on from what was saved. `last_seq` is the last sequence number ever given out.
    pub(crate) fn resume(saved: SavedTime, reading: Reading, last_seq: u64, grace_ms: u64) -> Self {
        let same_boot = reading.boot_id != BootId::default()
            && reading.boot_id == saved.boot_id
            && reading.boot_ms >= saved.boot_ms;
        let mut time = Self { saved, grace_ms };
        if same_boot {
            time.update(reading.wall_ms, reading.boot_ms, last_seq);
            return time;
        }
        let before = time.saved.wall_ms;
        time.saved.wall_ms = reading.wall_ms;
        time.saved.boot_ms = reading.boot_ms;
        time.saved.boot_id = reading.boot_id;
        if reading.wall_ms >= before {
            time.pass_closed(reading.wall_ms - before, last_seq);
        } else {
            time.advance(SAVE_INTERVAL_MS);
            time.step_back(before - reading.wall_ms);
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

    /// Takes the wall clock's word, backwards too.
    pub(crate) fn reset(&mut self) {
        self.saved.engine_ms = self.saved.wall_ms;
        self.saved.lag_ms = 0;
        self.saved.steps.clear();
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

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    const START: u64 = 20_000 * DAY;

    struct Machine {
        wall: u64,
        boot: u64,
        boot_id: u8,
        time: EngineTime,
    }

    impl Machine {
        fn new() -> Self {
            let reading = Reading { wall_ms: START, boot_ms: 5, boot_id: [1; 16] };
            Self { wall: START, boot: 5, boot_id: 1, time: EngineTime::new(reading, HOUR) }
        }

        fn run(&mut self, ms: u64) -> u64 {
            self.wall += ms;
            self.boot += ms;
            self.read()
        }

        fn read(&mut self) -> u64 {
            self.time.update(self.wall, self.boot, 7)
        }

        fn reboot_at(&mut self, wall: u64) -> u64 {
            self.wall = wall;
            self.boot = 3;
            self.boot_id += 1;
            let reading = Reading { wall_ms: wall, boot_ms: 3, boot_id: [self.boot_id; 16] };
            self.time = EngineTime::resume(self.time.saved().clone(), reading, 7, HOUR);
            self.read()
        }
    }

    #[test]
    fn follows_a_wall_clock_that_behaves() {
        let mut machine = Machine::new();
        assert_eq!(machine.run(40 * DAY), START + 40 * DAY);
        machine.wall += 30 * MINUTE;
        assert_eq!(machine.read(), START + 40 * DAY + 30 * MINUTE);
        assert_eq!(machine.time.suspect_ms(), 0);
    }

    #[test]
    fn never_goes_back() {
        let mut machine = Machine::new();
        machine.run(DAY);
        machine.wall = 0;
        assert_eq!(machine.read(), START + DAY);
        assert_eq!(machine.run(HOUR), START + DAY + HOUR);
        machine.wall = START + DAY + 2 * HOUR;
        assert_eq!(machine.read(), START + DAY + 2 * HOUR, "caught up, and an hour more slewed");
    }

    #[test]
    fn a_large_step_hides_at_once_and_destroys_after_the_grace() {
        let mut machine = Machine::new();
        machine.wall += 40 * DAY;
        let engine = machine.read();
        assert_eq!(engine, START);
        assert_eq!(machine.time.hiding_time(engine, 7), START + 40 * DAY);
        assert_eq!(machine.time.hiding_time(engine, 8), START, "born after the step");
        assert_eq!(machine.run(HOUR - 1), START + HOUR - 1);
        assert_eq!(machine.run(1), START + 40 * DAY + HOUR);
    }

    #[test]
    fn a_step_taken_back_leaves_no_trace() {
        let mut machine = Machine::new();
        machine.wall += 73 * 365 * DAY;
        machine.read();
        machine.run(HOUR / 2);
        machine.wall -= 73 * 365 * DAY;
        let engine = machine.read();
        assert_eq!(engine, START + HOUR / 2);
        assert_eq!(machine.time.hiding_time(engine, 0), engine);
        assert!(machine.time.saved().steps.is_empty());
        assert_eq!(machine.time.saved().lag_ms, 0);
        assert_eq!(machine.run(2 * DAY), START + HOUR / 2 + 2 * DAY);
    }

    #[test]
    fn small_steps_every_minute_spend_the_budget_once() {
        let mut machine = Machine::new();
        for _ in 0..50 {
            machine.wall += 59 * MINUTE;
            machine.run(MINUTE);
        }
        let engine = machine.read();
        assert!(engine < START + 50 * MINUTE + 62 * MINUTE, "{}", engine - START);
    }

    #[test]
    fn ten_minutes_a_day_for_a_month_ripen() {
        let mut machine = Machine::new();
        let mut wall = START;
        for _ in 0..30 {
            wall += DAY;
            machine.reboot_at(wall);
            machine.run(10 * MINUTE);
            wall = machine.wall;
        }
        let engine = machine.read();
        assert!(engine > START + 22 * DAY, "{} days", (engine - START) / DAY);
        assert!(engine <= wall);
    }

    #[test]
    fn closed_time_within_the_budget_counts_at_once() {
        let mut machine = Machine::new();
        assert_eq!(machine.reboot_at(START + 40 * MINUTE), START + 40 * MINUTE);
        assert_eq!(machine.reboot_at(START + 80 * MINUTE), START + 40 * MINUTE);
        assert_eq!(machine.time.suspect_ms(), 40 * MINUTE);
    }

    #[test]
    fn a_reboot_into_1970_adds_the_unrecorded_minute_and_no_more() {
        let mut machine = Machine::new();
        assert_eq!(machine.reboot_at(0), START + MINUTE);
        assert_eq!(machine.run(HOUR), START + MINUTE + HOUR);
        machine.wall = START + 2 * HOUR;
        machine.read();
        assert_eq!(machine.time.suspect_ms(), 0, "the wall clock only caught up");
    }

    #[test]
    fn more_steps_than_are_kept_are_merged_and_none_is_lost() {
        let mut machine = Machine::new();
        for _ in 0..3 * MAX_STEPS {
            machine.wall += 2 * HOUR;
            machine.read();
        }
        assert_eq!(machine.time.suspect_ms(), 3 * MAX_STEPS as u64 * 2 * HOUR);
        assert_eq!(machine.time.saved().steps.len(), MAX_STEPS);
    }

    #[test]
    fn confirm_believes_and_reset_takes_back() {
        let mut machine = Machine::new();
        machine.wall += 40 * DAY;
        machine.read();
        machine.time.confirm();
        assert_eq!(machine.read(), START + 40 * DAY);
        machine.wall -= 40 * DAY;
        machine.read();
        machine.time.reset();
        assert_eq!(machine.read(), START);
    }

    #[test]
    fn a_step_is_peeked_past_until_it_ripens() {
        let mut machine = Machine::new();
        machine.wall += 40 * DAY;
        machine.read();
        let peek = |after: u64| machine.time.peek(machine.wall + after, machine.boot + after);
        assert_eq!(peek(HOUR - 1), Some(START + HOUR - 1));
        assert_eq!(peek(HOUR), None, "it has to be believed, and that recorded");
        assert_eq!(machine.time.peek(machine.wall, machine.boot - 1), None);
        assert_eq!(machine.time.peek(machine.wall + 1_001, machine.boot), None);
        assert_eq!(machine.time.peek(machine.wall + 1_000, machine.boot), Some(START));
    }

    #[test]
    fn a_step_partly_taken_back_waits_for_the_whole_grace_again() {
        let mut machine = Machine::new();
        machine.wall += 40 * DAY;
        machine.read();
        machine.run(HOUR - 1);
        machine.wall -= 30 * DAY;
        assert_eq!(machine.read(), START + HOUR - 1);
        assert_eq!(machine.time.suspect_ms(), 10 * DAY);
        assert_eq!(machine.run(HOUR - 1), START + 2 * HOUR - 2);
        assert_eq!(machine.run(1), START + 2 * HOUR - 1 + 10 * DAY);
    }

    #[test]
    fn a_step_merged_into_the_newest_counts_as_late_as_that_came() {
        let mut machine = Machine::new();
        for seq in 1..=MAX_STEPS as u64 {
            machine.wall += 2 * HOUR;
            machine.time.update(machine.wall, machine.boot, seq);
        }
        machine.wall += HOUR / 2;
        machine.boot += HOUR / 2;
        machine.time.update(machine.wall, machine.boot, 50);
        machine.wall += 2 * HOUR;
        machine.time.update(machine.wall, machine.boot, 99);
        let engine = START + HOUR / 2;
        assert_eq!(machine.time.hiding_time(engine, 99), engine + 4 * HOUR);
        assert_eq!(machine.time.hiding_time(engine, 100), engine);
        // The others have waited for half an hour longer.
        assert_eq!(machine.run(HOUR / 2), START + HOUR + 2 * HOUR * (MAX_STEPS as u64 - 1));
        assert_eq!(machine.time.suspect_ms(), 4 * HOUR);
    }

    #[test]
    fn a_time_known_to_be_reached_confirms_the_oldest_steps_first() {
        let mut machine = Machine::new();
        for days in [40, 10] {
            machine.wall += days * DAY;
            machine.read();
        }
        machine.time.raise(START + 45 * DAY);
        assert_eq!(machine.read(), START + 45 * DAY);
        let leads: Vec<_> = machine.time.saved().steps.iter().map(|step| step.lead_ms).collect();
        assert_eq!((leads, machine.time.saved().lag_ms), (vec![5 * DAY], 0));
        machine.time.raise(START + 50 * DAY + 3);
        assert_eq!((machine.time.saved().steps.len(), machine.time.saved().lag_ms), (0, 3));
        machine.time.raise(START);
        assert_eq!(machine.read(), START + 50 * DAY + 3);
    }

    #[test]
    fn a_wall_clock_that_comes_back_from_1970_only_catches_up() {
        let mut machine = Machine::new();
        machine.reboot_at(0);
        let lag = machine.time.saved().lag_ms;
        assert_eq!(machine.reboot_at(lag), START + MINUTE);
        assert_eq!((machine.time.saved().lag_ms, machine.time.suspect_ms()), (0, 0));
        assert_eq!(machine.reboot_at(lag + HOUR), START + MINUTE + HOUR, "an hour off");
    }

    #[test]
    fn closed_time_does_not_make_up_for_a_small_lag() {
        for (lag, engine) in [(HOUR, START + MINUTE + HOUR), (HOUR + 1, START + MINUTE)] {
            let mut machine = Machine::new();
            machine.reboot_at(START - lag);
            assert_eq!(machine.time.saved().lag_ms, lag);
            assert_eq!(machine.reboot_at(START - lag + lag), engine, "{lag}");
        }
        let mut machine = Machine::new();
        machine.reboot_at(START - 3 * HOUR);
        assert_eq!(machine.reboot_at(START - 2 * HOUR), START + MINUTE + HOUR, "less than the lag");
        assert_eq!(machine.time.saved().lag_ms, 3 * HOUR);
    }

    #[test]
    fn time_since_the_last_record_is_trusted_on_the_same_boot_only() {
        let resume = |boot_ms: u64, saved_boot: u8, boot: u8| {
            let start = Reading { wall_ms: START, boot_ms: 1_000, boot_id: [saved_boot; 16] };
            let saved = EngineTime::new(start, HOUR).saved().clone();
            let reading = Reading { wall_ms: 5, boot_ms, boot_id: [boot; 16] };
            let time = EngineTime::resume(saved, reading, 7, HOUR);
            assert_eq!((time.saved().boot_id, time.saved().boot_ms), ([boot; 16], boot_ms));
            time.saved().engine_ms
        };
        assert_eq!(resume(1_000 + DAY, 1, 1), START + DAY);
        assert_eq!(resume(1_000, 1, 1), START);
        assert_eq!(resume(999, 1, 1), START + MINUTE, "its clock went back");
        assert_eq!(resume(1_000 + DAY, 1, 2), START + MINUTE, "another boot");
        assert_eq!(resume(1_000 + DAY, 0, 0), START + MINUTE, "unknown boots");
    }

    #[test]
    fn where_the_record_is_lost_time_is_no_earlier_than_it_must_have_been() {
        let reading = Reading { wall_ms: START, boot_ms: 5, boot_id: [1; 16] };
        let mut behind = EngineTime::new_at_least(START + DAY, reading, HOUR);
        assert_eq!(behind.update(START + DAY, 5, 7), START + DAY, "the wall clock catches up");
        assert_eq!(behind.suspect_ms(), 0);
        let mut ahead = EngineTime::new_at_least(START - DAY, reading, HOUR);
        assert_eq!(ahead.update(START, 5, 7), START);
        assert_eq!(ahead.saved().lag_ms, 0);
    }

    #[test]
    fn the_budget_is_earned_again_by_an_hour_a_day() {
        let mut machine = Machine::new();
        machine.wall += HOUR;
        assert_eq!(machine.read(), START + HOUR);
        machine.run(DAY / 2);
        machine.wall += HOUR / 2;
        assert_eq!(machine.read(), START + HOUR + DAY / 2 + HOUR / 2);
        machine.wall += 1_001;
        machine.read();
        assert_eq!(machine.time.suspect_ms(), 1_001, "all of it is spent");
    }

    #[test]
    fn extreme_readings_saturate() {
        let reading = Reading { wall_ms: u64::MAX, boot_ms: u64::MAX, boot_id: [0; 16] };
        let mut time = EngineTime::new(reading, HOUR);
        time.update(0, 0, 0);
        time.update(u64::MAX, u64::MAX, u64::MAX);
        time.confirm();
        assert_eq!(time.hiding_time(u64::MAX, 0), u64::MAX);
    }
}
