//! Jobs of several nodes: threads of this process stand in for processes, joined by the real providers.

use std::net::TcpListener;
use std::time::Duration;

use sterna::{FabricConfig, Node, NodeConfig, ProviderChoice, Rank, Table, Worker};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// How long the nodes of a job may take to come, on whatever machine.
const JOIN_MAX: Duration = Duration::from_secs(120);

/// How long a peer may take to answer: all nodes are of one process, which a machine may keep from running for a minute.
const ANSWER_MAX: Duration = Duration::from_secs(300);

/// Runs `body` on every node of a job.
pub fn job(size: usize, workers: usize, choice: ProviderChoice, body: impl Fn(Node) + Sync) {
    job_with(size, workers, choice, |config| config, body);
}

/// The same with other settings.
pub fn job_with(
    size: usize,
    workers: usize,
    choice: ProviderChoice,
    settings: impl Fn(NodeConfig) -> NodeConfig + Sync,
    body: impl Fn(Node) + Sync,
) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let mut listener = Some(listener);
    std::thread::scope(|scope| {
        for rank in (0..size).map(Rank::from_index) {
            let mut fabric = FabricConfig::new(rank, size, Some(&address), TOKEN);
            fabric.choice = choice;
            fabric.join_timeout = JOIN_MAX;
            fabric.listener = listener.take();
            fabric.rdma.queue_pairs =
                std::env::var("STERNA_QUEUE_PAIRS").ok().map(|few| few.parse().expect("a number"));
            let (body, settings) = (&body, &settings);
            scope.spawn(move || {
                let config = NodeConfig {
                    workers,
                    seed: 7,
                    pin: false,
                    wait_limit: ANSWER_MAX,
                    ..NodeConfig::default()
                };
                body(Node::join(settings(config), fabric).expect("all nodes come"));
            });
        }
    });
}

/// Runs `body` on every worker of a node.
pub fn workers(node: &Node, body: impl Fn(Worker) + Sync) {
    std::thread::scope(|scope| {
        for index in 0..node.workers() {
            let worker = node.worker(index).expect("a worker");
            let body = &body;
            scope.spawn(move || body(worker));
        }
    });
}

pub fn pull(worker: &mut Worker, table: &Table, keys: &[u64]) -> Vec<f32> {
    let mut values = vec![f32::NAN; keys.len() * table.dim()];
    worker.pull(table, keys, &mut values).expect("keys exist");
    values
}

/// Runs `run` over each provider that every machine has, or over the one that `STERNA_FABRIC` names: RDMA in a guest.
pub fn on_each_provider(run: impl Fn(ProviderChoice)) {
    if let Some(named) = named_provider() {
        return run(named);
    }
    run(ProviderChoice::Shm);
    run(ProviderChoice::Tcp);
}

/// The provider of tests that need only one.
pub fn a_provider() -> ProviderChoice {
    named_provider().unwrap_or(ProviderChoice::Shm)
}

/// So many rounds, or fewer over RDMA: only emulated processors and devices run these tests over it.
pub fn rounds(many: u64) -> u64 {
    if named_provider() == Some(ProviderChoice::Verbs) { many / 10 } else { many }
}

fn named_provider() -> Option<ProviderChoice> {
    let name = std::env::var("STERNA_FABRIC").ok()?;
    Some(ProviderChoice::parse(&name).expect("the name of a provider"))
}
