//! Jobs whose nodes are fabrics of this process that meet at a loopback port.

use std::marker::PhantomData;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use sterna_rdma::{Fabric, FabricConfig, Provider, ProviderChoice, Rank, job};

use super::Cluster;
use super::job::WAIT_MAX;

/// The secret of all these jobs.
pub const TOKEN: &str = "token of the conformance suite";

/// Which provider a job uses.
pub trait Choice: Send + Sync + 'static {
    const CHOICE: ProviderChoice;
    const PROVIDER: Provider;

    /// Why it cannot be tried on this machine.
    fn missing() -> Option<String> {
        None
    }
}

/// How the nodes of a job join it: rank 0 listens at a free port.
pub fn configs<P: Choice>(nodes: usize) -> (Vec<FabricConfig>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let mut configs: Vec<_> = (0..nodes)
        .map(|node| {
            let rank = Rank::from_index(node);
            let mut config = FabricConfig::new(rank, nodes, Some(&address), TOKEN);
            config.choice = P::CHOICE;
            config.join_timeout = WAIT_MAX;
            config
        })
        .collect();
    configs[0].listener = Some(listener);
    (configs, address)
}

/// Opens all nodes, which takes all of them at the same time.
pub fn open_all(configs: Vec<FabricConfig>) -> Vec<Arc<dyn Fabric>> {
    let joining: Vec<_> =
        configs.into_iter().map(|config| std::thread::spawn(|| job::open(config))).collect();
    let joined = joining.into_iter().map(|thread| thread.join().expect("no panic"));
    joined.map(|fabric| fabric.expect("the job meets")).collect()
}

/// The connected nodes of a job.
pub struct JobCluster<P> {
    fabrics: Vec<Option<Arc<dyn Fabric>>>,
    choice: PhantomData<P>,
}

impl<P: Choice> Cluster for JobCluster<P> {
    const SEEDS: std::ops::Range<u64> = 0..1;

    fn missing() -> Option<String> {
        P::missing()
    }

    fn start(nodes: usize, _seed: u64) -> Self {
        let fabrics = open_all(configs::<P>(nodes).0);
        for fabric in &fabrics {
            let peers = (0..nodes).map(Rank::from_index).filter(|&peer| peer != fabric.rank());
            for peer in peers {
                assert_eq!(fabric.provider(peer), P::PROVIDER, "no silent fallback");
            }
        }
        Self { fabrics: fabrics.into_iter().map(Some).collect(), choice: PhantomData }
    }

    fn fabric(&mut self, rank: Rank) -> Arc<dyn Fabric> {
        self.fabrics[rank.index()].take().expect("called once")
    }

    fn idle(&mut self, rounds: u32) -> bool {
        if rounds < 20 {
            std::thread::yield_now();
        } else {
            std::thread::sleep(Duration::from_micros(50));
        }
        true
    }

    fn end(&mut self, _rank: Rank, fabric: Arc<dyn Fabric>) {
        assert_eq!(Arc::strong_count(&fabric), 1, "the last handle");
        drop(fabric);
    }
}
