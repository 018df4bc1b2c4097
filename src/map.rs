//! Read-only mappings of segment files, and a page that knows its process: the one place with `unsafe` blocks.
//!
//! A [`Map`] covers a segment's full capacity from its first day and is never remapped. Bytes are
//! only ever handed out below the durable length, which the segment raises after a successful
//! `fdatasync`; what lies above it is never turned into a slice.
//!
//! Bytes that anyone can see never change. Below the durable length the engine writes only to erase,
//! and only bytes that nobody sees: every slice that covers them has been dropped, and none can be
//! formed any more, since a slice that is formed for a reader covers one record, and a live one.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::DiskLock;
use crate::planted::{Bug, is_planted};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// A read-only view of a file's bytes, or of heap memory standing in for one.
#[derive(Debug)]
pub struct Map {
    memory: Memory,
    durable_len: AtomicUsize,
}

#[derive(Debug)]
enum Memory {
    File(memmap2::MmapRaw),
    Heap(HeapMemory),
}

/// Heap memory that one writer fills from the front while readers look at what is behind it.
#[derive(Debug)]
struct HeapMemory {
    start: *mut u8,
    len: usize,
    /// Held while bytes change or are copied, and while a window is formed, which for an instant is a
    /// slice of all durable bytes, erased ones among them.
    turn: Mutex<()>,
    /// How far windows reach that have been formed.
    shown: AtomicUsize,
}

// SAFETY: the pointer is the only reference to an allocation this value owns; access to it follows
// the rule stated at `Map::write_heap`: writes touch only bytes no slice covers.
#[allow(unsafe_code)]
unsafe impl Send for HeapMemory {}
// SAFETY: as for `Send`.
#[allow(unsafe_code)]
unsafe impl Sync for HeapMemory {}

impl HeapMemory {
    fn new(len: usize) -> Self {
        let start = Box::into_raw(vec![0_u8; len].into_boxed_slice()).cast::<u8>();
        Self { start, len, turn: Mutex::new(()), shown: AtomicUsize::new(0) }
    }
}

impl Drop for HeapMemory {
    fn drop(&mut self) {
        let slice = std::ptr::slice_from_raw_parts_mut(self.start, self.len);
        // SAFETY: `start` and `len` came from `Box::into_raw` of a boxed slice of this length, and
        // this is the only place that turns them back into a box.
        #[allow(unsafe_code)]
        drop(unsafe { Box::from_raw(slice) });
    }
}

impl Map {
    /// Maps `len` bytes of the file; it may be shorter than that now and grow later.
    pub(crate) fn file(file: &File, len: usize) -> io::Result<Self> {
        let raw = memmap2::MmapOptions::new().len(len).map_raw_read_only(file)?;
        // Advice only: a refusal costs speed, nothing else.
        let _ = raw.advise(memmap2::Advice::Random);
        Ok(Self { memory: Memory::File(raw), durable_len: AtomicUsize::new(0) })
    }

    /// Memory standing in for a mapped file.
    pub(crate) fn heap(len: usize) -> Self {
        Self { memory: Memory::Heap(HeapMemory::new(len)), durable_len: AtomicUsize::new(0) }
    }

