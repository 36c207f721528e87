//! Every interleaving of one key at three nodes, on the real machines; see `enumeration`.

mod enumeration;

#[test]
fn every_interleaving_of_the_small_settings_keeps_the_invariants() {
    for report in enumeration::run(&enumeration::quick()) {
        assert!(report.broken.is_none(), "{report}");
        assert!(report.complete, "{report}");
    }
}

#[test]
fn without_any_one_of_its_rules_the_protocol_breaks() {
    for report in enumeration::run(&enumeration::broken()) {
        assert!(report.broken.is_some(), "not needed after all? {report}");
    }
}

#[test]
#[ignore = "millions of states; `cargo run --release -p sterna-protocol --example enumerate -- --full`"]
fn every_interleaving_of_the_full_settings_keeps_the_invariants() {
    for report in enumeration::run(&enumeration::full()) {
        assert!(report.broken.is_none() && report.complete, "{report}");
    }
}
