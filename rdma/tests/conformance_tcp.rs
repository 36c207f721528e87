//! The conformance suite on sockets.

mod conformance;

use conformance::jobs::{Choice, JobCluster};
use sterna_rdma::{Provider, ProviderChoice};

struct Tcp;

impl Choice for Tcp {
    const CHOICE: ProviderChoice = ProviderChoice::Tcp;
    const PROVIDER: Provider = Provider::Tcp;
}

conformance::conformance!(JobCluster<Tcp>);
conformance::conformance_guards!(JobCluster<Tcp>, Tcp);
conformance::conformance_threads!(Tcp);
conformance::conformance_processes!(Tcp);
