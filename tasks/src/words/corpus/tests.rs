use std::io::Write;
use std::path::Path;

use super::{Corpus, ReadOptions};
use crate::data::DataError;

fn read(text: &[u8], count_min: u64, threads: usize) -> Result<Corpus, DataError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.txt");
    std::fs::write(&path, text).unwrap();
    let options = ReadOptions { count_min, threads, ..ReadOptions::default() };
    Corpus::read(&path, &options)
}

fn sentence(corpus: &Corpus, number: usize) -> String {
    let words = corpus.sentence(number).iter().map(|&word| corpus.words.name(word).unwrap());
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn words_are_numbered_by_falling_count_and_rare_ones_left_out() {
    let corpus = read(b"b a b\nc a b rare\n\n  b\tc\r\n rare2 b\n", 2, 1).unwrap();
    let names: Vec<_> = corpus.words.names().collect();
    assert_eq!((names, corpus.counts.clone()), (vec!["b", "a", "c"], vec![5, 2, 2]));
    assert_eq!((corpus.words_read, corpus.types_read, corpus.tokens()), (11, 5, 8));
    let sentences: Vec<_> = (0..corpus.sentences()).map(|n| sentence(&corpus, n)).collect();
    // The last line has one frequent word, which trains nothing.
    assert_eq!(sentences, ["b a b", "c a b", "b c"]);
}

#[test]
fn long_sentences_are_cut_after_a_thousand_words() {
    let corpus = read("x y ".repeat(1250).as_bytes(), 1, 2).unwrap();
    let lengths: Vec<_> = (0..corpus.sentences()).map(|n| corpus.sentence(n).len()).collect();
    assert_eq!(lengths, [1000, 1000, 500]);
}

#[test]
fn chunks_are_whole_sentences_of_a_thousand_words_together() {
    let text = "a b c\n".repeat(700) + &"x y ".repeat(600);
    let corpus = read(text.as_bytes(), 1, 1).unwrap();
    let words = |chunk| corpus.chunk(chunk).map(<[u32]>::len).collect::<Vec<_>>();
    assert_eq!((corpus.chunks(), corpus.sentences()), (5, 702));
    assert_eq!((words(0), words(2)), (vec![3; 333], vec![3; 34]));
    assert_eq!((words(3), words(4)), (vec![1000], vec![200]));
}

#[test]
fn a_text_of_many_blocks_reads_the_same_with_any_number_of_threads() {
    // 12 MB in three blocks and more, once in lines and once in one line.
    for end in ["\n", " "] {
        let mut text = String::new();
        for number in 0..1_500_000_u32 {
            text.push_str(&format!("w{}", number.wrapping_mul(2_654_435_761) % 1000));
            text.push_str(if number % 9 == 8 { end } else { " " });
        }
        let one = read(text.as_bytes(), 5, 1).unwrap();
        let four = read(text.as_bytes(), 5, 4).unwrap();
        assert_eq!(one.words_read, 1_500_000);
        assert_eq!((&one.tokens, &one.ends), (&four.tokens, &four.ends));
        assert_eq!(one.counts, four.counts);
        let first = text.split_ascii_whitespace().map(|word| one.words.number(word).unwrap());
        assert!(first.eq(one.tokens.iter().copied()));
        assert!(one.sentences() == 1_500_000_usize.div_ceil(9) || end == " ");
    }
}

#[test]
fn packed_files_and_folders_of_files_read_like_one_text() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.txt"), "one two\n").unwrap();
    std::fs::write(folder.path().join(".hidden"), "\0").unwrap();
    let packed = std::fs::File::create(folder.path().join("b.gz")).unwrap();
    let mut packed = flate2::write::GzEncoder::new(packed, flate2::Compression::fast());
    packed.write_all(b"two one two").unwrap();
    packed.finish().unwrap();
    let options = ReadOptions { count_min: 1, ..ReadOptions::default() };
    let corpus = Corpus::read(folder.path(), &options).unwrap();
    assert_eq!(corpus.counts, [3, 2]);
    assert_eq!(sentence(&corpus, 1), "two one two");
}

#[test]
fn capital_letters_can_be_made_small() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text");
    std::fs::write(&path, "The the \u{c4}pfel \u{e4}pfel THE").unwrap();
    let options = ReadOptions { count_min: 2, lower_case: true, threads: 1 };
    let corpus = Corpus::read(&path, &options).unwrap();
    assert_eq!(corpus.words.names().collect::<Vec<_>>(), ["the", "\u{e4}pfel"]);
    assert_eq!(corpus.counts, [3, 2]);
}

#[test]
fn what_is_no_text_is_refused_with_its_place() {
    let error = |text: &[u8]| read(text, 1, 2).unwrap_err().to_string();
    for (text, expected) in [
        (&b"one two\nthree \xff four\n"[..], "text.txt:2:7: not UTF-8"),
        (b"one\n\ntwo\0", "text.txt:3:4: a zero byte"),
        (b"", "text.txt: 0 words"),
        (b"lonely", "text.txt: 1 words, 1 of them different"),
    ] {
        assert!(error(text).contains(expected), "{}", error(text));
    }
    let mut long = b"a b\nc ".to_vec();
    long.resize(5 << 20, b'x');
    assert!(error(&long).contains("text.txt:2:3: a word of more than 65536 bytes"));
    let missing = Corpus::read(Path::new("no/such/file"), &ReadOptions::default());
    assert!(missing.unwrap_err().to_string().contains("no/such/file"));
}
