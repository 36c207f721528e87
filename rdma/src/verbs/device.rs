//! What RDMA devices this host has: their limits, ports and addresses. For choosing one, and for
//! `sterna doctor`. Nothing here needs a device to be there: what is missing is told as an error with a
//! remedy.

use std::ffi::CStr;
use std::path::{Path, PathBuf};

use super::context::Context;
use super::error::VerbsError;
use super::gid::{GidEntry, read_table};
use super::sys::Library;
use super::sys::bindings::*;

/// A device, as it describes itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Device {
    /// Its name, such as `mlx5_0` or `rxe0`.
    pub name: String,
    /// The file that programs open.
    pub node: PathBuf,
    /// Version of its firmware; empty for software.
    pub firmware: String,
    /// PCI vendor and part.
    pub vendor: (u32, u32),
    /// Done by the kernel's software (soft-RoCE, soft-iWARP): right, and slow.
    pub is_software: bool,
    /// The NUMA node of its slot.
    pub numa_node: Option<u32>,
    /// What it can do at most.
    pub limits: DeviceLimits,
    /// Its ports.
    pub ports: Vec<Port>,
}

/// The largest numbers that a device allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceLimits {
    /// Queue pairs.
    pub queue_pairs: u64,
    /// Work requests of one queue.
    pub work_requests: u64,
    /// Pieces of memory of one work request.
    pub pieces: u64,
    /// Completion queues.
    pub completion_queues: u64,
    /// Entries of one completion queue.
    pub completions: u64,
    /// Registered regions.
    pub regions: u64,
    /// Bytes of one region.
    pub region_bytes: u64,
    /// READs and atomics that a queue pair serves at a time.
    pub reads_served: u32,
    /// READs and atomics that a queue pair has under way at a time.
    pub reads_issued: u32,
    /// Shared receive queues; 0 if there are none.
    pub shared_queues: u64,
    /// Receive requests of one shared queue.
    pub shared_requests: u64,
    /// To what its atomics are atomic.
    pub atomics: Atomics,
}

/// To what a device's atomic operations are atomic. Sterna uses none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Atomics {
    /// It has none.
    None,
    /// To others of this device only.
    Device,
    /// To those of the processors, too.
    Global,
}

/// A port of a device.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Port {
    /// Its number, from 1.
    pub number: u8,
    /// Whether it carries packets.
    pub state: PortState,
    /// What kind of network it is in.
    pub link_layer: LinkLayer,
    /// Payload of a packet, as in use.
    pub mtu_bytes: u32,
    /// Payload of a packet, as it could be.
    pub mtu_bytes_max: u32,
    /// Gbit/s of the link, as far as the device tells; for software devices it means nothing.
    pub gigabits: Option<f64>,
    /// Local identifier (InfiniBand).
    pub lid: u16,
    /// Bytes of the longest message.
    pub message_bytes_max: u32,
    /// The addresses in use.
    pub gids: Vec<GidEntry>,
}

/// The state of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortState {
    /// No link.
    Down,
    /// A link that is not configured yet (InfiniBand: no subnet manager).
    Init,
    /// Configured, not in use yet.
    Armed,
    /// In use.
    Active,
    /// In use, the link is gone for now.
    ActiveDefer,
    /// Something else.
    Other(u32),
}

/// What kind of network a port is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkLayer {
    /// InfiniBand.
    InfiniBand,
    /// Ethernet: RoCE (or iWARP).
    Ethernet,
    /// The device does not say; InfiniBand by convention.
    Unspecified,
}

/// Whether processes that have registered memory may fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForkSafety {
    /// The kernel copies pinned pages when a process forks: forking is safe.
    Kernel,
    /// The library hides registered memory from children: safe, and slow for many regions.
    Library,
    /// Forking may break transfers: start children with exec (Python: the `spawn` method).
    Unsafe,
}

/// A device of this host, which may not be open to this process.
#[derive(Clone, Debug)]
pub struct DeviceEntry {
    /// Its name.
    pub name: String,
    /// How it describes itself, or why it cannot be asked.
    pub device: Result<Device, VerbsError>,
}

