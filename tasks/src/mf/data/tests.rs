//! What loaders accept, and what they say about the rest.

use std::path::Path;

use super::read::Reader;
use super::{Cell, Files, Labels, Ratings};

fn cells(text: &str) -> Result<Vec<Cell>, String> {
    let read = Reader::default().cells(Path::new("f"), text.as_bytes());
    read.map_err(|error| error.to_string())
}

fn cell(row: u32, column: u32, value: f32) -> Cell {
    Cell { row, column, value }
}

#[test]
fn all_forms_of_movielens_are_read_alike() {
    let expected = vec![cell(0, 0, 5.0), cell(1, 0, 3.5), cell(0, 1, 1.0)];
    for text in [
        "1\t31\t5\n7\t31\t3.5\n1\t9\t1\n",
        "1::31::5::978300760\n7::31::3.5::978300760\n1::9::1::978300760\n",
        "userId,movieId,rating,timestamp\n1,31,5.0,12\n7,31,3.5,13\n1,9,1.0,14\n",
        "1 31 5\n\n7  31 3.5\n1 9 1",
        "anna,Heat,5\r\nben,Heat,3.5\r\nanna,Ran,1\r\n",
        "%%MatrixMarket matrix coordinate real general\n% a note\n2 2 3\n1 1 5\n2 1 3.5\n1 2 1e0\n",
    ] {
        assert_eq!(cells(text).unwrap(), expected, "{text}");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    const REAL: &str = "%%MatrixMarket matrix coordinate real general\n";
    for (text, expected) in [
        (String::new(), "f: no ratings"),
        ("user,item,rating\n".into(), "f: no ratings"),
        ("1\t2\n".into(), "f:1:4: fewer than three fields"),
        ("1\t2\t3\n1\t2\tgood\n".into(), "f:2:5: `good` is no number"),
        ("1\t2\tinf\n".into(), "f:1:5: `inf` is not finite"),
        ("1\t\t3\n".into(), "f:1:3: empty"),
        (format!("{REAL}2 2 1\n3 1 5\n"), "f:3:1: 3 is not in 1..2"),
        (format!("{REAL}2 2 1\n1 0 5\n"), "f:3:3: 0 is not in 1..2"),
        (format!("{REAL}2 2 2\n1 1 5\n"), "f: 1 entries of the 2 announced"),
        (format!("{REAL}2 2 1\n1 1 5\n1 2 5\n"), "f:4:1: more than the 1 entries"),
        (format!("{REAL}% nothing else\n"), "f: no line with rows"),
        (REAL.replace("general", "symmetric"), "f:1:39: `symmetric` matrices are not read"),
        (REAL.replace("real", "pattern"), "f:1:34: `pattern` matrices are not read"),
    ] {
        let error = cells(&text).unwrap_err();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}

#[test]
fn a_folder_holds_a_training_file_and_perhaps_others() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let error = Files::of_folder(folder.path()).unwrap_err().to_string();
    assert!(error.contains("no train file") && error.contains("train.tsv"), "{error}");
    write("train.tsv", "a\tx\t1\nb\tx\t3\n");
    let alone = Ratings::of_folder(folder.path()).unwrap();
    assert_eq!((alone.train.len(), alone.valid.len(), alone.test.len()), (2, 0, 0));
    write("probe.csv", "b,y,2\n");
    let ratings = Ratings::of_folder(folder.path()).unwrap();
    assert_eq!(ratings.test, [cell(1, 1, 2.0)]);
    assert_eq!((ratings.rows.len(), ratings.columns.len()), (2, 2));
    assert_eq!((ratings.mean(), ratings.range()), (2.0, (1.0, 3.0)));
}

#[test]
fn files_of_different_forms_or_shapes_are_no_set() {
    let folder = tempfile::tempdir().unwrap();
    let market =
        |rows| format!("%%MatrixMarket matrix coordinate real general\n{rows} 2 1\n1 1 5\n");
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("two"), market(2)).unwrap();
    std::fs::write(path("three"), market(3)).unwrap();
    std::fs::write(path("text"), "1\t2\t3\n").unwrap();
    let read = |train: &str, test: &str| {
        let files = Files { train: path(train), valid: None, test: Some(path(test)) };
        Ratings::read("set".into(), &files).map_err(|error| error.to_string())
    };
    let whole = read("two", "two").unwrap();
    assert!(matches!(whole.rows, Labels::Count(2)));
    assert!(read("two", "three").unwrap_err().contains("another shape"));
    assert!(read("two", "text").unwrap_err().contains("an earlier file"));
    assert!(read("text", "two").unwrap_err().contains("another shape"));
}

#[test]
fn what_is_held_out_is_about_the_share_and_the_same_again() {
    let cells: Vec<Cell> = (0..10_000).map(|n| cell(n / 100, n % 100, 1.0)).collect();
    let mut ratings = Ratings {
        name: "grid".into(),
        rows: Labels::Count(100),
        columns: Labels::Count(100),
        train: cells.clone(),
        valid: Vec::new(),
        test: Vec::new(),
    };
    let mut again = ratings.clone();
    ratings.hold_out(0.1, 7);
    again.hold_out(0.1, 7);
    assert_eq!(ratings.train.len() + ratings.test.len(), cells.len());
    assert!((900..1100).contains(&ratings.test.len()), "{}", ratings.test.len());
    assert_eq!(ratings.test, again.test);
}
