//! What the header of a row that was read says: whether the row was there.

use sterna_protocol::entry::ReadFound;
use sterna_protocol::{Epoch, Key, MetaWord, Rank, SlotState};
use sterna_rdma::ReadData;

fn word(data: &ReadData<'_>, at: usize) -> u64 {
    u64::from_le_bytes(data.bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// A row's meta words from before and after it was read.
pub(in crate::remote) fn metas(data: &ReadData<'_>) -> [MetaWord; 2] {
    [MetaWord(data.head_before[1]), MetaWord(word(data, 8))]
}

/// Whether the header says that the row was there, before and after its values were read; without an epoch any will do, as at the
/// home of a key of which nothing else is known.
pub(in crate::remote) fn judge(key: Key, epoch: Option<Epoch>, data: &ReadData<'_>) -> ReadFound {
    let [first, last] = metas(data);
    if data.head_before[0] != key.0 || word(data, 0) != key.0 {
        return ReadFound::Nothing;
    }
    if last.state() == SlotState::Moved {
        return match u16::try_from(last.version()) {
            Ok(next) if usize::from(next) < Rank::COUNT_MAX => {
                ReadFound::Moved { next: Rank(next), epoch: last.epoch() }
            }
            _ => ReadFound::Nothing,
        };
    }
    let right = |meta: MetaWord| meta.state().owns() && epoch.is_none_or(|it| it == meta.epoch());
    let same = first.epoch() == last.epoch();
    if right(first) && right(last) && same { ReadFound::Row } else { ReadFound::Nothing }
}