/// The RDMA devices of this host.
///
/// # Errors
/// If there is no library, no kernel support, or no device; each error says what to do.
pub fn devices() -> Result<Vec<DeviceEntry>, VerbsError> {
    let library = Library::get()?;
    let list = List::get(library)?;
    let all: Vec<_> = list
        .iter()
        .map(|raw| {
            // SAFETY: a device of the list, which is alive.
            let name = unsafe { name_of(raw) };
            // SAFETY: as above.
            let device = unsafe { describe(library, raw, &name) };
            DeviceEntry { name, device }
        })
        .collect();
    if all.is_empty() { Err(VerbsError::NoDevice) } else { Ok(all) }
}

/// Whether this process may fork once it has registered memory.
///
/// # Errors
/// If there is no library.
pub fn fork_safety() -> Result<ForkSafety, VerbsError> {
    let Some(query) = Library::get()?.ibv_is_fork_initialized else {
        return Ok(ForkSafety::Unsafe);
    };
    // SAFETY: no preconditions.
    Ok(match unsafe { query() } {
        IBV_FORK_UNNEEDED => ForkSafety::Kernel,
        IBV_FORK_ENABLED => ForkSafety::Library,
        _ => ForkSafety::Unsafe,
    })
}

/// Opens the device of this name.
pub(super) fn open(name: &str) -> Result<Context, VerbsError> {
    let library = Library::get()?;
    let list = List::get(library)?;
    // SAFETY: a device of the list, which is alive.
    let found = list.iter().find(|raw| unsafe { name_of(*raw) } == name);
    let raw = found.ok_or_else(|| VerbsError::Choice(format!("there is no RDMA device {name}")))?;
    // SAFETY: as above.
    unsafe { Context::open(library, raw, name) }
}

/// The library's list of devices, freed when dropped.
struct List {
    library: &'static Library,
    list: *mut *mut ibv_device,
    count: usize,
}

impl List {
    fn get(library: &'static Library) -> Result<Self, VerbsError> {
        let mut count = 0;
        // SAFETY: `count` is valid for the call.
        let list = unsafe { (library.ibv_get_device_list)(&raw mut count) };
        if list.is_null() {
            let error = std::io::Error::last_os_error();
            return Err(match error.raw_os_error() {
                Some(libc::ENOSYS | libc::ENOENT) => {
                    VerbsError::NoKernelSupport { reason: error.to_string() }
                }
                errno => VerbsError::of_errno("listing devices", "this host", errno.unwrap_or(0)),
            });
        }
        Ok(Self { library, list, count: usize::try_from(count).unwrap_or(0) })
    }

    fn iter(&self) -> impl Iterator<Item = *mut ibv_device> + '_ {
        // SAFETY: the list has `count` entries.
        (0..self.count).map(|at| unsafe { *self.list.add(at) })
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: the list is the library's and used by nobody any more.
        unsafe { (self.library.ibv_free_device_list)(self.list) };
    }
}

/// # Safety
/// `raw` is a device of a list that is alive.
unsafe fn name_of(raw: *mut ibv_device) -> String {
    // SAFETY: the library ends names with a zero byte.
    unsafe { CStr::from_ptr((*raw).name.as_ptr()).to_string_lossy().into_owned() }
}

/// # Safety
/// `raw` is a device of a list that is alive.
unsafe fn describe(
    library: &'static Library,
    raw: *mut ibv_device,
    name: &str,
) -> Result<Device, VerbsError> {
    // SAFETY: by the caller's word.
    let context = unsafe { Context::open(library, raw, name)? };
    let attr = context.query_device()?;
    let sysfs = Path::new("/sys/class/infiniband").join(name);
    let ports = (1..=attr.phys_port_cnt).map(|number| port(&context, number)).collect();
    // SAFETY: the version is text that ends with a zero byte.
    let firmware = unsafe { CStr::from_ptr(attr.fw_ver.as_ptr()).to_string_lossy().into_owned() };
    Ok(Device {
        name: name.to_owned(),
        node: context.node().to_owned(),
        firmware,
        vendor: (attr.vendor_id, attr.vendor_part_id),
        is_software: is_software(&sysfs, name),
        numa_node: std::fs::read_to_string(sysfs.join("device/numa_node"))
            .ok()
            .and_then(|text| text.trim().parse().ok()),
        limits: limits(&attr),
        ports: Result::from_iter::<Vec<Result<Port, VerbsError>>>(ports)?,
    })
}

