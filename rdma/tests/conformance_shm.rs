//! The conformance suite on shared memory.

mod conformance;

use conformance::jobs::{Choice, JobCluster};
use sterna_rdma::{Provider, ProviderChoice};

struct Shm;

impl Choice for Shm {
    const CHOICE: ProviderChoice = ProviderChoice::Shm;
    const PROVIDER: Provider = Provider::Shm;
}

conformance::conformance!(JobCluster<Shm>);
conformance::conformance_guards!(JobCluster<Shm>, Shm);
conformance::conformance_threads!(Shm);
conformance::conformance_processes!(Shm);
