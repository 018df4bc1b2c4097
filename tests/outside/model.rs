//! What may be in a store whose process, or whose machine, was stopped.
//!
//! A process notes what it begins and what it was told. Of what it was told was durable, everything must be
//! there; of the rest anything may be, but nothing that had been hidden.

use std::collections::BTreeMap;

use ebbtide::{RowId, Store};

use crate::child::{CANARY, KEYS, LONGEST, LONGEST_ROW, access, images};
use crate::fixture::value_of;

/// What a key may hold.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Versions that may be there, the oldest first; `None` stands for nothing.
    states: Vec<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    version: Option<u64>,
    tagged: bool,
    /// The call that brought it about has returned, and not with an error.
    certain: bool,
}

const NOTHING: State = State { version: None, tagged: false, certain: true };

/// What is known of a store.
#[derive(Debug, Default, Clone)]
pub(crate) struct Model {
    keys: BTreeMap<u64, Known>,
    /// Rows by version, and whether they are durable.
    rows: BTreeMap<u64, (RowId, bool)>,
    pub(crate) version: u64,
    /// Whether the canary is durable, once it has been stored. It lies in the oldest segment.
    pub(crate) canary: Option<bool>,
    /// An invalidation could not be written down, and has taken segments or everything away instead, or
    /// has failed, and may have.
    evicted: bool,
    pub(crate) acknowledged: u64,
    /// Of these, what was answered by an error other than that the disk is full.
    pub(crate) failed: u64,
    /// Of what had been done and was not durable, what was not there afterwards.
    pub(crate) lost: u64,
}

impl Model {
    pub(crate) fn take_notes(&mut self, notes: &str) {
        let mut has_failed = false;
        let mut lines = notes.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        while let Some(intent) = lines.next() {
            let intent: Vec<&str> = intent.strip_prefix("> ").unwrap().split(' ').collect();
            let answer = lines.next().map(|line| line.strip_prefix("< ").unwrap());
            self.acknowledged += u64::from(answer.is_some());
            self.failed += u64::from(answer == Some("failed"));
            // A disk that is full is no other failure, but for what may be told as the reason.
            let answer = answer.map(|answer| answer.trim_end_matches(", full"));
            has_failed |= answer == Some("failed");
            // One that was cut short is not the reason for which nothing could be written down.
            let may_be_less = answer.is_none_or(|answer| answer == "failed") && has_failed;
            self.evicted |= intent[0].starts_with("invalidate") && may_be_less;
            self.apply(&intent, answer);
        }
    }

    fn apply(&mut self, intent: &[&str], answer: Option<&str>) {
        let number = |at: usize| intent[at].parse::<u64>().unwrap();
        match intent[0] {
            verb @ ("insert" | "fill") => {
                self.version = self.version.max(number(2));
                let certain = matches!(answer, Some("written" | "durable"));
                let state = State { version: Some(number(2)), tagged: verb == "fill", certain };
                self.key(number(1)).push(state, answer == Some("durable"));
            }
            "invalidate" => {
                let certain = answer == Some("durable");
                self.key(number(1)).push(State { certain, ..NOTHING }, certain);
            }
            "invalidate_tag" => {
                for key in number(1) / 4 * 4..number(1) / 4 * 4 + 4 {
                    self.key(key).hide_tagged(answer == Some("durable"));
                }
            }
            "row" => {
                self.version = self.version.max(number(1));
                if let Some(id) = answer.filter(|answer| *answer != "failed") {
                    self.rows.insert(number(1), (id.parse().unwrap(), false));
                }
            }
            "canary" => self.canary = Some(answer == Some("durable")),
            "evicted" => self.evicted = true,
            "sync" if answer == Some("durable") => {
                self.keys.values_mut().for_each(Known::settle);
                self.rows.values_mut().for_each(|(_, durable)| *durable = true);
            }
            _ => {}
        }
    }

    fn key(&mut self, key: u64) -> &mut Known {
        self.keys.entry(key).or_insert_with(|| Known { states: vec![NOTHING] })
    }

    /// Compares what is left with what may be there, and takes over what is.
    pub(crate) fn check(&mut self, store: &Store) {
        let report = store.recovery_report();
        assert!(report.corrupt_records.is_empty(), "{report:?}");
        let (images, access) = (images(store).unwrap(), access(store).unwrap());
        // What is in the oldest segment is there, so nothing has been taken away.
        let is_whole = images.contains(CANARY).unwrap();
        let evicted = self.evicted && !is_whole;
        let is_lost = self.canary == Some(true) && !is_whole && !evicted;
        assert!(!is_lost, "the oldest record is gone, and nothing said so");
        let mut lost = 0;
        for key in 0..KEYS {
            let value = images.get(key.to_le_bytes()).unwrap();
            let known = self.key(key);
            if value.is_none() && evicted {
                known.states.push(NOTHING);
            }
            let found = known.states.iter().rposition(|state| match (state.version, &value) {
                (None, None) => true,
                (Some(version), Some(value)) => value[..] == value_of(key, version, LONGEST),
                _ => false,
            });
            let found = found.unwrap_or_else(|| {
                let version = value.map(|value| value[..8].to_vec());
                panic!("key {key}: {version:?} found, {:?} may be", known.states)
            });
            let last = known.states.iter().rposition(|state| state.certain);
            known.states = vec![State { certain: true, ..known.states[found] }];
            lost += u64::from(last.is_some_and(|last| found < last));
        }
        self.rows.retain(|version, (id, durable)| {
            let row = access.get(*id).unwrap();
            assert!(row.is_some() || !*durable, "row {version} is gone");
            lost += u64::from(row.is_none());
            *durable = true;
            let expected = value_of(0, *version, LONGEST_ROW);
            row.inspect(|row| assert_eq!(row.payload()[..], expected)).is_some()
        });
        self.lost += lost;
    }
}

impl Known {
    fn push(&mut self, state: State, is_durable: bool) {
        self.states.push(state);
        if is_durable {
            self.settle();
        }
    }

    /// What is there now is durable; of what came after it, it is not known whether it is there.
    fn settle(&mut self) {
        let last = self.states.iter().rposition(|state| state.certain).unwrap_or(0);
        self.states.drain(..last);
    }

    /// Everything that carries the tag is hidden, for certain or perhaps.
    fn hide_tagged(&mut self, is_durable: bool) {
        let mut hidden = Vec::new();
        for state in &self.states {
            let after = if state.tagged { NOTHING } else { *state };
            if is_durable {
                hidden.push(State { certain: state.certain, ..after });
            } else {
                hidden.extend([*state, State { certain: false, ..after }]);
            }
        }
        self.states = hidden;
    }
}
