//! Every interleaving of two keys, and of two workers of a node, on the real machines; see `pairs`.

mod pairs;

#[test]
fn every_interleaving_of_two_keys_keeps_the_invariants() {
    for (setting, outcome) in pairs::settings().iter().zip(pairs::run(&pairs::settings())) {
        let outcome = outcome.map_err(|(what, steps)| format!("{what} after {steps:#?}"));
        assert!(outcome.is_ok(), "{}: {}", setting.name, outcome.unwrap_err());
    }
}

#[test]
fn a_read_that_an_exchange_has_overtaken_must_not_count() {
    let (what, steps) = pairs::explore(&pairs::broken()).expect_err("rule K2 is needed");
    assert!(what.starts_with("I8") && steps.len() <= 8, "{what} after {steps:#?}");
}

#[test]
#[ignore = "millions of states: run the example `enumerate -- --full` in release"]
fn every_interleaving_of_longer_runs_keeps_the_invariants() {
    assert!(pairs::run(&pairs::large()).iter().all(Result::is_ok));
}
