//! What a device tells by itself: ports that go down, queue pairs that fail, addresses that change.

use super::context::Context;
use super::sys::bindings::*;

/// Something that a device told, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DeviceEvent {
    /// A queue pair has failed; what was said about it.
    PairFailed {
        /// Its number.
        number: u32,
        /// Cause and remedy.
        text: &'static str,
    },
    /// All that is open on the device is lost.
    DeviceFailed(&'static str),
    /// Worth a line in the log: what has changed, and what it means.
    Note {
        /// Of which port, if of one.
        port: Option<u8>,
        /// What, and what it means.
        text: &'static str,
        /// Whether it is bad.
        is_bad: bool,
    },
}

/// Takes the next event, if there is one.
pub(super) fn next(context: &Context) -> Option<DeviceEvent> {
    // SAFETY: plain numbers and pointers, for which zeroes are valid.
    let mut event: ibv_async_event = unsafe { std::mem::zeroed() };
    let library = context.library();
    // SAFETY: the context is open, its descriptor does not block, and `event` is valid for the call.
    if unsafe { (library.ibv_get_async_event)(context.raw(), &raw mut event) } != 0 {
        return None;
    }
    // SAFETY: the kind of event says which element is there. A queue pair cannot be destroyed before
    // the event is acknowledged, so it is alive.
    let decoded = unsafe {
        decode(
            event.event_type,
            || (*event.element.qp).qp_num,
            || u8::try_from(event.element.port_num).unwrap_or(0),
        )
    };
    // SAFETY: an event that was taken above, once.
    unsafe { (library.ibv_ack_async_event)(&raw mut event) };
    Some(decoded)
}

fn decode(kind: ibv_event_type, pair: impl Fn() -> u32, port: impl Fn() -> u8) -> DeviceEvent {
    let failed = |text| DeviceEvent::PairFailed { number: pair(), text };
    let of_port = |text, is_bad| DeviceEvent::Note { port: Some(port()), text, is_bad };
    let note = |text, is_bad| DeviceEvent::Note { port: None, text, is_bad };
    match kind {
        IBV_EVENT_QP_FATAL => failed("its queue pair failed in the device: see dmesg"),
        IBV_EVENT_QP_REQ_ERR => failed("its device sent a request that breaks the specification"),
        IBV_EVENT_QP_ACCESS_ERR => failed("it tried to reach memory that it has no right to reach"),
        IBV_EVENT_PATH_MIG_ERR => failed("its path failed and there is no other"),
        IBV_EVENT_COMM_EST => note("a connection was established by data", false),
        IBV_EVENT_SQ_DRAINED => note("a send queue has drained", false),
        IBV_EVENT_PATH_MIG => note("a connection moved to its alternate path", false),
        IBV_EVENT_QP_LAST_WQE_REACHED => {
            note("a failed queue pair is done with its requests", false)
        }
        IBV_EVENT_CQ_ERR => {
            DeviceEvent::DeviceFailed("a completion queue ran over, which its size rules out")
        }
        IBV_EVENT_SRQ_ERR => DeviceEvent::DeviceFailed("the shared receive queue failed"),
        IBV_EVENT_DEVICE_FATAL => {
            DeviceEvent::DeviceFailed("the device failed: see dmesg, reset it")
        }
        IBV_EVENT_WQ_FATAL => DeviceEvent::DeviceFailed("a work queue of the device failed"),
        IBV_EVENT_SRQ_LIMIT_REACHED => note("the shared receive queue runs low", false),
        IBV_EVENT_PORT_ACTIVE => of_port("is up (again)", false),
        IBV_EVENT_PORT_ERR => of_port(
            "is down: connections fail unless it is back within about 2 s; check cable, switch and \
             `ip link`",
            true,
        ),
        IBV_EVENT_LID_CHANGE => of_port("has another LID: connections fail; restart the job", true),
        IBV_EVENT_PKEY_CHANGE => of_port("has another table of partition keys", true),
        IBV_EVENT_GID_CHANGE => of_port(
            "has another table of GIDs: connections made before keep theirs and fail if it is gone",
            true,
        ),
        IBV_EVENT_SM_CHANGE => of_port("has another subnet manager", false),
        IBV_EVENT_CLIENT_REREGISTER => {
            of_port("was asked to register with its subnet manager", false)
        }
        _ => note("the device told something that is not in the specification", true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_told_and_those_of_a_pair_name_it() {
        let decode = |kind| decode(kind, || 77, || 2);
        let unknown = decode(1_000);
        for kind in IBV_EVENT_CQ_ERR..=IBV_EVENT_WQ_FATAL {
            assert_ne!(decode(kind), unknown, "event {kind}");
        }
        assert!(matches!(decode(IBV_EVENT_QP_FATAL), DeviceEvent::PairFailed { number: 77, .. }));
        let down = decode(IBV_EVENT_PORT_ERR);
        assert!(matches!(down, DeviceEvent::Note { port: Some(2), is_bad: true, .. }), "{down:?}");
        assert!(matches!(decode(IBV_EVENT_DEVICE_FATAL), DeviceEvent::DeviceFailed(_)));
    }
}
