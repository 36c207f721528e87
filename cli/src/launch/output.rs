//! Copies a rank's output to the launcher's own, line by line, each with the rank in front.

use std::io::{BufRead, BufReader, Read, Write};
use std::thread::{self, JoinHandle};

/// A line longer than this is passed on in pieces, so that a rank cannot make the launcher grow.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// Starts copying `from` to what `to` opens, until its end.
pub(crate) fn copy_lines<R, W>(from: R, to: fn() -> W, prefix: Option<String>) -> JoinHandle<()>
where
    R: Read + Send + 'static,
    W: Write + 'static,
{
    thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut line = Vec::new();
        loop {
            line.clear();
            match reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            if line.last() != Some(&b'\n') {
                line.push(b'\n');
            }
            // One write per line under the stream's lock: lines of different ranks do not mix. A
            // closed output is no reason to stop draining, else the rank would block on its pipe.
            let mut out = to();
            if let Some(prefix) = &prefix {
                line.splice(0..0, prefix.bytes());
            }
            let _ = out.write_all(&line).and_then(|()| out.flush());
        }
    })
}