    /// Copies bytes into a heap map, as a write to a mapped file would appear in it; what does not
    /// fit is left out. Does nothing on a mapped file.
    ///
    /// Below the durable length the engine writes only to erase: after every slice that covers these
    /// bytes has been dropped, and after none can be formed.
    pub(crate) fn write_heap(&self, offset: usize, bytes: &[u8]) {
        let Memory::Heap(heap) = &self.memory else { return };
        if offset >= heap.len {
            return;
        }
        let count = bytes.len().min(heap.len - offset);
        let _turn = heap.turn.lock();
        let is_erased = offset + count <= self.durable_len.load(Ordering::Acquire);
        debug_assert!(
            is_erased || offset >= heap.shown.load(Ordering::Acquire),
            "a window shows bytes that are not written yet"
        );
        // SAFETY: `offset + count <= len`, so the destination lies inside the allocation. No slice
        // overlaps it: slices are formed below `durable_len` only (`Window::as_ref`), and it is
        // raised only after the writes it covers have returned; what is written below it afterwards
        // is being erased, which the engine does once every slice that covers it has been dropped
        // and none can be formed: slices formed for readers cover exactly one live record. Forming
        // a window, and any other write, waits for its turn. The caller of `open_mapped` promised
        // that nothing else writes to the file. The source is a caller's slice and cannot overlap
        // an allocation nobody else can reach.
        #[allow(unsafe_code)]
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), heap.start.add(offset), count);
        }
    }

    /// Raises the length below which bytes are durable, and never change as long as anyone can see
    /// them.
    ///
    /// The caller has seen an `fdatasync` of these bytes succeed, and writes below it again only to
    /// erase what no slice covers and none will: see [`write_heap`](Self::write_heap).
    pub(crate) fn raise_durable_len(&self, len: usize) {
        self.durable_len.fetch_max(len.min(self.capacity()), Ordering::AcqRel);
    }

    /// The durable bytes, shared: valid as long as the result or any slice of it lives.
    pub(crate) fn window(self: &Arc<Self>, pin: Arc<Pin>) -> Bytes {
        let _turn = self.turn();
        let mut len = self.durable_len.load(Ordering::Acquire);
        if is_planted(Bug::SliceBeyondDurable) {
            len = self.capacity();
        }
        if let Memory::Heap(heap) = &self.memory {
            heap.shown.fetch_max(len, Ordering::AcqRel);
        }
        Bytes::from_owner(Window { map: Arc::clone(self), len, _pin: pin })
    }

    /// Copies bytes below the durable length out; false, and nothing copied, if they are not there.
    pub(crate) fn copy(&self, offset: usize, to: &mut [u8]) -> bool {
        let durable_len = self.durable_len.load(Ordering::Acquire);
        if offset.checked_add(to.len()).is_none_or(|end| end > durable_len) {
            return false;
        }
        let _turn = self.turn();
        // SAFETY: the source lies below `durable_len` and so inside the memory, which lives as long
        // as `self`; the destination is a slice of this caller. No reference to the source is
        // formed, so the kernel may overwrite one byte of a file's page at the same time, as a
        // record's state is: either value of that byte is copied. On the heap, where it would be this
        // process that overwrites, the two take turns.
        #[allow(unsafe_code)]
        unsafe {
            std::ptr::copy_nonoverlapping(self.start().add(offset), to.as_mut_ptr(), to.len());
        }
        true
    }

    /// Asks the kernel to read a range ahead of its use.
    pub(crate) fn prefetch(&self, offset: usize, len: usize) {
        if let Memory::File(raw) = &self.memory {
            // Advice only: a refusal costs speed, nothing else.
            let _ = raw.advise_range(memmap2::Advice::WillNeed, offset, len);
        }
    }

    /// Keeps heap memory from being written meanwhile.
    fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        match &self.memory {
            Memory::File(_) => None,
            Memory::Heap(heap) => Some(heap.turn.lock()),
        }
    }

    fn capacity(&self) -> usize {
        match &self.memory {
            Memory::File(raw) => raw.len(),
            Memory::Heap(heap) => heap.len,
        }
    }

    fn start(&self) -> *const u8 {
        match &self.memory {
            Memory::File(raw) => raw.as_ptr(),
            Memory::Heap(heap) => heap.start,
        }
    }
}

/// Shared by all slices cut from one window; a segment watches it to learn when they are gone.
#[derive(Debug, Default)]
pub(crate) struct Pin {
    _lock: Option<Arc<dyn DiskLock>>,
}

impl Pin {
    /// A pin that keeps a store's lock: while somebody looks at mapped bytes no later opening may
    /// write.
    pub(crate) fn new(lock: Option<Arc<dyn DiskLock>>) -> Self {
        Self { _lock: lock }
    }
}

/// The durable part of a map, kept alive.
struct Window {
    map: Arc<Map>,
    len: usize,
    _pin: Arc<Pin>,
}

impl AsRef<[u8]> for Window {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `len` was read from `durable_len`, which never exceeds the capacity, so the range
        // lies inside the mapping, and the mapping lives as long as `self`. All of it is below the
        // file's end, since it was written and synced, and the engine never cuts a mapped file
        // below that. Below `durable_len` the engine writes only to erase, and only what nobody sees: no
        // slice that is read covers those bytes then, and none is formed. This one does cover them,
        // but `Bytes::from_owner`, in `Map::window`, takes no more from it than where it begins and
        // how long it is, and keeps no reference. The caller of `open_mapped` promised that no
        // other process writes at all.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.map.start(), self.len)
        }
    }
}

/// A page of memory that a `fork` empties for the child.
#[derive(Debug)]
pub(crate) struct OwnPage(memmap2::MmapRaw);

