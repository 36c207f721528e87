//! Writing a record into a buffer of the caller.

use crate::ids::TableId;
use crate::record::fields::padded;
use crate::record::{HEADER_BYTES, Header, KEYS_MAX, Kind};

/// Fills a buffer with one record, item by item, until it is full. Items are methods beside their
/// kinds; each returns `false`, and changes nothing, when the record has no room for it.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    header: Header,
    at: usize,
}

impl<'a> Writer<'a> {
    /// Starts a record in `buffer`, whose length is the limit of the record.
    ///
    /// # Panics
    /// If the buffer cannot even hold a header.
    #[must_use]
    pub fn new(buffer: &'a mut [u8], kind: Kind, table: TableId, number: u32) -> Self {
        assert!(buffer.len() >= HEADER_BYTES, "a record has a header");
        let header = Header { kind, flags: 0, table, number, count: 0 };
        Self { buffer, header, at: HEADER_BYTES }
    }

    /// Goes on with a record that was left by [`Writer::pause`].
    pub fn resume(buffer: &'a mut [u8], header: Header, at: usize) -> Self {
        Self { buffer, header, at }
    }

    /// Where a record that is not finished stands.
    pub fn pause(self) -> (Header, usize) {
        (self.header, self.at)
    }

    /// Sets the kind's flags.
    pub fn flags(&mut self, flags: u8) {
        self.header.flags = flags;
    }

    /// Items so far.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.header.count
    }

    /// What the record is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.header.kind
    }

    /// Adds an item with a head of `head` bytes and a payload that `write` puts into the room that is
    /// left; it returns the payload's length or `None` if the room is too small. The head, zeroed, and
    /// that length are then given to `finish`.
    pub(super) fn item(
        &mut self,
        head: usize,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
        finish: impl FnOnce(&mut [u8], usize),
    ) -> bool {
        let body = self.at + head;
        if body > self.buffer.len() || self.header.count as usize == KEYS_MAX {
            return false;
        }
        // Padding must fit behind whatever was written.
        let room = (self.buffer.len() - body) / 8 * 8;
        let Some(length) = write(&mut self.buffer[body..body + room]) else { return false };
        assert!(length <= room, "a payload cannot be longer than its room");
        let end = body + padded(length);
        self.buffer[body + length..end].fill(0);
        let head = &mut self.buffer[self.at..body];
        head.fill(0);
        finish(head, length);
        self.at = end;
        self.header.count += 1;
        true
    }

    /// Where the next item starts.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Overwrites bytes of an item that has been written.
    pub(super) fn patch(&mut self, at: usize, bytes: &[u8]) {
        self.buffer[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Ends the record: its bytes, ready to send.
    ///
    /// # Panics
    /// If the buffer is larger than 4 GiB.
    #[must_use]
    pub fn finish(self) -> &'a [u8] {
        let length = u32::try_from(self.at - HEADER_BYTES).expect("records are below 4 GiB");
        self.buffer[..HEADER_BYTES].copy_from_slice(&self.header.to_bytes(length));
        &self.buffer[..self.at]
    }

    /// Sets the count of a record whose items are not keys, with `write` filling the body.
    pub(super) fn body(
        &mut self,
        count: u32,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> bool {
        let Some(length) = write(&mut self.buffer[self.at..]) else { return false };
        self.at += length;
        self.header.count = count;
        true
    }
}
