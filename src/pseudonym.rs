//! Pseudonyms: what stands for a visitor's address in a log, and the keys they are made with.
//!
//! A pseudonym is BLAKE3 of the address under a random key that belongs to one bucket and dies with
//! it. All IPv4 addresses can be hashed in minutes, so a key that could be derived again would be
//! no protection; once it is gone nobody can link the rows to anybody, whatever backups exist.

use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use crate::disk::{Access, DirEntry, Disk, EntryKind};
use crate::error::{Error, Result};
use crate::format::keys::{self, NumberedKey};
use crate::time::Timestamp;
use crate::twin_file::{self, TwinFile};

/// The file of a log bucket that holds its keys.
pub(crate) const KEYS_FILE: &str = "pseudonym.keys";

/// True of the entry of a bucket that holds its keys.
pub(crate) fn is_keys(entry: &DirEntry) -> bool {
    entry.name == KEYS_FILE && entry.kind != EntryKind::Directory
}

/// Stands for an address within one bucket of one log. The same address has the same pseudonym
/// throughout the bucket, and an unrelated one in the next.
///
/// It cannot be made from anything but an address, by [`Log::pseudonym`](crate::Log::pseudonym),
/// and the address cannot be had back from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pseudonym {
    owner_id: u64,
    period: Timestamp,
    key_number: u32,
    id: [u8; 16],
}

impl Pseudonym {
    pub(crate) fn from_parts(
        owner_id: u64,
        period: Timestamp,
        key_number: u32,
        id: [u8; 16],
    ) -> Self {
        Self { owner_id, period, key_number, id }
    }

    /// The start of the bucket whose key it was made with. Rows about it go to this bucket.
    pub fn period(&self) -> Timestamp {
        self.period
    }

    /// The 128 bits that tell it from others of the same period.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    pub(crate) fn owner_id(&self) -> u64 {
        self.owner_id
    }

    pub(crate) fn key_number(&self) -> u32 {
        self.key_number
    }
}

impl fmt::Display for Pseudonym {
    /// The id as 32 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The keys of one bucket.
#[derive(Clone)]
pub(crate) struct KeyRing {
    keys: Vec<NumberedKey>,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({} keys)", self.keys.len())
    }
}

impl KeyRing {
    /// Makes a bucket's first key and writes it down, durably but for the directory entry.
    pub(crate) fn create(disk: &dyn Disk, bucket_dir: &Path) -> Result<Self> {
        let path = bucket_dir.join(KEYS_FILE);
        let (mut key, mut number) = ([0; 32], [0; 4]);
        disk.fill_random(&mut key)
            .and_then(|()| disk.fill_random(&mut number))
            .map_err(|e| Error::io("read randomness for", &path, e))?;
        // A bucket of the same start may have left in a future that was wrong: its pseudonyms are others.
        let number = u32::from_le_bytes(number);
        let ring = Self { keys: vec![NumberedKey { number, key }] };
        TwinFile::create(disk, &path, keys::MAGIC, &keys::encode(&ring.keys))?;
        Ok(ring)
    }

    /// Reads a bucket's keys, and whether both copies of them are there.
    pub(crate) fn read(disk: &dyn Disk, bucket_dir: &Path) -> Result<(Self, bool)> {
        let path = bucket_dir.join(KEYS_FILE);
        let twin = TwinFile::read(disk, &path, keys::MAGIC)?;
        let unreadable = || twin_file::unreadable(&path, &twin);
        let (_, slot) = twin.newest().ok_or_else(unreadable)?;
        let keys = keys::decode(&slot.payload).map_err(|_| unreadable())?;
        if keys.is_empty() { Err(unreadable()) } else { Ok((Self { keys }, twin.is_whole())) }
    }

    /// Lets the next read see what is on the disk. A first sync of them may have failed, and ext4 never find again what
    /// is written to the same place after that: the blocks stay marked as unwritten.
    pub(crate) fn forget_cached(disk: &dyn Disk, bucket_dir: &Path) -> Result<()> {
        let path = bucket_dir.join(KEYS_FILE);
        let file = disk.open(&path, Access::Read).map_err(|e| Error::io("open", &path, e))?;
        file.forget_cached();
        Ok(())
    }

    /// Makes a bucket's keys durable for certain that an earlier process may have been making when it ended.
    pub(crate) fn settle(disk: &dyn Disk, bucket_dir: &Path) -> Result<()> {
        let (file, _) = TwinFile::open(disk, &bucket_dir.join(KEYS_FILE), keys::MAGIC)?;
        file.settle()?;
        disk.sync_dir(bucket_dir).map_err(|e| Error::io("sync", bucket_dir, e))
    }

    /// Overwrites a bucket's keys, durably.
    pub(crate) fn wipe(disk: &dyn Disk, bucket_dir: &Path) -> Result<()> {
        match twin_file::wipe(disk, &bucket_dir.join(KEYS_FILE)) {
            // No file, or one that has another name too: somebody else's.
            Err(Error::Io { operation: "open", source, .. })
                if source.kind() == ErrorKind::InvalidInput =>
            {
                Ok(())
            }
            wiped => wiped,
        }
    }

    /// The pseudonym of an address under the newest key. An IPv4 address and the same one mapped
    /// into IPv6 have one pseudonym.
    pub(crate) fn pseudonym(
        &self,
        owner_id: u64,
        ip: IpAddr,
        period: Timestamp,
    ) -> Option<Pseudonym> {
        let key = self.keys.last()?;
        let canonical: Ipv6Addr = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let hash = blake3::keyed_hash(&key.key, &canonical.octets());
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(hash.as_bytes()) {
            *to = *from;
        }
        Some(Pseudonym { owner_id, period, key_number: key.number, id })
    }

    /// True if the ring holds a key of this number.
    pub(crate) fn contains(&self, number: u32) -> bool {
        self.keys.iter().any(|key| key.number == number)
    }
}

impl Drop for KeyRing {
    fn drop(&mut self) {
        for key in &mut self.keys {
            // Best effort: `black_box` keeps the store from being optimised away, but copies the
            // compiler made on the way are out of reach.
            key.key = [0; 32];
            std::hint::black_box(&key.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(byte: u8) -> KeyRing {
        KeyRing { keys: vec![NumberedKey { number: 1, key: [byte; 32] }] }
    }

    #[test]
    fn one_address_one_pseudonym_per_key() {
        let period = Timestamp::from_millis(0);
        let of = |ring: &KeyRing, ip: &str| ring.pseudonym(1, ip.parse().unwrap(), period).unwrap();
        let (first, second) = (ring(1), ring(2));
        assert_eq!(of(&first, "198.18.0.1"), of(&first, "::ffff:198.18.0.1"));
        assert_ne!(of(&first, "198.18.0.1"), of(&first, "198.18.0.2"));
        assert_ne!(of(&first, "198.18.0.1").id(), of(&second, "198.18.0.1").id());
        assert_ne!(of(&first, "2001:db8::1"), of(&first, "2001:db8::2"));
        assert_eq!(of(&first, "2001:db8::1").to_string().len(), 32);
    }
}
