//! The callbacks of the balancer in effect, which stand behind ours.

use core::ffi::c_void;

use super::status::ERROR;
use super::sys::{
    ngx_event_free_peer_pt, ngx_event_get_peer_pt, ngx_event_notify_peer_pt, ngx_int_t,
    ngx_peer_connection_t, ngx_uint_t,
};
#[cfg(ngx_feature = "http_ssl")]
use super::sys::{ngx_event_save_peer_session_pt, ngx_event_set_peer_session_pt};

/// Who chooses the server.
#[derive(Clone, Copy)]
pub(super) struct Balancer {
    pub(super) data: *mut c_void,
    get: ngx_event_get_peer_pt,
    free: ngx_event_free_peer_pt,
    pub(super) notify: ngx_event_notify_peer_pt,
    #[cfg(ngx_feature = "http_ssl")]
    pub(super) set_session: ngx_event_set_peer_session_pt,
    #[cfg(ngx_feature = "http_ssl")]
    pub(super) save_session: ngx_event_save_peer_session_pt,
}

impl Balancer {
    /// # Safety
    ///
    /// The balancer has just set up the request's peer.
    pub(super) unsafe fn of(pc: *mut ngx_peer_connection_t) -> Balancer {
        // SAFETY: the caller's promise.
        unsafe {
            Balancer {
                data: (*pc).data,
                get: (*pc).get,
                free: (*pc).free,
                notify: (*pc).notify,
                #[cfg(ngx_feature = "http_ssl")]
                set_session: (*pc).set_session,
                #[cfg(ngx_feature = "http_ssl")]
                save_session: (*pc).save_session,
            }
        }
    }

    /// Chooses a server.
    ///
    /// # Safety
    ///
    /// The peer must be the one that the balancer has set up.
    pub(super) unsafe fn choose(self, pc: *mut ngx_peer_connection_t) -> ngx_int_t {
        let Some(get) = self.get else { return ERROR };
        // SAFETY: the balancer's own callback with its own data.
        unsafe { get(pc, self.data) }
    }

    /// Tells the balancer that its server is free.
    ///
    /// # Safety
    ///
    /// As `choose`, and a server was chosen.
    pub(super) unsafe fn release(self, pc: *mut ngx_peer_connection_t, state: ngx_uint_t) {
        if let Some(free) = self.free {
            // SAFETY: the balancer's own callback with its own data.
            unsafe { free(pc, self.data, state) };
        }
    }
}
