//! The one background thread: it syncs, drops, seals and frees, in small steps.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::store::StoreCore;
use crate::sync::{Condvar, Mutex};

/// The longest time without a look at whether the engine's time must be written down.
const LONGEST_REST: Duration = Duration::from_secs(15);

/// A running background thread.
#[derive(Debug)]
pub(crate) struct Janitor {
    signal: Arc<Signal>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Signal {
    stop: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    /// Waits for so long, or until it is time to stop; true if it is.
    fn wait(&self, timeout: Duration) -> bool {
        let mut stop = self.stop.lock();
        if !*stop && !timeout.is_zero() {
            self.changed.wait_for(&mut stop, timeout);
        }
        *stop
    }
}

impl Janitor {
    /// Starts the thread; it is named `ebbtide`.
    pub(crate) fn start(core: &Arc<StoreCore>) -> Result<Self> {
        let signal = Arc::new(Signal::default());
        let (core, listen) = (Arc::clone(core), Arc::clone(&signal));
        let thread = std::thread::Builder::new()
            .name("ebbtide".to_owned())
            .spawn(move || run(&core, &listen))
            .map_err(|e| Error::io("start a thread for", std::path::Path::new("ebbtide"), e))?;
        Ok(Self { signal, thread })
    }

    /// Stops the thread and waits for it.
    pub(crate) fn stop(self) {
        *self.signal.stop.lock() = true;
        self.signal.changed.notify_all();
        if self.thread.thread().id() != std::thread::current().id() {
            // A panic in it has been printed; nothing depends on its result.
            let _ = self.thread.join();
        }
    }
}

fn run(core: &StoreCore, signal: &Signal) {
    let interval = core.sync_interval;
    while !signal.wait(Duration::ZERO) {
        let started = Instant::now();
        // What goes wrong shows in the stats: a poisoned store, or trash that stays.
        let _ = core.tick();
        while started.elapsed() < interval && core.free_piece() {
            if signal.wait(Duration::ZERO) {
                return;
            }
        }
        if rest(core, signal, interval.saturating_sub(started.elapsed())) {
            return;
        }
    }
}

/// Waits for so long, and only keeps the time meanwhile; true if it is time to stop.
fn rest(core: &StoreCore, signal: &Signal, mut left: Duration) -> bool {
    while left > LONGEST_REST {
        if signal.wait(LONGEST_REST) {
            return true;
        }
        let _ = core.keep_time();
        left -= LONGEST_REST;
    }
    signal.wait(left)
}
