//! Tests of the rules of engine time.

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
        self.time = EngineTime::resume(self.time.saved().clone(), false, reading, 7, HOUR);
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
    assert_eq!(machine.reboot_at(START + 80 * MINUTE), START + 41 * MINUTE);
    assert_eq!(machine.time.suspect_ms(), 39 * MINUTE, "but for the unrecorded one");
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
    machine.time.reset(machine.wall, 9);
    assert_eq!(machine.read(), START);
    let correction = machine.time.saved().correction;
    assert_eq!(correction, Some(Correction { to_ms: START, next_number: 9 }));
    machine.time.end_correction();
    assert_eq!((machine.time.saved().correction, machine.read()), (None, START));
}

#[test]
fn reset_takes_what_was_taken_for_rounding_too() {
    for off in [0, 1, 999, 1_000] {
        let mut machine = Machine::new();
        machine.wall += off;
        assert_eq!(machine.read(), START);
        machine.time.reset(machine.wall, 9);
        assert_eq!(machine.time.saved().correction.unwrap().to_ms, START + off);
        assert_eq!(machine.run(HOUR), START + off + HOUR);
    }
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
    assert_eq!(lag, START + MINUTE);
    assert_eq!(machine.reboot_at(lag), START + 2 * MINUTE, "the minute that may be unrecorded");
    assert_eq!((machine.time.saved().lag_ms, machine.time.suspect_ms()), (MINUTE, 0));
    assert_eq!(machine.reboot_at(lag + HOUR), START + 2 * MINUTE + HOUR, "an hour off");
}

#[test]
fn closed_time_does_not_make_up_for_a_small_lag() {
    for (lag, engine) in [(HOUR, START + MINUTE + HOUR), (HOUR + 1, START + 2 * MINUTE)] {
        let mut machine = Machine::new();
        machine.reboot_at(START + MINUTE - lag);
        assert_eq!(machine.time.saved().lag_ms, lag);
        assert_eq!(machine.reboot_at(START + MINUTE), engine, "{lag}");
    }
    let mut machine = Machine::new();
    machine.reboot_at(START + MINUTE - 3 * HOUR);
    assert_eq!(
        machine.reboot_at(START + MINUTE - 2 * HOUR),
        START + MINUTE + HOUR,
        "less than the lag"
    );
    assert_eq!(machine.time.saved().lag_ms, 3 * HOUR);
}

/// The clock that goes on while the machine is off may be behind the one that the time was recorded by.
#[test]
fn after_a_reboot_the_unrecorded_minute_has_passed_whatever_the_wall_clock_says() {
    for (off, passed) in [(0, MINUTE), (10_000, MINUTE), (MINUTE, MINUTE), (MINUTE + 1, MINUTE + 1)]
    {
        let mut machine = Machine::new();
        assert_eq!(machine.reboot_at(START + off), START + passed, "{off}");
        assert_eq!(machine.time.saved().lag_ms, passed - off, "{off}");
        machine.wall = START + MINUTE + 2;
        assert_eq!(machine.time.suspect_ms(), 0, "{off}");
        let caught_up = START + MINUTE + 2;
        assert!(machine.read().abs_diff(caught_up) < 1_000, "{off}: the wall clock catches up");
    }
}

#[test]
fn a_reboot_within_the_unrecorded_minute_leaves_a_suspect_step_as_suspect() {
    let mut machine = Machine::new();
    machine.wall += 40 * DAY;
    machine.read();
    machine.run(HOUR / 2);
    let before = machine.time.clone();
    let hidden = before.hiding_time(machine.read(), 7);
    let engine = machine.reboot_at(machine.wall + 10_000);
    assert_eq!(engine, before.saved().engine_ms + MINUTE);
    // What is hidden in case the wall clock is right is hidden by what that says.
    assert_eq!(machine.time.hiding_time(engine, 7), hidden + 10_000);
    assert_eq!(machine.time.saved().lag_ms, 0);
    let agreed: Vec<_> = machine.time.saved().steps.iter().map(|step| step.agreed_ms).collect();
    assert_eq!(agreed, [HOUR / 2], "and has waited for as long");
    // One that came while the machine was off counts from the last record on.
    let mut machine = Machine::new();
    assert_eq!(machine.reboot_at(START + 40 * DAY), START + MINUTE);
    assert_eq!(machine.time.suspect_ms(), 40 * DAY - MINUTE);
}

/// Nothing is unrecorded then, and time does not run ahead of the wall clock with each reboot.
#[test]
fn reboots_after_a_close_in_order_add_no_minutes() {
    let reading = |at: u64| Reading { wall_ms: START + at, boot_ms: 5, boot_id: [at as u8; 16] };
    let mut time = EngineTime::new(reading(1), HOUR);
    for boot in 2..=100 {
        time = EngineTime::resume(time.saved().clone(), true, reading(boot), 7, HOUR);
        assert_eq!((time.saved().engine_ms, time.saved().lag_ms), (START + boot, 0));
    }
    let time = EngineTime::resume(time.saved().clone(), true, reading(1), 7, HOUR);
    assert_eq!((time.saved().engine_ms, time.saved().lag_ms), (START + 100, 99));
}

/// The wall clock has gone on, or stood still, and it may be the same boot: time must not run ahead of it with each
/// opening. Nor where they cannot be told apart since the system did not tell which boot one of the two was.
#[test]
fn short_lives_where_boots_are_not_told_apart_add_no_minutes() {
    for ids in [[0, 0], [0, 1]] {
        let reading = |life: u64| {
            let boot_id = [ids[life as usize % 2]; 16];
            Reading { wall_ms: START + 1_000 * (life / 2), boot_ms: 5, boot_id }
        };
        let mut time = EngineTime::new(reading(0), HOUR);
        for life in 1..=100 {
            let now = reading(life);
            let wall_ms = now.wall_ms;
            time = EngineTime::resume(time.saved().clone(), false, now, 7, HOUR);
            assert_eq!((time.saved().engine_ms, time.saved().lag_ms), (wall_ms, 0), "{ids:?}");
        }
    }
}

#[test]
fn time_since_the_last_record_is_trusted_on_the_same_boot_only() {
    let resume = |boot_ms: u64, saved_boot: u8, boot: u8| {
        let start = Reading { wall_ms: START, boot_ms: 1_000, boot_id: [saved_boot; 16] };
        let saved = EngineTime::new(start, HOUR).saved().clone();
        let reading = Reading { wall_ms: 5, boot_ms, boot_id: [boot; 16] };
        let time = EngineTime::resume(saved, false, reading, 7, HOUR);
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
