//! What the reader accepts, and how it refuses.

use std::io::Write;
use std::path::Path;

use super::{Graph, Triple};
use crate::data::DataError;

const TRAIN: &str = "a\tlikes\tb\nb\tlikes\tc\n";

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// Reads a folder whose training file has this content and whose other files are fine.
fn read_train(content: &[u8]) -> Result<Graph, DataError> {
    let rest: &[u8] = b"a\tlikes\tc\n";
    let folder = folder(&[("train.txt", content), ("valid.txt", rest), ("test.txt", rest)]);
    Graph::read(folder.path())
}

#[test]
fn names_are_numbered_by_first_appearance_and_unseen_ones_are_counted() {
    let files: &[(&str, &[u8])] = &[
        ("train.txt", TRAIN.as_bytes()),
        ("valid.tsv", b"c\tknows\ta\n"),
        ("test.txt", b"d\tlikes\ta\n\n"),
    ];
    let graph = Graph::read(folder(files).path()).unwrap();
    assert_eq!(graph.entities.names().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    assert_eq!(graph.relations.names().collect::<Vec<_>>(), ["likes", "knows"]);
    assert_eq!(graph.train[1], Triple { head: 1, relation: 0, tail: 2 });
    assert_eq!(graph.valid, [Triple { head: 2, relation: 1, tail: 0 }]);
    assert_eq!(graph.counts().test_unseen, 1);
    assert_eq!(graph.entities.number("d"), Some(3));
}

#[test]
fn line_ends_of_windows_and_a_byte_order_mark_change_nothing() {
    let plain = read_train(TRAIN.as_bytes()).unwrap();
    let marked = format!("\u{feff}{}", TRAIN.replace('\n', "\r\n"));
    let other = read_train(marked.as_bytes()).unwrap();
    assert_eq!(plain.train, other.train);
    assert_eq!(
        plain.entities.names().collect::<Vec<_>>(),
        other.entities.names().collect::<Vec<_>>()
    );
}

#[test]
fn packed_files_read_like_plain_ones() {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(TRAIN.as_bytes()).unwrap();
    let gz = gz.finish().unwrap();
    let zst = ruzstd::encoding::compress_to_vec(
        TRAIN.as_bytes(),
        ruzstd::encoding::CompressionLevel::Fastest,
    );
    let xz = {
        let mut xz =
            lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
        xz.write_all(TRAIN.as_bytes()).unwrap();
        xz.finish().unwrap()
    };
    let folder = folder(&[("train.txt.gz", &gz), ("valid.tsv.zst", &zst), ("test.txt.xz", &xz)]);
    let graph = Graph::read(folder.path()).unwrap();
    assert_eq!(graph.train, read_train(TRAIN.as_bytes()).unwrap().train);
    assert_eq!(graph.train, graph.valid);
    assert_eq!(graph.train, graph.test);
}

#[test]
fn a_malformed_line_is_named_with_file_number_and_reason() {
    let cases: [(&[u8], &str); 5] = [
        (b"a\tlikes\tb\na likes b\n", "1 field(s)"),
        (b"a\tlikes\tb\na\tlikes\tb\t0.5\n", "1 field(s) too many"),
        (b"a\tlikes\tb\na\t\tb\n", "the relation is empty"),
        (b"a\tlikes\tb\n \tlikes\tb\n", "the head is empty"),
        (b"a\tlikes\tb\na\tli\xffkes\tb\n", "not UTF-8"),
    ];
    for (content, expected) in cases {
        let error = read_train(content).unwrap_err();
        let DataError::Malformed { path, line, reason, .. } = &error else {
            panic!("{error}");
        };
        assert!(path.ends_with("train.txt"), "{error}");
        assert_eq!(*line, 2);
        assert!(reason.contains(expected), "{reason}");
        assert!(error.to_string().contains("as head<TAB>relation<TAB>tail"));
    }
}

#[test]
fn a_file_without_line_ends_is_refused_and_not_swallowed_whole() {
    let error = read_train(&vec![b'x'; 10 << 20]).unwrap_err();
    assert!(error.to_string().contains(":1:1: longer than"), "{error}");
}

#[test]
fn missing_doubled_and_empty_files_are_told_apart() {
    let triples = TRAIN.as_bytes();
    let missing = folder(&[("train.txt", triples), ("valid.txt", triples)]);
    let error = Graph::read(missing.path()).unwrap_err();
    assert!(matches!(error, DataError::Missing { name: "test", .. }), "{error}");

    let doubled = folder(&[("train.txt", triples), ("train.tsv.gz", b"")]);
    let error = Graph::read(doubled.path()).unwrap_err();
    assert!(matches!(error, DataError::Ambiguous { name: "train", .. }), "{error}");

    let error = read_train(b"\n\n").unwrap_err();
    assert!(matches!(error, DataError::Refused { .. }), "{error}");

    let error = Graph::read(Path::new("/no/such/folder")).unwrap_err();
    assert!(error.to_string().contains("/no/such/folder"), "{error}");
}

#[test]
fn a_damaged_archive_is_an_error_that_names_the_file() {
    let triples = TRAIN.as_bytes();
    for ending in ["gz", "xz", "zst"] {
        let name = format!("train.txt.{ending}");
        let folder =
            folder(&[(&name, b"no archive"), ("valid.txt", triples), ("test.txt", triples)]);
        let error = Graph::read(folder.path()).unwrap_err();
        assert!(error.to_string().contains(&name), "{error}");
    }
}
