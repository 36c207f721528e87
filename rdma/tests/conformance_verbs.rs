//! The conformance suite on RDMA. It needs a device (`ci/guest` has one); without it all cases are skipped,
//! unless `STERNA_REQUIRE_VERBS` says that there has to be one.

mod conformance;

use conformance::jobs::{Choice, JobCluster};
use sterna_rdma::{Provider, ProviderChoice, verbs};

struct Verbs;

impl Choice for Verbs {
    const CHOICE: ProviderChoice = ProviderChoice::Verbs;
    const PROVIDER: Provider = Provider::Verbs;

    fn missing() -> Option<String> {
        let reason = verbs::devices().err()?.to_string();
        let is_required = std::env::var_os("STERNA_REQUIRE_VERBS").is_some();
        assert!(!is_required, "STERNA_REQUIRE_VERBS is set, but {reason}");
        Some(reason)
    }
}

conformance::conformance!(JobCluster<Verbs>);
conformance::conformance_threads!(Verbs);
conformance::conformance_processes!(Verbs);