/// A device of the kernel's own software has no hardware behind it.
fn is_software(sysfs: &Path, name: &str) -> bool {
    !sysfs.join("device").exists() || name.starts_with("rxe") || name.starts_with("siw")
}

fn limits(attr: &ibv_device_attr) -> DeviceLimits {
    let count = |value: i32| u64::try_from(value).unwrap_or(0);
    let reads = |value: i32| u32::try_from(value).unwrap_or(0);
    DeviceLimits {
        queue_pairs: count(attr.max_qp),
        work_requests: count(attr.max_qp_wr),
        pieces: count(attr.max_sge),
        completion_queues: count(attr.max_cq),
        completions: count(attr.max_cqe),
        regions: count(attr.max_mr),
        region_bytes: attr.max_mr_size,
        reads_served: reads(attr.max_qp_rd_atom),
        reads_issued: reads(attr.max_qp_init_rd_atom),
        shared_queues: count(attr.max_srq),
        shared_requests: count(attr.max_srq_wr),
        atomics: match attr.atomic_cap {
            IBV_ATOMIC_HCA => Atomics::Device,
            IBV_ATOMIC_GLOB => Atomics::Global,
            _ => Atomics::None,
        },
    }
}

fn port(context: &Context, number: u8) -> Result<Port, VerbsError> {
    let attr = context.query_port(number)?;
    let places = u32::try_from(attr.gid_tbl_len).unwrap_or(0);
    Ok(Port {
        number,
        state: match attr.state {
            IBV_PORT_DOWN => PortState::Down,
            IBV_PORT_INIT => PortState::Init,
            IBV_PORT_ARMED => PortState::Armed,
            IBV_PORT_ACTIVE => PortState::Active,
            IBV_PORT_ACTIVE_DEFER => PortState::ActiveDefer,
            other => PortState::Other(other),
        },
        link_layer: match u32::from(attr.link_layer) {
            IBV_LINK_LAYER_INFINIBAND => LinkLayer::InfiniBand,
            IBV_LINK_LAYER_ETHERNET => LinkLayer::Ethernet,
            _ => LinkLayer::Unspecified,
        },
        mtu_bytes: mtu_bytes(attr.active_mtu),
        mtu_bytes_max: mtu_bytes(attr.max_mtu),
        gigabits: gigabits(attr.active_width, attr.active_speed),
        lid: attr.lid,
        message_bytes_max: attr.max_msg_sz,
        gids: read_table(Path::new("/"), context.name(), number, places),
    })
}

/// Bytes of an MTU code: 256 for 1 up to 4096 for 5.
pub(super) fn mtu_bytes(code: ibv_mtu) -> u32 {
    if (IBV_MTU_256..=IBV_MTU_4096).contains(&code) { 128 << code } else { 0 }
}

/// Lanes times Gbit/s of a lane, both as the specification codes them.
fn gigabits(width: u8, speed: u8) -> Option<f64> {
    let lanes = match width {
        1 => 1.0,
        2 => 4.0,
        4 => 8.0,
        8 => 12.0,
        16 => 2.0,
        _ => return None,
    };
    let lane = match speed {
        1 => 2.5,
        2 => 5.0,
        4 | 8 => 10.0,
        16 => 14.0,
        32 => 25.0,
        64 => 50.0,
        128 => 100.0,
        _ => return None,
    };
    Some(lanes * lane)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_mtu_and_speed_are_those_of_the_specification() {
        assert_eq!(mtu_bytes(IBV_MTU_256), 256);
        assert_eq!(mtu_bytes(IBV_MTU_1024), 1024);
        assert_eq!(mtu_bytes(IBV_MTU_4096), 4096);
        assert_eq!((mtu_bytes(0), mtu_bytes(6)), (0, 0));
        assert_eq!(gigabits(2, 32), Some(100.0));
        assert_eq!(gigabits(1, 1), Some(2.5));
        assert_eq!(gigabits(3, 1), None);
    }

    #[test]
    fn a_host_without_devices_says_why_and_what_to_do() {
        match devices() {
            Ok(found) => assert!(!found.is_empty()),
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("install") || text.contains("modprobe"), "{text}");
                assert!(
                    std::env::var_os("STERNA_REQUIRE_VERBS").is_none(),
                    "STERNA_REQUIRE_VERBS is set: {text}"
                );
                eprintln!("skipped: {text}");
            }
        }
    }
}
