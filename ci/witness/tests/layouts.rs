//! Sizes, offsets and constants of our generated bindings against those of `rdma-sys`, which bindgen and other
//! hands made from the headers of this machine.

#[path = "../../../rdma/src/verbs/sys/bindings.rs"]
#[allow(dead_code, non_camel_case_types, non_upper_case_globals, non_snake_case, missing_docs)]
mod ours;

use std::mem::{align_of, offset_of, size_of};

use rdma_sys as theirs;

/// Compares a struct field by field. `ours = theirs` names a field that the two call differently.
macro_rules! same {
    (@field $of:ident, $field:ident) => {
        assert_eq!(
            offset_of!(ours::$of, $field), offset_of!(theirs::$of, $field),
            "{}::{}", stringify!($of), stringify!($field)
        );
    };
    (@field $of:ident, $field:ident = $other:ident) => {
        assert_eq!(
            offset_of!(ours::$of, $field), offset_of!(theirs::$of, $other),
            "{}::{}", stringify!($of), stringify!($field)
        );
    };
    ($($of:ident { $($field:ident $(= $other:ident)?),* $(,)? })*) => {$(
        assert_eq!(size_of::<ours::$of>(), size_of::<theirs::$of>(), stringify!($of));
        assert_eq!(align_of::<ours::$of>(), align_of::<theirs::$of>(), stringify!($of));
        $(same!(@field $of, $field $(= $other)?);)*
    )*};
}

#[test]
fn structs_have_the_same_size_alignment_and_offsets() {
    same! {
        ibv_gid { raw, global }
        ibv_global_route { dgid, flow_label, sgid_index, hop_limit, traffic_class }
        ibv_ah_attr { grh, dlid, sl, src_path_bits, static_rate, is_global, port_num }
        ibv_sge { addr, length, lkey }
        ibv_send_wr {
            wr_id, next, sg_list, num_sge, opcode, send_flags, wr, qp_type,
            __bindgen_anon_1 = imm_data_invalidated_rkey_union, __bindgen_anon_2 = bind_mw_tso_union,
        }
        ibv_recv_wr { wr_id, next, sg_list, num_sge }
        ibv_wc {
            wr_id, status, opcode, vendor_err, byte_len, qp_num, src_qp, wc_flags, pkey_index, slid, sl,
            dlid_path_bits, __bindgen_anon_1 = imm_data_invalidated_rkey_union,
        }
        ibv_qp_cap { max_send_wr, max_recv_wr, max_send_sge, max_recv_sge, max_inline_data }
        ibv_qp_init_attr { qp_context, send_cq, recv_cq, srq, cap, qp_type, sq_sig_all }
        ibv_qp_attr {
            qp_state, cur_qp_state, path_mtu, path_mig_state, qkey, rq_psn, sq_psn, dest_qp_num, qp_access_flags,
            cap, ah_attr, alt_ah_attr, pkey_index, alt_pkey_index, en_sqd_async_notify, sq_draining,
            max_rd_atomic, max_dest_rd_atomic, min_rnr_timer, port_num, timeout, retry_cnt, rnr_retry,
            alt_port_num, alt_timeout, rate_limit,
        }
        ibv_srq_attr { max_wr, max_sge, srq_limit }
        ibv_srq_init_attr { srq_context, attr }
        ibv_mr { context, pd, addr, length, handle, lkey, rkey }
        ibv_pd { context, handle }
        ibv_cq { context, channel, cq_context, handle, cqe }
        ibv_srq { context, srq_context, pd, handle }
        ibv_qp { context, qp_context, pd, send_cq, recv_cq, srq, handle, qp_num, state, qp_type }
        ibv_comp_channel { context, fd, refcnt }
        ibv_async_event { element, event_type }
        ibv_context { device, ops, cmd_fd, async_fd, num_comp_vectors }
        ibv_context_ops { poll_cq, req_notify_cq, post_srq_recv, post_send, post_recv }
        ibv_device { node_type, transport_type, name, dev_name, dev_path, ibdev_path }
        ibv_device_attr {
            fw_ver, max_mr_size, vendor_id, vendor_part_id, max_qp, max_qp_wr, max_sge, max_cq, max_cqe, max_mr,
            max_qp_rd_atom, max_qp_init_rd_atom, atomic_cap, max_srq, max_srq_wr, phys_port_cnt,
        }
        ibv_port_attr {
            state, max_mtu, active_mtu, gid_tbl_len, max_msg_sz, lid, active_width, active_speed, link_layer,
        }
    }
}

