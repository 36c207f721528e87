//! What the readers accept, and how they refuse.

use super::{Dataset, NO_CLASS, SplitRule};

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

const NODES: &str = "2 0:1 3:0.5\n0 1:1\n-1\n2 3:2\n";
const EDGES: &str = "0\t1\n1\t0\n2\t2\n3\t0\n";

fn svmlight(nodes: &str, edges: &str, split: &str) -> Result<Dataset, String> {
    let folder = folder(&[("nodes.svmlight", nodes), ("edges.tsv", edges), ("split.txt", split)]);
    let read = Dataset::read(folder.path(), None, 1).map_err(|error| error.to_string());
    read.map_err(|error| error.replace(folder.path().to_str().unwrap(), ""))
}

fn musae(target: &str, edges: &str, features: &str) -> Result<Dataset, String> {
    let folder = folder(&[
        ("musae_x_target.csv", target),
        ("musae_x_edges.csv", edges),
        ("musae_x_features.json", features),
    ]);
    let read = Dataset::read(folder.path(), Some(SplitRule::Many), 1);
    read.map_err(|error| error.to_string().replace(folder.path().to_str().unwrap(), ""))
}

#[test]
fn svmlight_nodes_with_edges_and_a_split_are_read() {
    let data = svmlight(NODES, EDGES, "train\ntest\nnone\nvalid\n").unwrap();
    assert_eq!(
        (data.classes, data.class_names),
        (vec![1, 0, NO_CLASS, 1], vec!["0".into(), "2".into()])
    );
    assert_eq!((data.graph.edges(), data.graph.of(0)), (2, &[1, 3][..]));
    let features = data.features.unwrap();
    assert_eq!((features.columns(), features.row(0)), (4, (&[0, 3][..], &[1.0, 0.5][..])));
    assert_eq!(
        (data.splits.train, data.splits.valid, data.splits.test),
        (vec![0], vec![3], vec![1])
    );
}

#[test]
fn musae_tables_are_read_with_quoted_names_and_numbers_in_any_order() {
    let target = "id,name,kind\n7,\"a, b\",tv\n3,c,gov\n5,d,tv\n";
    let data = musae(target, "id_1,id_2\n7,3\n3,5\n", "{\"5\": [2, 0, 2], \"7\": [1]}").unwrap();
    assert_eq!((data.classes, data.numbers), (vec![1, 0, 1], vec![7, 3, 5]));
    assert_eq!(data.class_names, ["gov", "tv"]);
    assert_eq!(data.graph.of(1), [0, 2]);
    let features = data.features.unwrap();
    assert_eq!([0, 1, 2].map(|row| features.row(row).0), [&[1][..], &[], &[0, 2]]);
    assert_eq!((data.splits.train.len(), data.splits.test.len()), (2, 1));
}

#[test]
fn edges_may_be_separated_by_anything_usual_and_nodes_may_lack_features() {
    for edges in ["0 1\n1   2\n", "a,b\n0,1\n1,2\n", "# x\n0\t1\n\n1\t2", "% x\n0 1\n1 2\n"] {
        let data = svmlight("0\n1\n0\n", edges, "train\nvalid\ntest\n").unwrap();
        assert_eq!((data.graph.of(1), data.features), (&[0, 2][..], None), "{edges}");
    }
}

#[test]
fn mistakes_are_told_with_file_line_and_column() {
    let split = "train\ntest\nnone\nvalid\n";
    for (found, expected) in [
        (svmlight("0 1:1\n0 1\n", "", ""), "/nodes.svmlight:2:3: no `:` between"),
        (svmlight("0 1:1\nx\n", "", ""), "/nodes.svmlight:2:1: `x` is no number"),
        (svmlight("0 x:1\n", "", ""), "/nodes.svmlight:1:3: the feature is no number"),
        (svmlight("0 1:inf\n", "", ""), "/nodes.svmlight:1:3: the value is no finite number"),
        (svmlight("0\n\n0\n", "", ""), "/nodes.svmlight:2:1: an empty line"),
        (svmlight(NODES, "0\t1\n0\t4\n", split), "/edges.tsv:2:3: node 4 has no line"),
        (svmlight(NODES, "0\t1\t2\n", split), "/edges.tsv:1:5: 1 field(s) too many"),
        (svmlight(NODES, "0 1\n0 1 2\n", split), "/edges.tsv:2:5: a third field"),
        (svmlight(NODES, "0 1\n7\n", split), "/edges.tsv:2:2: one field"),
        (svmlight(NODES, "0 1\nx 1\n", split), "/edges.tsv:2:1: `x` is no number"),
        (svmlight(NODES, EDGES, "train\nfoo\n"), "/split.txt:2:1: `foo` is no split"),
        (svmlight(NODES, EDGES, "test\ntest\ntest\n"), "/split.txt:3:1: node 2 has no class"),
        (svmlight(NODES, EDGES, "train\n"), "/split.txt: 1 lines for 4 nodes"),
        (svmlight(NODES, EDGES, "test\ntest\nnone\ntest\n"), ": no node to train on"),
        (musae("id,c\n1,a\n1,b\n", "", "{}"), "/musae_x_target.csv:3:1: node 1 was there"),
        (musae("id,c\n1,a,b\n", "", "{}"), "/musae_x_target.csv:2:1: 3 field(s), 2 in the header"),
        (musae("id,c\nx,a\n", "", "{}"), "/musae_x_target.csv:2:1: `x` is no number of a node"),
        (musae("id,c\n1,a\n", "i,j\n1,2\n", "{}"), "/musae_x_edges.csv:2:3: node 2 has no line"),
        (musae("id,c\n1,a\n", "i,j\n", "{\"1\": [0, -1]}"), "/musae_x_features.json:1:"),
        (
            musae("id,c\n1,a\n", "i,j\n", "{\"2\": []}"),
            "/musae_x_features.json: node 2 has no line",
        ),
        (
            musae("id,c\n1,a\n", "i,j\n", "{\"1\": [4294967295]}"),
            "/musae_x_features.json: feature 4294967295 of node 1 is not below",
        ),
    ] {
        let found = found.map(|_| ()).unwrap_err();
        assert!(found.starts_with(expected), "{found}\nexpected {expected}");
    }
}

#[test]
fn a_folder_without_its_files_says_which() {
    for (files, expected) in [
        (&[][..], "there is no nodes.svmlight"),
        (&[("nodes.svmlight", "0\n")], "there is no edges.tsv or .txt"),
        (&[("target.csv", "id,c\n1,a\n")], "there is no edges.csv"),
        (
            &[("edges.csv", ""), ("edges.csv.gz", ""), ("nodes.svmlight", "0\n")],
            "both hold the edges",
        ),
    ] {
        let found = Dataset::read(folder(files).path(), None, 1).unwrap_err().to_string();
        assert!(found.contains(expected), "{found}");
    }
    let folder = folder(&[("nodes.svmlight", "0\n1\n"), ("edges.tsv", "")]);
    let found = Dataset::read(folder.path(), Some(SplitRule::Given), 1).unwrap_err().to_string();
    assert!(found.contains("there is no split.txt"), "{found}");
}
