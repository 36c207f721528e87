//! `sterna bench wire`: what a network port allows at most, by the arithmetic of its packets. No hardware is needed; measured figures
//! of `sterna bench fabric` and `sterna bench access` stand beside these.

use std::process::ExitCode;

/// Bytes of a row's slot in front of its values; a READ fetches them together.
const SLOT_HEADER_BYTES: u64 = 16;

/// Bytes of a record before its items, and of an item before the values (key, epoch, length, and the head of a composed update).
const RECORD_HEADER_BYTES: u64 = 16;
const UPDATE_HEADER_BYTES: u64 = 16 + 32;

/// What a READ's request and answer, and a WRITE, add to the first packet, and the answer's last packet.
const RETH_BYTES: u64 = 16;
const AETH_BYTES: u64 = 4;
const IMMEDIATE_BYTES: u64 = 4;

/// The budget of a port: rows per second and bytes by row size.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A READ of a row is a request of one packet one way and an answer with the slot's header and the values the other way. The first column\n\
    of READs fills one direction, as when a node only pulls; in the second every node pulls and serves alike. Updates are SGD's,\n\
    64 rows to a record, sent by RDMA WRITE with immediate data. The arithmetic knows no network card: below about 128 bytes the card's own\n\
    rate of messages, 100 to 200 million per second in data sheets, and the READs that it has under way bind first."
)]
pub(crate) struct WireArgs {
    /// Gbit/s of the port.
    #[arg(long, default_value_t = 100.0, value_name = "GBIT")]
    gigabits: f64,

    /// Payload of a packet in bytes.
    #[arg(long, default_value_t = 4096, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(256..=4096))]
    mtu: u64,

    /// Which network: RoCE v2 over IPv4, over IPv6, or InfiniBand.
    #[arg(long, default_value = "roce", value_parser = ["roce", "roce6", "infiniband"], value_name = "NETWORK")]
    network: String,

    /// Bytes of a row's values.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 128, 256, 512, 1024, 2048, 4096], value_name = "BYTES")]
    row_bytes: Vec<u64>,

    /// Rows in a record of updates.
    #[arg(long, default_value_t = 64, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..=1024))]
    rows: u64,
}

/// Bytes around the payload of each packet.
fn overhead_bytes(network: &str) -> u64 {
    // Base transport header and checksum of InfiniBand's transport, which all have.
    let transport = 12 + 4;
    match network {
        // Preamble, gap, Ethernet, its checksum; IP; UDP.
        "roce" => transport + 8 + 12 + 14 + 4 + 20 + 8,
        "roce6" => transport + 8 + 12 + 14 + 4 + 40 + 8,
        // Local route header and variable checksum.
        _ => transport + 8 + 2,
    }
}

/// Packets and their sizes.
struct Wire {
    bytes_per_second: f64,
    mtu: u64,
    overhead: u64,
}

impl Wire {
    /// Bytes on the wire of a message of `payload` bytes.
    fn message(&self, payload: u64, more: u64) -> u64 {
        payload + more + payload.div_ceil(self.mtu).max(1) * self.overhead
    }

    fn read_request(&self) -> u64 {
        self.message(0, RETH_BYTES)
    }

    fn read_answer(&self, row_bytes: u64) -> u64 {
        let payload = SLOT_HEADER_BYTES + row_bytes;
        let ends = payload.div_ceil(self.mtu).min(2);
        self.message(payload, ends * AETH_BYTES)
    }

    fn record(&self, row_bytes: u64, rows: u64) -> u64 {
        let payload = RECORD_HEADER_BYTES + rows * (UPDATE_HEADER_BYTES + row_bytes);
        self.message(payload, RETH_BYTES + IMMEDIATE_BYTES)
    }

    /// How many times per second so many bytes fit.
    fn per_second(&self, bytes: u64) -> f64 {
        self.bytes_per_second / float(bytes)
    }
}

fn float(number: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "bytes of packets")]
    let float = number as f64;
    float
}

/// Prints the table.
pub(crate) fn run(args: &WireArgs) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        args.gigabits.is_finite() && args.gigabits > 0.0,
        "--gigabits {}: the speed of a port is above zero",
        args.gigabits
    );
    let wire = Wire {
        bytes_per_second: args.gigabits * 1e9 / 8.0,
        mtu: args.mtu,
        overhead: overhead_bytes(&args.network),
    };
    println!(
        "{} Gbit/s, {}, packets of {} bytes with {} around them: {:.2} GB/s of long messages",
        args.gigabits,
        args.network,
        args.mtu,
        wire.overhead,
        wire.per_second(args.mtu + wire.overhead) * float(args.mtu) / 1e9
    );
    println!(
        "{:>9} {:>16} {:>8} {:>22} {:>8} {:>18} {:>8}",
        "row bytes", "READs one way", "GB/s", "READs both ways", "GB/s", "updates one way", "GB/s"
    );
    for &row_bytes in &args.row_bytes {
        anyhow::ensure!(
            (4..=1 << 20).contains(&row_bytes),
            "--row-bytes {row_bytes}: 4 to 1048576"
        );
        let one_way = wire.per_second(wire.read_answer(row_bytes));
        let both_ways = wire.per_second(wire.read_answer(row_bytes) + wire.read_request());
        let updates = wire.per_second(wire.record(row_bytes, args.rows)) * float(args.rows);
        let gigabytes = |rate: f64| rate * float(row_bytes) / 1e9;
        println!(
            "{row_bytes:>9} {:>14.1} M {:>8.2} {:>20.1} M {:>8.2} {:>16.1} M {:>8.2}",
            one_way / 1e6,
            gigabytes(one_way),
            both_ways / 1e6,
            gigabytes(both_ways),
            updates / 1e6,
            gigabytes(updates)
        );
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(network: &str) -> Wire {
        Wire { bytes_per_second: 12.5e9, mtu: 4096, overhead: overhead_bytes(network) }
    }

    #[test]
    fn packets_have_the_overhead_of_their_network() {
        assert_eq!(overhead_bytes("roce"), 82);
        assert_eq!(overhead_bytes("roce6"), 102);
        assert_eq!(overhead_bytes("infiniband"), 26);
        // 4096 of 4178 bytes of 12.5 GB/s.
        let long = wire("roce").per_second(4096 + 82) * 4096.0 / 1e9;
        assert!((long - 12.2547).abs() < 1e-3, "{long}");
    }

    #[test]
    fn messages_are_split_into_packets_and_ends_are_counted_once() {
        let wire = wire("roce");
        assert_eq!(wire.read_request(), 98);
        assert_eq!(wire.read_answer(512), 16 + 512 + 4 + 82);
        // 8,208 bytes are three packets, the first and the last with an acknowledgement header.
        assert_eq!(wire.read_answer(8192), 16 + 8192 + 8 + 3 * 82);
        // 64 rows of 512 bytes: 35,856 bytes, nine packets, the first with address and the last with the immediate value.
        assert_eq!(wire.record(512, 64), 16 + 64 * 560 + 20 + 9 * 82);
    }

    #[test]
    fn rates_fall_with_the_size_of_a_row_and_bytes_rise() {
        let wire = wire("roce");
        let rate = |row_bytes| wire.per_second(wire.read_answer(row_bytes));
        for pair in [64, 128, 256, 512, 1024, 2048, 4096].windows(2) {
            assert!(rate(pair[0]) > rate(pair[1]));
            // The header makes 4,096 bytes two packets, which costs less than it brings.
            assert!(rate(pair[0]) * float(pair[0]) < rate(pair[1]) * float(pair[1]));
        }
    }
}
