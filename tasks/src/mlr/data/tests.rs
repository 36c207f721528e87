//! What loaders accept, and what they say about the rest.

use std::path::{Path, PathBuf};

use super::{ClassColumn, Dataset, Features, Files};
use crate::sparse::SparseRows;

fn written(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn read(text: &str, class_column: ClassColumn) -> Result<Dataset, String> {
    let folder = tempfile::tempdir().unwrap();
    let train = written(folder.path(), "f", text.as_bytes());
    let files = Files { class_column, ..Files::new(train) };
    Dataset::read("set".into(), &files)
        .map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
}

#[test]
fn libsvm_lines_are_read_sparse_with_classes_in_order() {
    let set = read("+1 3:1 8:0.5 # a note\n-1 0:2\n\n1.0 3:4\n10\n", ClassColumn::First).unwrap();
    assert_eq!(set.classes, ["-1", "1", "10"]);
    assert_eq!(set.train.classes, [1, 0, 1, 2]);
    let mut rows = SparseRows::new(9);
    [&[(3, 1.0), (8, 0.5)][..], &[(0, 2.0)], &[(3, 4.0)], &[]]
        .into_iter()
        .for_each(|row| rows.push(row.iter().copied()));
    assert_eq!((set.features, set.train.features), (9, Features::Sparse(rows)));
}

#[test]
fn csv_is_read_with_the_class_in_front_or_behind_and_names_above() {
    let dense = Features::Dense(vec![1.0, 2.0, 3.0, 4.0], 2);
    for (text, column) in [
        ("b,1,2\na,3,4\n", ClassColumn::First),
        ("class,x,y\nb,1,2\na,3,4\n", ClassColumn::First),
        ("x;y;class\n1;2;b\n3;4;a\n", ClassColumn::Last),
        ("1\t2\tb\r\n3\t4\ta\r\n", ClassColumn::Last),
    ] {
        let set = read(text, column).unwrap();
        assert_eq!((set.classes, set.train.classes), (vec!["a".into(), "b".into()], vec![1, 0]));
        assert_eq!((set.features, &set.train.features), (2, &dense), "{text}");
    }
    let sparse = read("0,0,0,0,7\n1,0,0,0,0\n", ClassColumn::First).unwrap();
    let Features::Sparse(rows) = sparse.train.features else { panic!("one of eight is there") };
    assert_eq!((rows.columns(), rows.row(0)), (4, (&[3][..], &[7.0][..])));
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (text, expected) in [
        ("", "f: no examples"),
        ("1 2:1\n0 x:1\n", "f:2:3: `x` is no feature's number"),
        ("1 2:1\n0 5\n", "f:2:3: no `:`"),
        ("1 2:nan\n", "f:1:3: the value is no finite number"),
        ("1 4000000000:1\n", "f:1:3: `4000000000` is no feature's number"),
        ("1,2,3\n1,2\n", "f:2:4: 2 fields, and lines before have 3"),
        ("1,2,3\n1,2,x\n", "f:2:5: `x` is no number"),
        ("1,2,3\n,2,3\n", "f:2:1: the class is empty"),
    ] {
        let error = read(text, ClassColumn::First).unwrap_err();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}

/// A file of these sizes and bytes.
fn idx(sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, u8::try_from(sizes.len()).unwrap()];
    sizes.iter().for_each(|size| file.extend(size.to_be_bytes()));
    file.extend_from_slice(bytes);
    file
}

#[test]
fn a_folder_of_idx_files_is_read_plain_or_packed() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| written(folder.path(), name, content);
    write("train-images-idx3-ubyte", &idx(&[2, 1, 4], &[255, 0, 0, 0, 0, 51, 0, 0]));
    write("train-labels-idx1-ubyte", &idx(&[2], &[7, 3]));
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &idx(&[1, 1, 4], &[0, 0, 0, 255])).unwrap();
    write("t10k-images-idx3-ubyte.gz", &packed.finish().unwrap());
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &idx(&[1], &[7])).unwrap();
    write("t10k-labels-idx1-ubyte.gz", &packed.finish().unwrap());
    let set = Dataset::of_folder(folder.path()).unwrap();
    assert_eq!((set.features, &set.classes[..]), (4, &["3".to_owned(), "7".to_owned()][..]));
    assert_eq!((&set.train.classes[..], &set.test.classes[..]), (&[1, 0][..], &[1][..]));
    let Features::Sparse(rows) = &set.train.features else { panic!("a quarter is there") };
    assert_eq!(rows.row(1), (&[1][..], &[0.2][..]));
}

#[test]
fn idx_files_that_do_not_fit_together_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let images = written(folder.path(), "x-images", &idx(&[2, 1, 2], &[1; 4]));
    let labels = |content: &[u8]| {
        written(folder.path(), "x-labels", content);
        Dataset::read("set".into(), &Files::new(images.clone())).unwrap_err().to_string()
    };
    for (content, expected) in [
        (idx(&[3], &[1; 3]), "3 classes for 2 images"),
        (idx(&[3], &[1; 2]), "2 bytes of values, and 3 announced"),
        (idx(&[2, 1, 1], &[1; 2]), "it does not begin with 0 0 8 1"),
        (vec![0, 0], "it does not begin with"),
    ] {
        let error = labels(&content);
        assert!(error.contains(expected), "{error}");
    }
    let nameless = written(folder.path(), "x", &idx(&[2, 1, 2], &[1; 4]));
    let error = Dataset::read("set".into(), &Files::new(nameless)).unwrap_err().to_string();
    assert!(error.contains("no `images` in it"), "{error}");
}

#[test]
fn what_is_held_out_is_about_the_share() {
    let lines: String = (0..2000).map(|n| format!("{} {}:1\n", n % 3, n % 50)).collect();
    let mut set = read(&lines, ClassColumn::First).unwrap();
    set.hold_out(0.2, 3);
    assert_eq!(set.train.len() + set.test.len(), 2000);
    assert!((330..470).contains(&set.test.len()), "{}", set.test.len());
}
