//! Frames of a link.
//!
//! ```text
//!  0         4      5      8                16                24
//! +---------+------+------+----------------+-----------------+---------------+
//! | length  | kind | 0    | consumed bytes | consumed records| record        |
//! +---------+------+------+----------------+-----------------+---------------+
//! ```
//!
//! Every frame tells how much its sender has consumed so far: the credit of the other direction.
//! Lengths are checked before anything is allocated; a frame that breaks the format is an error,
//! never a panic.

use crate::fabric::RECORD_BYTES_MAX;

/// Length of a frame's header.
pub(super) const HEADER_BYTES: usize = 24;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    /// A record.
    Record,
    /// Nothing but the counters of its header.
    Credit,
    /// The sender leaves; nothing follows.
    Goodbye,
}

impl FrameKind {
    fn code(self) -> u8 {
        match self {
            Self::Record => 1,
            Self::Credit => 2,
            Self::Goodbye => 3,
        }
    }
}

/// What a node has taken from a link so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Consumed {
    pub(super) bytes: u64,
    pub(super) records: u64,
}

/// What breaks the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    /// Longer than any record.
    #[error("a frame of {0} bytes is above the limit of {RECORD_BYTES_MAX}")]
    TooLong(u32),
    /// No such kind, or reserved bytes that are not zero.
    #[error("a frame of unknown kind {0}")]
    Kind(u8),
    /// A frame without content that has some.
    #[error("a control frame with {0} bytes of content")]
    Content(u32),
}

/// Makes a header. `record_bytes` is at most [`RECORD_BYTES_MAX`].
pub(super) fn header(
    kind: FrameKind,
    record_bytes: usize,
    consumed: Consumed,
) -> [u8; HEADER_BYTES] {
    let length = u32::try_from(record_bytes).expect("checked against RECORD_BYTES_MAX");
    let mut out = [0; HEADER_BYTES];
    out[0..4].copy_from_slice(&length.to_le_bytes());
    out[4] = kind.code();
    out[8..16].copy_from_slice(&consumed.bytes.to_le_bytes());
    out[16..24].copy_from_slice(&consumed.records.to_le_bytes());
    out
}

/// A received frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) kind: FrameKind,
    pub(super) consumed: Consumed,
    pub(super) record: &'a [u8],
}

/// Bytes received from a link and not yet taken as frames.
pub(super) struct FrameBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl FrameBuffer {
    pub(super) fn new(bytes: usize) -> Self {
        assert!(bytes >= HEADER_BYTES, "a header fits");
        Self { bytes: vec![0; bytes], start: 0, end: 0 }
    }

    /// Where the next bytes are to be received, never empty once [`FrameBuffer::next`] has returned
    /// `None`. Grows to the length of the frame that has begun, which has been checked.
    pub(super) fn space(&mut self) -> &mut [u8] {
        let needed = match self.peek() {
            Ok(Some(length)) => HEADER_BYTES + length,
            _ => HEADER_BYTES,
        };
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start + needed > self.bytes.len() || self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if needed > self.bytes.len() {
            self.bytes.resize(needed, 0);
        }
        &mut self.bytes[self.end..]
    }

    /// Notes that `count` bytes were received into [`FrameBuffer::space`].
    pub(super) fn received(&mut self, count: usize) {
        self.end += count;
        assert!(self.end <= self.bytes.len(), "received into the space");
    }

    /// The length of the next frame's record if its header is here.
    fn peek(&self) -> Result<Option<usize>, FrameError> {
        let Some(header) = self.bytes[self.start..self.end].first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(header[0..4].try_into().expect("4 bytes"));
        if length as usize > RECORD_BYTES_MAX {
            return Err(FrameError::TooLong(length));
        }
        Ok(Some(length as usize))
    }

    /// Takes the next complete frame.
    pub(super) fn next(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let Some(length) = self.peek()? else { return Ok(None) };
        let at = self.start;
        let header = &self.bytes[at..at + HEADER_BYTES];
        let kind = match header[4] {
            1 => FrameKind::Record,
            2 => FrameKind::Credit,
            3 => FrameKind::Goodbye,
            other => return Err(FrameError::Kind(other)),
        };
        if header[5..8] != [0; 3] {
            return Err(FrameError::Kind(header[4]));
        }
        if kind != FrameKind::Record && length != 0 {
            return Err(FrameError::Content(u32::try_from(length).expect("it was a u32")));
        }
        if self.end - at < HEADER_BYTES + length {
            return Ok(None);
        }
        let long = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
        let consumed = Consumed { bytes: long(8), records: long(16) };
        self.start = at + HEADER_BYTES + length;
        Ok(Some(Frame { kind, consumed, record: &self.bytes[at + HEADER_BYTES..self.start] }))
    }

