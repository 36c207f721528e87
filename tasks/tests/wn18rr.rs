//! The shipped data set by its shipped recipe, far enough to see that the recipe works.
//!
//! Takes half a minute of two cores in the release profile:
//! `cargo test --release -p sterna-tasks --test wn18rr -- --ignored`

use sterna::{Node, NodeConfig, Stopper};
use sterna_tasks::kge::data::wn18rr;
use sterna_tasks::kge::{Kge, KgeConfig, ModelKind};
use sterna_tasks::task::{EpochEnd, Progress, train};

struct FiveEpochs {
    stopper: Stopper,
    valid_mrr: f64,
}

impl Progress for FiveEpochs {
    fn epoch(&mut self, end: &EpochEnd) {
        self.valid_mrr =
            end.valid.as_ref().and_then(|quality| quality.get("mrr")).unwrap_or(self.valid_mrr);
        if end.epoch == 5 {
            self.stopper.request_stop();
        }
    }
}

#[test]
#[ignore = "half a minute in the release profile, too long in the dev profile"]
fn five_of_twenty_epochs_reach_a_validation_mrr_of_0_45() {
    let config = NodeConfig { seed: 1, pin: false, ..NodeConfig::with_workers(2) };
    let node = Node::start(config).unwrap();
    let mut progress = FiveEpochs { stopper: node.stopper(), valid_mrr: 0.0 };
    let task = Kge::new(wn18rr::graph().unwrap(), KgeConfig::wn18rr(ModelKind::ComplEx)).unwrap();
    let report = train(&node, &task, &mut progress).unwrap();
    assert!(report.stopped);
    assert!(progress.valid_mrr > 0.45, "{}", progress.valid_mrr);
}
