//! How a scenario ends: whatever stops the store, what it has promised holds after.

use std::collections::BTreeSet;
use std::path::Path;

use ebbtide::disk::MemoryDisk;
use ebbtide::{Clock, Keyspace, Reason, Store};

use super::{
    Image, LONGEST, OTHER, Promise, Promises, TAG, TOLD_APART, World, check_bytes, name, version_of,
};
use crate::fixture::{self, files_of, value_of};
use crate::schedules::chance;

impl World {
    /// Notes what a power cut now would find, and what has been promised by now.
    pub(crate) fn cut(&self) {
        let mut promised = self.promises().clone();
        let disk = self.disk.fork();
        for (key, promise) in &mut promised.keys {
            // An invalidation that has begun by now may already be on the disk.
            promise.may_go |= self.promise(*key).begun > promise.returned;
        }
        self.cuts.lock().unwrap().push(Image { disk, promised });
    }

    /// From now on nothing may be written.
    pub(crate) fn freeze(&self) {
        let files = files_of(&self.disk);
        *self.frozen.lock().unwrap() = Some(files);
    }

    /// Ends a scenario in which nothing is held any more: a last scrub leaves nothing of what cannot
    /// be seen, and takes nothing else.
    pub(crate) fn settle_erased(self) {
        self.store.maintain().unwrap();
        self.scrub().unwrap();
        self.check_erased(&self.disk.fork());
        self.settle();
    }

    /// Nothing is on the disk of a version that is not the one to be seen.
    fn check_erased(&self, disk: &MemoryDisk) {
        let live: BTreeSet<(u64, u64)> = (0..self.keys)
            .filter_map(|key| Some((key, version_of(&self.get(key).unwrap()?))))
            .collect();
        let files = files_of(disk);
        let written = self.written.lock().unwrap().clone();
        for (key, version) in written.difference(&live) {
            let value = value_of(*key, *version, LONGEST);
            let Some(needle) = value.get(..TOLD_APART) else { continue };
            for (path, bytes) in &files {
                let found = bytes.windows(needle.len()).any(|window| window == needle);
                assert!(!found, "{}, {version}: still in {}", name(*key), path.display());
            }
        }
    }

    /// Ends the scenario: all answers must be the same after a close, or after the process died,
    /// and no promise may be broken by a power cut, now or at one of the moments noted.
    pub(crate) fn settle(self) {
        let answers: Vec<Option<u64>> = (0..self.keys).map(|key| self.answer(key)).collect();
        self.iterate().unwrap();
        self.check_walks(&self.store, &self.images, &answers);
        for image in std::mem::take(&mut *self.cuts.lock().unwrap()) {
            self.check_after_power_cut(&image.disk, &image.promised);
        }
        let ending = chance().below(4);
        if ending == 0 {
            let promised = self.promises().clone();
            self.check_after_power_cut(&self.disk, &promised);
            return;
        }
        if ending == 3 {
            return self.check_reopened(&self.disk.kill(), &answers);
        }
        self.store.close().unwrap();
        if ending == 2 {
            // What the next open finds by the sidecars alone.
            let index = Path::new("/data/keyspaces/images/INDEX");
            self.disk.write_file(index, b"").unwrap();
        }
        self.check_reopened(&self.disk, &answers);
    }

    /// However one goes through what is there, it is what the keys give, and nothing is damaged.
    fn check_walks(&self, store: &Store, images: &Keyspace, answers: &[Option<u64>]) {
        let there: BTreeSet<u64> = answers.iter().flatten().copied().collect();
        let walked: BTreeSet<u64> =
            images.iter().map(|entry| entry.unwrap().stat().sequence()).collect();
        assert_eq!(walked, there, "what iterating gives");
        for tag in [TAG, OTHER] {
            let tagged = self.promises().tags.clone();
            let carries = |seq: &&u64| tagged.get(seq) == Some(&tag);
            let there: Vec<u64> = there.iter().filter(carries).copied().collect();
            let listed = images.list_tag(tag).unwrap();
            let listed: Vec<u64> = listed.iter().map(|entry| entry.stat().sequence()).collect();
            assert_eq!(listed, there, "what the tag lists");
        }
        for (key, answer) in (0..).zip(answers) {
            let explained = images.explain(name(key)).unwrap();
            let visible = explained.reason == Reason::Visible;
            assert_eq!(visible, answer.is_some(), "{}: {explained}", name(key));
        }
        let problems = store.verify().unwrap().problems;
        assert!(problems.is_empty(), "{problems:?}");
        assert!(store.problems().is_empty(), "{:?}", store.problems());
        assert_eq!(store.stats().corrupt_reads, 0);
    }

    /// Ends a scenario that has closed the store: what was promised can be read after opening
    /// again.
    pub(crate) fn settle_closed(mut self) {
        let frozen = self.frozen.lock().unwrap().take().expect("nobody froze the files");
        assert!(frozen == files_of(&self.disk), "a file changed after the store was closed");
        let disk = self.disk.clone();
        (self.store, self.images) = self.open(&disk);
        assert!(self.store.recovery_report().is_clean(), "{:?}", self.store.recovery_report());
        self.promises().is_reopened = true;
        self.settle();
    }

    /// The answers after opening again are those there were.
    fn check_reopened(&self, disk: &MemoryDisk, answers: &[Option<u64>]) {
        let (store, images) = self.open(disk);
        assert!(store.recovery_report().is_clean(), "{:?}", store.recovery_report());
        let mut again = Vec::new();
        for (key, answer) in (0..).zip(answers) {
            let value = images.get(name(key)).unwrap();
            value.iter().for_each(|value| check_bytes(key, value));
            let seq = value.map(|value| value.stat().sequence());
            // After a call that failed it may be hidden or not, each time anew.
            let doubtful = self.promise(key).may_go && (seq.is_none() || answer.is_none());
            assert!(doubtful || seq == *answer, "{}: {answer:?}, now {seq:?}", name(key));
            again.push(seq);
        }
        self.check_walks(&store, &images, &again);
    }

    fn answer(&self, key: u64) -> Option<u64> {
        self.get(key).unwrap().map(|value| value.stat().sequence())
    }

    fn check_after_power_cut(&self, disk: &MemoryDisk, promised: &Promises) {
        let disk = disk.crash(&mut chance().choices());
        let (store, images) = self.open(&disk);
        let report = store.recovery_report();
        for key in 0..self.keys {
            let promise = promised.of(key);
            let value = images.get(name(key)).unwrap();
            if let Some(value) = &value {
                // An older version that was not hidden may be back, but none below a durable one.
                let mut durable = Promises { is_reopened: true, ..promised.clone() };
                let newest = promise.durable;
                durable.keys.insert(key, Promise { newest, ..promise });
                self.judge(key, value.stat(), self.clock.wall(), &durable);
                check_bytes(key, value);
            }
            let stays = promise.durable > promise.reached
                && promise.begun == promise.returned
                && !promise.may_go
                && !self.evicts
                && self.clock.wall() < fixture::START + fixture::hours(16);
            assert!(
                !stays || value.is_some(),
                "{} was durable: {promise:?}, {report:?}",
                name(key)
            );
        }
    }

    fn open(&self, disk: &MemoryDisk) -> (Store, Keyspace) {
        let store = fixture::open(fixture::on_memory(disk, &self.clock), self.mapped);
        let images = store.existing_keyspace("images").unwrap();
        (store, images)
    }
}