    /// Bytes it holds on to.
    #[cfg(test)]
    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }

        fn below(&mut self, limit: usize) -> usize {
            usize::try_from(self.next() % limit as u64).expect("below a usize")
        }
    }

    /// Kind, counters and record of a frame.
    type Taken = (FrameKind, Consumed, Vec<u8>);

    /// Feeds `stream` in pieces of random length and returns the frames up to the first error.
    fn decode(stream: &[u8], random: &mut Random) -> (Vec<Taken>, Option<FrameError>) {
        let mut buffer = FrameBuffer::new(64);
        let (mut at, mut frames) = (0, Vec::new());
        loop {
            loop {
                match buffer.next() {
                    Ok(Some(frame)) => {
                        frames.push((frame.kind, frame.consumed, frame.record.to_vec()));
                    }
                    Ok(None) => break,
                    Err(error) => return (frames, Some(error)),
                }
            }
            assert!(buffer.capacity() <= HEADER_BYTES + RECORD_BYTES_MAX);
            if at == stream.len() {
                return (frames, None);
            }
            let space = buffer.space();
            assert!(!space.is_empty(), "the decoder is stuck");
            let count = (1 + random.below(space.len())).min(stream.len() - at);
            space[..count].copy_from_slice(&stream[at..at + count]);
            buffer.received(count);
            at += count;
        }
    }

    fn valid_stream(random: &mut Random) -> (Vec<u8>, Vec<Taken>) {
        let (mut stream, mut frames) = (Vec::new(), Vec::new());
        for _ in 0..random.below(6) {
            let kind = [FrameKind::Record, FrameKind::Credit, FrameKind::Goodbye][random.below(3)];
            let length = if kind == FrameKind::Record { random.below(300) } else { 0 };
            let consumed = Consumed { bytes: random.next(), records: random.next() };
            let record: Vec<u8> = (0..length).map(|i| (i % 251).to_le_bytes()[0]).collect();
            stream.extend(header(kind, length, consumed));
            stream.extend(&record);
            frames.push((kind, consumed, record));
        }
        (stream, frames)
    }

    #[test]
    fn frames_come_out_as_they_went_in_whatever_the_pieces() {
        let mut random = Random(1);
        for case in 0..20_000 {
            let (stream, frames) = valid_stream(&mut random);
            assert_eq!(decode(&stream, &mut random), (frames, None), "case {case}");
        }
    }

    #[test]
    fn a_record_of_the_limit_passes_and_one_byte_more_is_refused_before_it_arrives() {
        let mut random = Random(2);
        let mut stream = header(FrameKind::Record, RECORD_BYTES_MAX, Consumed::default()).to_vec();
        stream.resize(HEADER_BYTES + RECORD_BYTES_MAX, 7);
        let (frames, error) = decode(&stream, &mut random);
        assert_eq!((frames.len(), error), (1, None));
        let too_long = header(FrameKind::Record, RECORD_BYTES_MAX + 1, Consumed::default());
        let (_, error) = decode(&too_long, &mut random);
        assert_eq!(error, Some(FrameError::TooLong(262_145)));
    }

    #[test]
    fn random_and_damaged_frames_never_crash_or_grow_the_decoder() {
        let mut random = Random(3);
        let mut errors = 0;
        for _ in 0..150_000 {
            let (mut stream, _) = valid_stream(&mut random);
            if random.below(4) == 0 {
                stream = (0..random.below(200)).map(|_| random.next().to_le_bytes()[0]).collect();
            }
            for _ in 0..random.below(4) {
                match random.below(3) {
                    0 if !stream.is_empty() => {
                        let at = random.below(stream.len());
                        stream[at] ^= 1 << random.below(8);
                    }
                    1 => stream.truncate(random.below(stream.len() + 1)),
                    _ => {
                        let at = random.below(stream.len() + 1);
                        stream.insert(at, random.next().to_le_bytes()[0]);
                    }
                }
            }
            errors += usize::from(decode(&stream, &mut random).1.is_some());
        }
        assert!(errors > 10_000, "the damage reaches the checks: {errors}");
    }
}
