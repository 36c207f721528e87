//! Memory of regions: mapped here, sealed, and mapped again, read-only, by peers of the same host.
//!
//! A job of one node has anonymous memory with transparent huge pages. A job with peers on this host has
//! memfds: reserved huge pages if enough are free, else transparent ones, else pages of 4 KiB and one
//! warning that says how to get better ones. Where the system does not give transparent huge pages to
//! shared memory by itself (the usual default), they are asked for once all pages are there. A
//! memfd that peers may read is sealed after this node has mapped it: nobody can map it writable again,
//! and nobody can make it shorter, so that a reader of mapped memory never takes a fault (SIGBUS).

mod available;
mod mapping;
mod memfd;

pub(crate) use mapping::Mapping;
pub(crate) use memfd::{MapError, Memfd, map_peer_ring, map_peer_rows};

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Once;

use crate::error::FabricError;
use crate::region::{Region, RegionId, RegionSpec, Rights};
use crate::topology::HugePages;

/// Bytes of a huge page.
const HUGE_BYTES: usize = 2 << 20;

/// Which pages a mapping has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pages {
    /// Huge pages that the administrator reserved.
    Reserved,
    /// Huge pages, given by the system at first use.
    Transparent,
    /// Huge pages, made of small ones that are all touched at once.
    Collapsed,
    /// 4 KiB.
    Small,
}

/// What owns the mapping of a [`Region`] made here.
pub(crate) struct Backing {
    /// Held for its drop.
    _mapping: Mapping,
    fd: Option<OwnedFd>,
}

impl Backing {
    /// The memfd behind the mapping, if peers of this host can map it.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }
}

/// Maps zeroed memory for region `id`; `shared` if peers of this host are to map it too.
///
/// # Errors
/// [`FabricError::OutOfMemory`] if it is more than the machine or its limits can give,
/// [`FabricError::Config`] for a size of zero or beyond the address space.
pub fn allocate(spec: RegionSpec, id: RegionId, shared: bool) -> Result<Region, FabricError> {
    let RegionSpec { name, bytes, rights } = spec;
    if bytes == 0 || bytes > isize::MAX as usize - HUGE_BYTES {
        return Err(FabricError::Config(format!(
            "a region ({name}) of {bytes} bytes is impossible"
        )));
    }
    available::check(bytes, name)?;
    let label = format!("sterna:{}:{}", name.chars().take(32).collect::<String>(), id.0);
    let (mapping, fd) = if shared {
        let memfd = Memfd::create(&label, bytes, pages(bytes))?;
        let mapping = memfd.map_own()?;
        memfd.seal(rights == Rights::Read)?;
        (mapping, Some(memfd.into_fd()))
    } else {
        (Mapping::anonymous(bytes, &label)?, None)
    };
    let (base, mapped) = (mapping.base(), mapping.bytes());
    let backing = Box::new(Backing { _mapping: mapping, fd });
    // SAFETY: the mapping has `mapped` readable and writable bytes from `base`, at a page's start; it
    // lives in `backing` at a fixed address, and nobody makes references to its content.
    Ok(unsafe { Region::new(id, base, mapped, rights, backing) })
}

/// The best pages for `bytes` bytes of shared memory.
fn pages(bytes: usize) -> Pages {
    if bytes < HUGE_BYTES {
        return Pages::Small;
    }
    let huge = HugePages::read();
    if huge.reserved_free >= bytes.div_ceil(HUGE_BYTES) as u64 {
        return Pages::Reserved;
    }
    match huge.shared.as_str() {
        "always" | "within_size" | "advise" | "force" => Pages::Transparent,
        "never" => Pages::Collapsed,
        // `deny`, or a kernel without them.
        _ => Pages::Small,
    }
}

/// Says once how to get huge pages.
fn warn_of_small_pages(bytes: usize) {
    static WARN: Once = Once::new();
    WARN.call_once(|| {
        tracing::warn!(
            "rows lie in 4 KiB pages, which makes random access up to 1.8 times slower; to get huge \
             pages: echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled, or reserve them: \
             sysctl vm.nr_hugepages={}",
            bytes.div_ceil(HUGE_BYTES)
        );
    });
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    fn spec(bytes: usize) -> RegionSpec {
        RegionSpec { name: "rows", bytes, rights: Rights::Read }
    }

    fn fd_of(region: &Region) -> Option<BorrowedFd<'_>> {
        region.backing().downcast_ref::<Backing>().expect("made here").fd()
    }

    #[test]
    fn memory_starts_zeroed_and_holds_at_least_what_was_asked() {
        for shared in [false, true] {
            for bytes in [1, 4096, 100_000, 5 << 20] {
                let region = allocate(spec(bytes), RegionId(3), shared).expect("small");
                assert!(region.bytes() >= bytes);
                for at in [0, region.bytes() / 2, region.bytes() - 1] {
                    // SAFETY: inside the mapping, which no other thread uses.
                    unsafe {
                        let byte = region.base().add(at);
                        assert_eq!(byte.read_volatile(), 0);
                        byte.write_volatile(7);
                        assert_eq!(byte.read_volatile(), 7);
                    }
                }
                assert_eq!(fd_of(&region).is_some(), shared);
            }
        }
    }

    #[test]
    fn impossible_sizes_are_refused_with_a_message() {
        for bytes in [0, usize::MAX] {
            assert!(matches!(
                allocate(spec(bytes), RegionId(0), true),
                Err(FabricError::Config(_))
            ));
        }
        let error = allocate(spec(1 << 50), RegionId(0), true).expect_err("a pebibyte");
        assert!(matches!(&error, FabricError::OutOfMemory { .. }), "{error}");
        assert!(error.to_string().contains("rows"), "{error}");
    }

    #[test]
    fn a_peer_sees_stores_and_cannot_write_or_shrink() {
        let region = allocate(spec(3 << 20), RegionId(1), true).expect("small");
        let fd = fd_of(&region).expect("shared");
        let peer = map_peer_rows(fd, region.bytes()).expect("sealed");
        // SAFETY: inside both mappings; this test is the only user.
        unsafe {
            region.base().add(4096).write_volatile(9);
            assert_eq!(peer.base().add(4096).read_volatile(), 9);
        }
        assert!(map_peer_ring(fd, region.bytes()).is_err(), "writable mappings are sealed off");
        // SAFETY: changes the size of an open file, if at all.
        assert!(unsafe { libc::ftruncate(fd.as_raw_fd(), 4096) } < 0, "it cannot shrink");
    }

    #[test]
    fn a_file_that_could_shrink_or_is_too_short_is_not_mapped() {
        let unsealed = Memfd::create("test", 8192, Pages::Small).expect("small");
        assert!(map_peer_rows(unsealed.into_fd().as_fd(), 8192).is_err());
        let short = Memfd::create("test", 8192, Pages::Small).expect("small");
        short.seal(false).expect("sealable");
        assert!(map_peer_rows(short.into_fd().as_fd(), 8192 + 4096).is_err());
    }
}
