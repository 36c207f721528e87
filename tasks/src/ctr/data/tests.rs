//! Whole data sets in each form, from files.

use std::fs;
use std::path::PathBuf;

use super::{FeatureIds, Files, Format, Source};
use crate::ctr::Clicks;

/// A folder of files with these contents.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

/// A line of Criteo's form: `site` is the first category, all others are empty.
fn criteo(label: u8, count: &str, site: &str) -> String {
    format!("{label}\t{count}{}\t{site}{}\n", "\t".repeat(12), "\t".repeat(25))
}

fn read(source: &Source) -> Clicks {
    source.read().unwrap()
}

#[test]
fn criteo_s_form_is_read_from_a_folder_with_rare_categories_together() {
    let train = criteo(1, "5", "a") + &criteo(0, "5", "b") + &criteo(0, "", "a");
    let (valid, test) = (criteo(1, "6", "b"), criteo(0, "-1", "new"));
    let folder = folder(&[("train.csv", &train), ("dev.csv", &valid), ("test.csv", &test)]);
    let clicks = read(&Source::new(folder.path()));
    assert_eq!((clicks.train.len(), clicks.valid.len(), clicks.test.len()), (3, 1, 1));
    assert_eq!((clicks.fields, clicks.train.labels()), (Some(39), &[true, false, false][..]));
    let named = |features: &[u32], field: usize| clicks.names[features[field] as usize].clone();
    // ln(5)^2 = 2.6: one bucket; the empty cell occurs once, and so does category b.
    let (first, second) = (clicks.train.get(0).0, clicks.train.get(1).0);
    assert_eq!((named(first, 0), named(first, 13)), ("I1=2".into(), "C1=a".into()));
    assert_eq!((named(second, 0), named(second, 13)), ("I1=2".into(), "C1=(rare)".into()));
    assert_eq!(named(clicks.train.get(2).0, 0), "I1=(rare)");
    // ln(6)^2 = 3.2 and all that is new is rare.
    assert_eq!(named(clicks.valid.get(0).0, 0), "I1=(rare)");
    assert_eq!(named(clicks.test.get(0).0, 13), "C1=(rare)");
}

#[test]
fn avazu_s_form_is_read_and_hashed_alike_in_every_file() {
    const HEADER: &str = "id,click,hour,C1,banner_pos,site_id,site_domain,site_category,app_id,\
        app_domain,app_category,device_id,device_ip,device_model,device_type,device_conn_type,\
        C14,C15,C16,C17,C18,C19,C20,C21\n";
    let line = |id: u32, click: u8, site: &str| {
        format!("{id},{click},14102105,1005,0,{site}{}\n", ",x".repeat(18))
    };
    let train = HEADER.to_owned() + &line(1, 0, "s") + &line(2, 1, "t");
    let test = HEADER.to_owned() + &line(3, 1, "s");
    let folder = folder(&[("train.csv", &train), ("test.csv", &test)]);
    let ids = FeatureIds::Hashed { buckets: 1 << 20 };
    let clicks = read(&Source { ids, ..Source::new(folder.path()) });
    assert_eq!((clicks.features, clicks.fields, clicks.names.len()), (1 << 20, Some(23), 0));
    let [train, test] = [&clicks.train, &clicks.test].map(|set| set.get(0).0);
    assert_eq!(train, test);
    assert_eq!(clicks.test.len(), 1);
}

#[test]
fn libfm_s_numbers_stay_and_examples_of_different_length_have_no_fields() {
    let folder = folder(&[("a.train.libfm", "1 3:1 4:1\n-1 0:1\n"), ("a.test.libfm", "1 9:2\n")]);
    let clicks = read(&Source::new(folder.path()));
    assert_eq!((clicks.features, clicks.fields), (10, None));
    assert_eq!(clicks.test.get(0), (&[9][..], &[2.0][..]));
}

#[test]
fn examples_without_any_feature_are_refused() {
    let folder = folder(&[("all.libfm", "1\n-1\n")]);
    let source = Source { format: Format::Libfm, ..Source::new(folder.path().join("all.libfm")) };
    let error = source.read().unwrap_err().to_string();
    assert!(error.contains("all.libfm: no example has a feature"), "{error}");
}

#[test]
fn a_schema_says_what_columns_are() {
    let schema = r#"{ "separator": ";", "columns": [
        { "name": "bought", "kind": "label" },
        { "name": "price", "kind": "numeric", "buckets": { "edges": [10] } } ] }"#;
    let data = "day;price;bought\nmon;5;0\ntue;15;1\nwed;\"25\";1\n";
    let folder = folder(&[("schema.json", schema), ("data.csv", data)]);
    let path = |name: &str| folder.path().join(name);
    let files = Files {
        train: Some(path("data.csv")),
        valid: Some(path("data.csv")),
        test: Some(path("data.csv")),
        data: None,
    };
    let format = Format::Schema(path("schema.json"));
    let ids = FeatureIds::Enumerated { min_count: 1 };
    let clicks = read(&Source { files, format, ids, seed: 1 });
    assert_eq!(clicks.names, ["price=(rare)", "price=0", "price=1"]);
    let features: Vec<u32> = (0..3).map(|number| clicks.train.get(number).0[0]).collect();
    assert_eq!((features, clicks.train == clicks.test), (vec![1, 2, 2], true));
}

#[test]
fn examples_of_one_file_are_dealt_out_by_the_seed() {
    let lines: String = (0..2000).map(|n| format!("{} {n}:1\n", n % 2)).collect();
    let folder = folder(&[("all.libfm", &lines)]);
    let one: PathBuf = folder.path().join("all.libfm");
    let clicks = read(&Source::new(&one));
    let (valid, test) = (clicks.valid.len(), clicks.test.len());
    assert_eq!(clicks.train.len() + valid + test, 2000);
    assert!((150..250).contains(&valid) && (150..250).contains(&test), "{valid}, {test}");
    assert_eq!(read(&Source::new(&one)), clicks);
    let other = read(&Source { seed: 2, ..Source::new(&one) });
    assert_ne!(other.valid, clicks.valid);
}
