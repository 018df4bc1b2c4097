//! Flights: one caller works on a key, and those who ask for it meanwhile wait for what comes of it.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use super::fetch::Made;
use crate::sync::{Condvar, Mutex};

/// What is being worked on in a keyspace. Found by the key itself, so that a collision of hashes
/// cannot give one key's bytes for another's.
#[derive(Debug, Default)]
pub(super) struct Flights {
    under_way: Mutex<HashMap<Vec<u8>, Arc<Flight>>>,
}

/// Work on one key.
#[derive(Debug, Default)]
pub(super) struct Flight {
    landing: Mutex<Option<Landing>>,
    landed: Condvar,
}

/// What came of a flight.
#[derive(Debug, Clone)]
pub(super) enum Landing {
    /// A value, to be judged by everyone who waited for it.
    Made(Arc<Made>),
    /// The work's error.
    Failed(Arc<dyn Any + Send + Sync>),
    /// Nothing that could be shared: whoever waited starts over.
    Nothing,
}

/// What a caller does about a key.
#[derive(Debug)]
pub(super) enum Role<'a> {
    /// Work.
    Lead(Lead<'a>),
    /// Wait.
    Wait(Arc<Flight>),
}

/// The one who works. Dropping it, also in a panic, lands with nothing.
#[derive(Debug)]
pub(super) struct Lead<'a> {
    flights: &'a Flights,
    key: &'a [u8],
    flight: Arc<Flight>,
    landing: Landing,
}

impl Flights {
    /// Joins the work on a key, or begins it.
    pub(super) fn join<'a>(&'a self, key: &'a [u8]) -> Role<'a> {
        let mut under_way = self.under_way.lock();
        if let Some(flight) = under_way.get(key) {
            return Role::Wait(Arc::clone(flight));
        }
        let flight = Arc::<Flight>::default();
        under_way.insert(key.to_vec(), Arc::clone(&flight));
        Role::Lead(Lead { flights: self, key, flight, landing: Landing::Nothing })
    }

    /// Lets all who wait look whether they still should.
    pub(super) fn wake_all(&self) {
        for flight in self.under_way.lock().values() {
            // Under the lock, so that nobody is between looking and waiting.
            let _landing = flight.landing.lock();
            flight.landed.notify_all();
        }
    }
}

impl Flight {
    /// Waits for the landing; nothing if it is given up before.
    pub(super) fn wait(&self, gives_up: impl Fn() -> bool) -> Option<Landing> {
        let mut landing = self.landing.lock();
        loop {
            if landing.is_some() {
                return landing.clone();
            }
            if gives_up() {
                return None;
            }
            self.landed.wait(&mut landing);
        }
    }
}

impl Lead<'_> {
    /// Hands the result to all who wait.
    pub(super) fn land(mut self, landing: Landing) {
        self.landing = landing;
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        // First of all: who may not have what has landed must not meet this flight again.
        self.flights.under_way.lock().remove(self.key);
        let landing = std::mem::replace(&mut self.landing, Landing::Nothing);
        *self.flight.landing.lock() = Some(landing);
        self.flight.landed.notify_all();
    }
}
