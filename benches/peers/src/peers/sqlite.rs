//! SQLite: B-trees of pages with a write-ahead log.
//!
//! A file a day, so that a day goes by unlinking it. Only the newest is written; those before it are
//! checkpointed and opened as immutable, which spares a reader the locks on every file it probes.
//! Images have large pages and an index of their own, small records a table without row ids. Commits
//! are not synced (`synchronous = NORMAL`); what has to be durable is committed with `FULL`, which
//! syncs all of the log. A reader has a connection to each day and goes back to a pool.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::days::{ABSENT, Days, name, number, show};
use crate::peer::{Contestant, Failure, Peer, Result, Setup};

pub const CONTESTANT: Contestant = Contestant {
    name: "sqlite",
    remark: "a file a day with a write-ahead log, days that are over immutable",
    survives_crash: true,
    open,
};

const GET: &str = "SELECT value FROM record WHERE key = ?1";
const PUT: &str = "INSERT OR REPLACE INTO record (key, value) VALUES (?1, ?2)";

struct Sqlite {
    dir: PathBuf,
    blobs: bool,
    days: Days<()>,
    /// Of the newest day.
    writer: Mutex<Option<Connection>>,
    readers: Mutex<Vec<Reader>>,
    /// Counts changes to the list of days; readers of an older one are closed.
    changes: AtomicU64,
}

/// Connections to all days, newest first.
struct Reader {
    changes: u64,
    days: Vec<Connection>,
}

fn open(dir: &Path, setup: Setup) -> Result<Box<dyn Peer>> {
    std::fs::create_dir_all(dir)?;
    let mut days = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let day = name.to_str().and_then(|name| number(name.strip_suffix(".db")?));
        days.extend(day.map(|day| (day, ())));
    }
    let store = Sqlite {
        dir: dir.to_owned(),
        blobs: setup.blobs,
        days: Days::new(days),
        writer: Mutex::new(None),
        readers: Mutex::default(),
        changes: AtomicU64::new(0),
    };
    let days: Vec<u32> = store.days.read().iter().map(|&(day, ())| day).collect();
    // A process that was killed may have left the log of any.
    for &day in days.iter().skip(1) {
        if store.path(day).with_extension("db-wal").exists() {
            seal(&store.create(day)?)?;
        }
    }
    if let Some(&newest) = days.first() {
        *store.writer() = Some(store.create(newest)?);
    }
    Ok(Box::new(store))
}

/// Moves all of the log into the file, durably.
fn seal(connection: &Connection) -> Result<()> {
    let busy: bool =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy { Err("the log is in use".into()) } else { Ok(()) }
}

fn put<'a>(
    connection: &Connection,
    items: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<()> {
    let transaction = connection.unchecked_transaction()?;
    let mut statement = transaction.prepare_cached(PUT)?;
    for item in items {
        statement.execute(item)?;
    }
    drop(statement);
    Ok(transaction.commit()?)
}

impl Sqlite {
    fn path(&self, day: u32) -> PathBuf {
        self.dir.join(name(day)).with_extension("db")
    }

    fn writer(&self) -> MutexGuard<'_, Option<Connection>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn readers(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn create(&self, day: u32) -> Result<Connection> {
        let (page_bytes, without_rowid) =
            if self.blobs { (16384, "") } else { (4096, "WITHOUT ROWID") };
        let connection = Connection::open(self.path(day))?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.execute_batch(&format!(
            "PRAGMA page_size = {page_bytes};
             PRAGMA journal_mode = WAL;
             PRAGMA synchronous = NORMAL;
             PRAGMA cache_size = -65536;
             PRAGMA mmap_size = 2147418112;
             PRAGMA wal_autocheckpoint = {};
             CREATE TABLE IF NOT EXISTS record (key BLOB PRIMARY KEY, value BLOB) {without_rowid};",
            (64 << 20) / page_bytes
        ))?;
        Ok(connection)
    }

    fn reader(&self) -> Result<Reader> {
        let changes = self.changes.load(Ordering::Acquire);
        loop {
            match self.readers().pop() {
                Some(reader) if reader.changes == changes => return Ok(reader),
                Some(_) => {}
                None => break,
            }
        }
        let mut connections = Vec::new();
        for (at, &(day, ())) in self.days.read().iter().enumerate() {
            let immutable = if at == 0 { "" } else { "?immutable=1" };
            let uri = format!("file:{}{immutable}", self.path(day).display());
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
                | OpenFlags::SQLITE_OPEN_URI
                | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(uri, flags)?;
            connection.execute_batch("PRAGMA mmap_size = 2147418112")?;
            connections.push(connection);
        }
        Ok(Reader { changes, days: connections })
    }

    fn write<'a>(
        &self,
        durable: bool,
        items: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<()> {
        let writer = self.writer();
        let connection = writer.as_ref().ok_or_else(|| Failure::from("no day yet"))?;
        if !durable {
            return put(connection, items);
        }
        connection.execute_batch("PRAGMA synchronous = FULL")?;
        let outcome = put(connection, items);
        connection.execute_batch("PRAGMA synchronous = NORMAL")?;
        outcome
    }

    /// Makes readers open the days anew.
    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
        self.readers().clear();
    }
}

impl Peer for Sqlite {
    fn begin_day(&self, day: u32) -> Result<()> {
        if self.days.has(day) {
            return Ok(());
        }
        let mut writer = self.writer();
        let connection = self.create(day)?;
        // Readers of the log would keep it from being emptied.
        self.changed();
        if let Some(over) = writer.replace(connection) {
            seal(&over)?;
        }
        self.days.add(day, ());
        self.changed();
        Ok(())
    }

    fn insert(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(false, std::iter::once((key, value)))
    }

    fn insert_batch(&self, items: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        self.write(false, items.iter().map(|(key, value)| (key.as_slice(), value.as_slice())))
    }

    fn insert_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(true, std::iter::once((key, value)))
    }

    fn sync(&self) -> Result<()> {
        // A commit, to have the log synced.
        self.write(true, std::iter::once((&b""[..], ABSENT)))
    }

    fn get(&self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let reader = self.reader()?;
        let mut found = false;
        for connection in &reader.days {
            let mut statement = connection.prepare_cached(GET)?;
            let mut rows = statement.query((key,))?;
            if let Some(row) = rows.next()? {
                found = show(row.get_ref(0)?.as_blob()?, look);
                break;
            }
        }
        if reader.changes == self.changes.load(Ordering::Acquire) {
            self.readers().push(reader);
        }
        Ok(found)
    }

    fn invalidate(&self, keys: &[&[u8]]) -> Result<()> {
        self.write(true, keys.iter().map(|key| (*key, ABSENT)))
    }

    fn drop_day(&self, day: u32) -> Result<()> {
        let mut writer = self.writer();
        let newest = self.days.read().first().is_some_and(|&(newest, ())| newest == day);
        if self.days.remove(day).is_none() {
            return Ok(());
        }
        self.changed();
        if newest {
            *writer = None;
        }
        std::fs::remove_file(self.path(day))?;
        Ok(std::fs::File::open(&self.dir)?.sync_all()?)
    }

    fn reclaim(&self) -> Result<()> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.readers().clear();
        if let Some(connection) = self.writer().take() {
            seal(&connection)?;
        }
        Ok(())
    }
}
