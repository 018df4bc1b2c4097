//! The ways in which a call fails where each is tried.

use std::io::ErrorKind;

use ebbtide::disk::Fault;

pub(crate) const FAULTS: [Fault; 8] = [
    Fault::Error(ErrorKind::TimedOut),
    Fault::Error(ErrorKind::StorageFull),
    Fault::Error(ErrorKind::Interrupted),
    Fault::ErrorAfter(ErrorKind::TimedOut),
    Fault::Torn(ErrorKind::TimedOut),
    Fault::Torn(ErrorKind::StorageFull),
    Fault::Short,
    Fault::SyncLost(ErrorKind::TimedOut),
];