/// Compares constants; theirs are in a module or are flags, by the kind of the C enum.
macro_rules! equal {
    (module $($of:ident { $($name:ident),* })*) => {$($(
        assert_eq!(ours::$name as i64, theirs::$of::$name as i64, stringify!($name));
    )*)*};
    (flags $($of:ident { $($name:ident),* })*) => {$($(
        assert_eq!(ours::$name as i64, theirs::$of::$name.0 as i64, stringify!($name));
    )*)*};
}

#[test]
fn constants_are_the_same() {
    equal! { module
        ibv_qp_type { IBV_QPT_RC }
        ibv_qp_state { IBV_QPS_INIT, IBV_QPS_RTR, IBV_QPS_RTS, IBV_QPS_ERR }
        ibv_mtu { IBV_MTU_256, IBV_MTU_1024, IBV_MTU_4096 }
        ibv_port_state { IBV_PORT_DOWN, IBV_PORT_INIT, IBV_PORT_ARMED, IBV_PORT_ACTIVE, IBV_PORT_ACTIVE_DEFER }
        ibv_atomic_cap { IBV_ATOMIC_NONE, IBV_ATOMIC_HCA, IBV_ATOMIC_GLOB }
        ibv_wr_opcode { IBV_WR_RDMA_WRITE, IBV_WR_RDMA_WRITE_WITH_IMM, IBV_WR_RDMA_READ }
        ibv_wc_opcode { IBV_WC_RDMA_WRITE, IBV_WC_RDMA_READ, IBV_WC_RECV, IBV_WC_RECV_RDMA_WITH_IMM }
        ibv_wc_status {
            IBV_WC_SUCCESS, IBV_WC_LOC_LEN_ERR, IBV_WC_LOC_QP_OP_ERR, IBV_WC_LOC_EEC_OP_ERR, IBV_WC_LOC_PROT_ERR,
            IBV_WC_WR_FLUSH_ERR, IBV_WC_MW_BIND_ERR, IBV_WC_BAD_RESP_ERR, IBV_WC_LOC_ACCESS_ERR,
            IBV_WC_REM_INV_REQ_ERR, IBV_WC_REM_ACCESS_ERR, IBV_WC_REM_OP_ERR, IBV_WC_RETRY_EXC_ERR,
            IBV_WC_RNR_RETRY_EXC_ERR, IBV_WC_LOC_RDD_VIOL_ERR, IBV_WC_REM_INV_RD_REQ_ERR, IBV_WC_REM_ABORT_ERR,
            IBV_WC_INV_EECN_ERR, IBV_WC_INV_EEC_STATE_ERR, IBV_WC_FATAL_ERR, IBV_WC_RESP_TIMEOUT_ERR,
            IBV_WC_GENERAL_ERR, IBV_WC_TM_ERR, IBV_WC_TM_RNDV_INCOMPLETE
        }
        ibv_event_type {
            IBV_EVENT_CQ_ERR, IBV_EVENT_QP_FATAL, IBV_EVENT_QP_REQ_ERR, IBV_EVENT_QP_ACCESS_ERR,
            IBV_EVENT_COMM_EST, IBV_EVENT_SQ_DRAINED, IBV_EVENT_PATH_MIG, IBV_EVENT_PATH_MIG_ERR,
            IBV_EVENT_DEVICE_FATAL, IBV_EVENT_PORT_ACTIVE, IBV_EVENT_PORT_ERR, IBV_EVENT_LID_CHANGE,
            IBV_EVENT_PKEY_CHANGE, IBV_EVENT_SM_CHANGE, IBV_EVENT_SRQ_ERR, IBV_EVENT_SRQ_LIMIT_REACHED,
            IBV_EVENT_QP_LAST_WQE_REACHED, IBV_EVENT_CLIENT_REREGISTER, IBV_EVENT_GID_CHANGE, IBV_EVENT_WQ_FATAL
        }
    }
    equal! { flags
        ibv_access_flags { IBV_ACCESS_LOCAL_WRITE, IBV_ACCESS_REMOTE_WRITE, IBV_ACCESS_REMOTE_READ }
        ibv_send_flags { IBV_SEND_SIGNALED, IBV_SEND_INLINE }
        ibv_qp_attr_mask {
            IBV_QP_STATE, IBV_QP_ACCESS_FLAGS, IBV_QP_PKEY_INDEX, IBV_QP_PORT, IBV_QP_AV, IBV_QP_PATH_MTU,
            IBV_QP_TIMEOUT, IBV_QP_RETRY_CNT, IBV_QP_RNR_RETRY, IBV_QP_RQ_PSN, IBV_QP_MAX_QP_RD_ATOMIC,
            IBV_QP_MIN_RNR_TIMER, IBV_QP_SQ_PSN, IBV_QP_MAX_DEST_RD_ATOMIC, IBV_QP_DEST_QPN
        }
    }
}
