//! Both parties of a pair in this process.

use std::time::Duration;

use sterna_rdma::ProviderChoice;
use sterna_rdma::topology::{PinPlan, Topology, pin_current_thread};
use sterna_rdma::verbs::Wish;

use super::{Party, Waiting};
use crate::launch::Job;

/// How long the parties may take to meet.
const JOIN_LIMIT: Duration = Duration::from_secs(60);

/// Two parties of one process that reach each other by `choice` (over the device of `wish`), the second of them serving in a thread of its own until the first
/// has finished `work`.
pub(crate) fn in_one_process<T: Send>(
    choice: ProviderChoice,
    wish: &Wish,
    work: impl FnOnce(&mut Party) -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    let job = Job::on_this_host(2)?;
    let config = |rank| {
        let mut config = job.config(rank)?;
        config.choice = choice;
        config.rdma = wish.clone();
        config.join_timeout = JOIN_LIMIT;
        anyhow::Ok(config)
    };
    let (first, second) = (config(0)?, config(1)?);
    let topology = Topology::read();
    let waiting = Waiting::for_parties(&topology, 2);
    // Both in threads of their own, so that this one stays free to run anywhere.
    let topology = &topology;
    let pin = move |rank| {
        if let Some(&cpu) = PinPlan::new(topology, 1, rank, 2).workers.first() {
            let _ = pin_current_thread(cpu);
        }
    };
    std::thread::scope(|scope| {
        let serving = scope.spawn(move || {
            pin(1);
            Party::join(second, waiting)?.serve_to_the_end()
        });
        let working = scope.spawn(move || {
            pin(0);
            let mut active = Party::join(first, waiting)?;
            let outcome = work(&mut active);
            active.stop_all();
            outcome
        });
        let outcome = working.join().expect("a party does not panic");
        let served = serving.join().expect("a party does not panic");
        let outcome = outcome?;
        served?;
        Ok(outcome)
    })
}
