//! Chunk: an arena of the sender has grown; told before any slot in the new chunk is disclosed.
//!
//! ```text
//!  0        4         8                               40
//! +--------+---------+-------------------------------+
//! | arena  | index   | region token                  |
//! +--------+---------+-------------------------------+
//! ```

use sterna_rdma::region::RegionToken;

use crate::ids::TableId;
use crate::record::fields::u32_at;
use crate::record::{DecodeError, Header, Writer};

const BODY_BYTES: usize = 8 + RegionToken::BYTES;

/// What a chunk belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Arena {
    /// Slots of a table.
    Rows = 1,
    /// Directory words of a table.
    Directory = 2,
    /// Boards of a table.
    Boards = 3,
    /// The node's clocks; the table is 0.
    Clocks = 4,
}

/// A new chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The table.
    pub table: TableId,
    /// The arena.
    pub arena: Arena,
    /// The chunk's place in the arena's list.
    pub index: u32,
    /// What the receiver needs to import the region.
    pub token: RegionToken,
}

impl Chunk {
    pub(super) fn decode(header: &Header, body: &[u8]) -> Result<Self, DecodeError> {
        header.plain()?;
        let Ok(body) = <&[u8; BODY_BYTES]>::try_from(body) else {
            return Err(header.wrong("a chunk has 40 bytes"));
        };
        let arena = match u32_at(body, 0) {
            1 => Arena::Rows,
            2 => Arena::Directory,
            3 => Arena::Boards,
            4 => Arena::Clocks,
            _ => return Err(header.wrong("unknown arena")),
        };
        let token = body[8..].try_into().expect("32 bytes");
        let token = RegionToken::from_bytes(token);
        Ok(Self { table: header.table, arena, index: u32_at(body, 4), token })
    }
}

impl Writer<'_> {
    /// Writes the body of a Chunk. `false` if the buffer is too small.
    pub fn chunk(&mut self, arena: Arena, index: u32, token: &RegionToken) -> bool {
        self.body(1, |body| {
            let body = body.get_mut(..BODY_BYTES)?;
            body[0..4].copy_from_slice(&(arena as u32).to_le_bytes());
            body[4..8].copy_from_slice(&index.to_le_bytes());
            body[8..].copy_from_slice(&token.to_bytes());
            Some(BODY_BYTES)
        })
    }
}
