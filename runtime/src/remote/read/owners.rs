//! Rows of one version, asked of their owners by record: SnapshotRead, answered by SnapshotRows.
//!
//! A one-sided read takes what it finds while updates go on; a device even takes a row's lines in any order. An owner copies the
//! row under its writer bit, however often it changes. The answer is judged like a READ's.

use std::collections::HashMap;
use std::sync::Mutex;

use sterna_protocol::record::{Kind, SnapshotRows};
use sterna_protocol::{Key, Rank};
use sterna_rdma::ReadData;
use sterna_store::shape::HEADER_BYTES;

use super::super::{Remote, lock};
use crate::table::Table;

/// Rows that a node asks for at a time: what owners may have to park.
const OPEN_MAX: usize = 256;

/// What this node has asked for, by the record's number.
#[derive(Debug, Default)]
pub(in crate::remote) struct Questions(Mutex<HashMap<u32, Question>>);

#[derive(Debug)]
struct Question {
    owner: Rank,
    key: Key,
    row_bytes: usize,
    answer: Option<Answer>,
}

/// A row as its owner has sent it: key and meta word as in its slot, then values and state.
#[derive(Debug)]
pub(super) struct Answer {
    head: [u64; 2],
    bytes: Vec<u8>,
}

impl Answer {
    /// As a READ would have brought it.
    pub(super) fn data(&self) -> ReadData<'_> {
        ReadData { head_before: self.head, bytes: &self.bytes }
    }
}

impl Remote {
    /// Asks a row's owner for it with the next step; gives the question's number, or `None` while too much is asked.
    pub(super) fn ask_owner(&self, owner: Rank, table: &Table, key: Key) -> Option<u32> {
        let mut engine = self.engine();
        let mut open = lock(&self.questions.0);
        if open.len() >= OPEN_MAX {
            return None;
        }
        let number = engine.machine.next_number();
        let row_bytes = table.row_len() * size_of::<f32>();
        open.insert(number, Question { owner, key, row_bytes, answer: None });
        engine.tell(owner, Kind::SnapshotRead, table.id(), number, |writer| {
            let added = writer.key(key);
            debug_assert!(added, "an empty record has room for a key");
        });
        Some(number)
    }

    /// Takes the answer if it has come.
    pub(super) fn take_answer(&self, number: u32) -> Option<Answer> {
        let mut open = lock(&self.questions.0);
        open.get(&number)?.answer.as_ref()?;
        open.remove(&number)?.answer
    }

    /// Nobody wants the answer any more.
    pub(super) fn forget_answer(&self, number: u32) {
        lock(&self.questions.0).remove(&number);
    }

    /// An owner has answered. An error if this is no answer to what it was asked.
    pub(in crate::remote) fn answered(
        &self,
        from: Rank,
        rows: &SnapshotRows<'_>,
    ) -> Result<(), String> {
        let mut open = lock(&self.questions.0);
        let Some(question) = open.get_mut(&rows.number) else { return Ok(()) };
        for row in rows.iter() {
            let whole = !row.meta.state().owns() || row.row.len() == question.row_bytes;
            if (question.owner, question.key) != (from, row.key) || !whole {
                let Key(key) = row.key;
                return Err(format!("{from} sends a row of key {key} as nobody has asked for it"));
            }
            let head = [row.key.0, row.meta.0];
            let mut bytes = Vec::with_capacity(HEADER_BYTES + row.row.len());
            bytes.extend(head.iter().flat_map(|word| word.to_le_bytes()));
            bytes.extend_from_slice(row.row);
            question.answer = Some(Answer { head, bytes });
        }
        Ok(())
    }
}