impl OwnPage {
    /// One that tells this process from its children; nothing if the system has no such pages.
    pub(crate) fn new() -> Option<Self> {
        let mut page = memmap2::MmapMut::map_anon(1).ok()?;
        *page.first_mut()? = 1;
        empty_for_children(&mut page).ok()?;
        Some(Self(page.into()))
    }

    /// False in a child that was forked since it was made.
    pub(crate) fn is_own(&self) -> bool {
        // SAFETY: the first byte of a mapping that lives as long as `self`, was written before, and is
        // written by nobody any more. Only a `fork` changes it, for the child alone, which is why it has
        // to be looked at each time.
        #[allow(unsafe_code)]
        let byte = unsafe { self.0.as_ptr().read_volatile() };
        byte == 1
    }
}

/// Has a `fork` empty these bytes for the child.
#[cfg(all(target_os = "linux", not(miri)))]
fn empty_for_children(page: &mut memmap2::MmapMut) -> io::Result<()> {
    use rustix::mm::{Advice, madvise};
    // SAFETY: the range is that of one anonymous mapping, which is exclusively borrowed. The advice changes
    // nothing in this process, and in a child it leaves zeros, which are bytes like others.
    #[allow(unsafe_code)]
    let done = unsafe { madvise(page.as_mut_ptr().cast(), page.len(), Advice::LinuxWipeOnFork) };
    Ok(done?)
}

/// Other systems cannot.
#[cfg(not(all(target_os = "linux", not(miri))))]
fn empty_for_children(_: &mut memmap2::MmapMut) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 64;

    #[test]
    fn nothing_is_seen_beyond_what_is_durable() {
        let map = Arc::new(Map::heap(LEN));
        map.write_heap(0, &[1; LEN]);
        assert!(map.window(Arc::default()).is_empty());
        assert!(!map.copy(0, &mut [0; 1]) && map.copy(0, &mut []));
        map.raise_durable_len(8);
        map.raise_durable_len(4);
        assert_eq!(map.window(Arc::default()), [1; 8][..]);
        let mut bytes = [0; 4];
        assert!(map.copy(4, &mut bytes) && bytes == [1; 4]);
        assert!(!map.copy(5, &mut bytes) && !map.copy(usize::MAX, &mut bytes));
        map.raise_durable_len(LEN + 1);
        assert_eq!(map.window(Arc::default()).len(), LEN);
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let map = Arc::new(Map::heap(4));
        map.write_heap(2, b"abc");
        map.write_heap(4, b"d");
        map.write_heap(9, b"e");
        map.raise_durable_len(4);
        assert_eq!(map.window(Arc::default()), b"\0\0ab"[..]);
    }

    #[test]
    fn a_slice_outlives_the_map_and_what_is_written_beside_it() {
        let map = Arc::new(Map::heap(LEN));
        map.write_heap(0, b"deadheld");
        map.raise_durable_len(8);
        let pin = Arc::new(Pin::default());
        let held = map.window(Arc::clone(&pin)).slice(4..8);
        map.write_heap(0, &[0; 4]);
        map.write_heap(8, b"next");
        map.raise_durable_len(12);
        assert_eq!(map.window(Arc::default()), b"\0\0\0\0heldnext"[..]);
        drop(map);
        assert_eq!(held, b"held"[..]);
        assert_eq!(Arc::strong_count(&pin), 2);
        drop(held);
        assert_eq!(Arc::strong_count(&pin), 1);
    }

    #[test]
    fn readers_look_while_a_writer_appends_and_erases() {
        const PIECE: usize = 4;
        let map = Arc::new(Map::heap(LEN));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..LEN {
                        let window = map.window(Arc::default());
                        // The first piece is erased at some time, and so is never sliced.
                        let rest = window.slice(PIECE.min(window.len())..);
                        assert!(rest.iter().all(|byte| *byte == 7));
                        let mut first = [0; PIECE];
                        if map.copy(0, &mut first) {
                            assert!(first == [7; PIECE] || first == [0; PIECE]);
                        }
                    }
                });
            }
            for end in (PIECE..=LEN).step_by(PIECE) {
                map.write_heap(end - PIECE, &[7; PIECE]);
                map.raise_durable_len(end);
                if end == LEN / 2 {
                    map.write_heap(0, &[0; PIECE]);
                }
            }
        });
    }
}
