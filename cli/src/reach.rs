//! Options that say how the nodes of a job reach each other.

use sterna::{FabricConfig, ProviderChoice};
use sterna_rdma::verbs::GidWish;

/// `#[command(flatten)]` them. What is not given is as the environment says (`STERNA_FABRIC`, `STERNA_DEVICE`, ..).
#[derive(Debug, Default, clap::Args)]
pub(crate) struct ReachArgs {
    /// How nodes reach each other: auto (shm on the same host; to others verbs where both have an RDMA device, else tcp), verbs, shm
    /// or tcp for all peers.
    #[arg(long, value_parser = ["auto", "verbs", "shm", "tcp"], help_heading = "Fabric")]
    fabric: Option<String>,

    /// RDMA device, such as mlx5_0; the best one unless given. `auto` uses a software device (rxe0) only if it is given.
    #[arg(long, value_name = "NAME", help_heading = "Fabric")]
    device: Option<String>,

    /// Port of the RDMA device; the first that is active unless given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..), help_heading = "Fabric")]
    port: Option<u8>,

    /// Address of the RDMA port: an IP address or a place in its table of GIDs; the routable one of the interface that reaches the job
    /// unless given.
    #[arg(long, value_name = "GID", value_parser = parse_gid, help_heading = "Fabric")]
    gid: Option<GidWish>,

    /// Traffic class of RDMA packets: the byte with DSCP and ECN (106 is DSCP 26), where switches treat classes apart.
    #[arg(long, value_name = "BYTE", help_heading = "Fabric")]
    traffic_class: Option<u8>,
}

fn parse_gid(text: &str) -> Result<GidWish, String> {
    GidWish::parse(text)
        .ok_or_else(|| "it is neither an IP address nor a place in the table of GIDs".to_owned())
}

impl ReachArgs {
    /// Sets what was given.
    pub(crate) fn apply(&self, config: &mut FabricConfig) -> anyhow::Result<()> {
        if let Some(fabric) = &self.fabric {
            config.choice = ProviderChoice::parse(fabric)?;
        }
        let rdma = &mut config.rdma;
        rdma.device = self.device.clone().or_else(|| rdma.device.take());
        rdma.port = self.port.or(rdma.port);
        rdma.gid = self.gid.or(rdma.gid);
        rdma.traffic_class = self.traffic_class.unwrap_or(rdma.traffic_class);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use sterna_rdma::verbs::Gid;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Command {
        #[command(flatten)]
        reach: ReachArgs,
    }

    fn apply(arguments: &[&str], config: &mut FabricConfig) {
        let command = Command::try_parse_from([&["sterna"], arguments].concat()).expect("valid");
        command.reach.apply(config).expect("valid");
    }

    #[test]
    fn what_is_given_wins_over_the_environment_and_the_rest_stays() {
        let mut config = FabricConfig::single();
        config.choice = ProviderChoice::Tcp;
        config.rdma.device = Some("mlx5_1".to_owned());
        apply(&[], &mut config);
        assert_eq!(config.choice, ProviderChoice::Tcp);
        assert_eq!(config.rdma.device.as_deref(), Some("mlx5_1"));
        apply(
            &["--fabric", "verbs", "--port", "2", "--gid", "10.0.0.7", "--traffic-class", "106"],
            &mut config,
        );
        assert_eq!(config.choice, ProviderChoice::Verbs);
        assert_eq!(config.rdma.device.as_deref(), Some("mlx5_1"));
        assert_eq!((config.rdma.port, config.rdma.traffic_class), (Some(2), 106));
        let gid = Gid::of_ip("10.0.0.7".parse().expect("an address"));
        assert_eq!(config.rdma.gid, Some(GidWish::Address(gid)));
    }

    #[test]
    fn mistakes_are_refused() {
        for arguments in
            [["--fabric", "rdma"], ["--port", "0"], ["--gid", "eth0"], ["--traffic-class", "256"]]
        {
            let parsed = Command::try_parse_from([&["sterna"], &arguments[..]].concat());
            assert!(parsed.is_err(), "{arguments:?}");
        }
    }
}
