//! WN18RR inside the program, so that a first run needs no download and works in any folder.
//!
//! Origin, licence and sums are in `tasks/data/wn18rr`.

use std::path::Path;

use super::{Graph, read::Reader};
use crate::data::DataError;

/// The data set's name, in reports and as the key of its recipe.
pub const NAME: &str = "WN18RR";

const TRAIN: &[u8] = include_bytes!("../../../data/wn18rr/train.txt.xz");
const VALID: &[u8] = include_bytes!("../../../data/wn18rr/valid.txt.xz");
const TEST: &[u8] = include_bytes!("../../../data/wn18rr/test.txt.xz");

/// The licence under which the data set travels, to show to who asks.
pub const LICENSE: &str = include_str!("../../../data/wn18rr/LICENSE");

/// Unpacks the data set that ships with the program.
///
/// # Errors
/// Only if the program itself was damaged.
pub fn graph() -> Result<Graph, DataError> {
    let mut reader = Reader::default();
    let mut read = |packed: &'static [u8], name: &str| {
        reader.triples(&Path::new(NAME).join(name), unpack(packed))
    };
    let splits = [read(TRAIN, "train.txt")?, read(VALID, "valid.txt")?, read(TEST, "test.txt")?];
    Ok(reader.finish(NAME.into(), splits))
}

fn unpack(packed: &'static [u8]) -> impl std::io::Read + Send {
    lzma_rust2::XzReader::new(packed, true)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use sha2::{Digest, Sha256};

    use super::{TEST, TRAIN, VALID, graph, unpack};

    #[test]
    fn the_shipped_files_are_the_published_ones() {
        let sums = [
            (TRAIN, "038612e783c215ee5f3ca9fbfca27b8d0739be1028fe4ee7c174aecf0b83d5df"),
            (VALID, "453ce7202afa58094a04d2b1560ee2b02660f1c260b32ce6651c8ccedd1028ab"),
            (TEST, "0383bceaaa1096cf3c03ec021ed0048068e2355dbfc0239b292cefdac821cec5"),
        ];
        for (packed, published) in sums {
            let mut text = Vec::new();
            unpack(packed).read_to_end(&mut text).unwrap();
            let sum: String = Sha256::digest(&text).iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(sum, published);
        }
    }

    #[test]
    fn its_counts_are_the_published_ones() {
        let counts = graph().unwrap().counts();
        assert_eq!((counts.entities, counts.relations), (40_943, 11));
        assert_eq!((counts.train, counts.valid, counts.test), (86_835, 3_034, 3_134));
        assert_eq!(counts.test_unseen, 210);
    }
}
