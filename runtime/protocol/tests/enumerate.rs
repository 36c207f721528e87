//! Every interleaving of one key at three nodes, on the real machines; see `enumeration`.

mod enumeration;

#[test]
fn every_interleaving_keeps_the_invariants() {
    for report in enumeration::run(&enumeration::settings()) {
        assert!(report.broken.is_none() && report.complete, "{report}");
    }
}

#[test]
fn without_any_one_of_its_rules_the_protocol_breaks() {
    for report in enumeration::run(&enumeration::broken()) {
        assert!(report.broken.is_some(), "not needed after all? {report}");
    }
}

#[test]
#[ignore = "tens of millions of states: run the example `enumerate -- --full` in release"]
fn every_interleaving_of_longer_runs_keeps_the_invariants() {
    for report in enumeration::run(&enumeration::large()) {
        assert!(report.broken.is_none(), "{report}");
    }
}
