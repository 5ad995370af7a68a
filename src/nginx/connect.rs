//! Connections that this module makes itself, as `ngx_event_connect_peer` of nginx's
//! src/event/ngx_event_connect.c does.

use core::ffi::{c_char, c_int};
use core::mem::{offset_of, zeroed};
use core::net::Ipv6Addr;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

use super::connection::close;
use super::log::debug;
use super::module::Module;
use super::peer::Peer;
use super::status::OK;
use super::sys::{
    ngx_connection_counter, ngx_connection_t,
    ngx_connection_tcp_nodelay_e_NGX_TCP_NODELAY_DISABLED, ngx_current_msec, ngx_event_actions,
    ngx_get_connection, ngx_handle_read_event, ngx_handle_write_event, ngx_io, ngx_socket_errno,
};
use super::{bytes_of, spare, version, Error, Log};

/// NGX_TCP_NOPUSH_DISABLED and NGX_TCP_NODELAY_DISABLED.
pub(super) const DISABLED: u32 = ngx_connection_tcp_nodelay_e_NGX_TCP_NODELAY_DISABLED;

/// How far an attempt to connect has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is a connection.
    Connected,
    /// The server has not answered yet.
    Pending,
}

/// Why something failed: a number of errno(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub c_int);

impl<'a, H: Module> Peer<'a, H> {
    /// Is its address that of a unix socket?
    pub fn is_unix(self) -> bool {
        let address = field!(self, sockaddr);
        // SAFETY: the balancer has chosen a server.
        unsafe { c_int::from((*address).sa_family) == libc::AF_UNIX }
    }

    /// Is its address one of this machine's own, which a connection is made to within connect(2)?
    pub fn is_loopback(self) -> bool {
        is_loopback(self.address())
    }

    /// Is it a unix socket with a name that is none of a file, "unix:@name"?
    pub fn is_abstract(self) -> bool {
        self.is_unix() && abstract_name(self.address()).is_some()
    }

    /// Its name in the log: "unix:/path" or "address:port".
    pub fn name(self) -> &'a [u8] {
        let name = field!(self, name);
        // SAFETY: the balancer has chosen a server, whose name lives longer than the try.
        unsafe { name.as_ref().map_or(&[], |name| bytes_of(*name)) }
    }

    /// Can another server be asked after this one?
    pub fn has_others(self) -> bool {
        field!(self, tries) > 1
    }

    /// Makes a socket, with the options that are configured.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`]; the log says why, in nginx's words.
    pub fn open(self) -> Result<(), Error> {
        let address = field!(self, sockaddr);
        let log = self.log();
        // SAFETY: the balancer has chosen a server. The socket becomes the connection's, or is closed.
        let c = unsafe {
            let family = (*address).sa_family.into();
            let fd = libc::socket(family, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0);
            if fd == -1 {
                log.alert_of(ngx_socket_errno(), format_args!("socket() failed"));
                return Err(Error::Failed);
            }
            NonNull::new(ngx_get_connection(fd, log.as_ptr())).ok_or_else(|| {
                libc::close(fd);
                Error::Failed
            })?
        };
        // SAFETY: a new connection, of which only we know.
        unsafe { prepare(c.as_ptr(), self.ptr.as_ptr()) };
        field!(self, connection = c.as_ptr());
        if self.is_loopback() {
            // SAFETY: as above.
            save_ack(unsafe { (*c.as_ptr()).fd });
        }
        self.bind(c).inspect_err(|_| self.discard())
    }

    /// Sets what may differ from address to address.
    fn bind(self, c: NonNull<ngx_connection_t>) -> Result<(), Error> {
        // SAFETY: an open connection.
        let fd = unsafe { (*c.as_ptr()).fd };
        let log = self.log();
        let rcvbuf = field!(self, rcvbuf);
        if rcvbuf != 0 && set(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, rcvbuf).is_err() {
            log.alert_of(ngx_socket_errno(), format_args!("setsockopt(SO_RCVBUF) failed"));
            return Err(Error::Failed);
        }
        let sndbuf = version::sndbuf(self);
        if sndbuf != 0 && set(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, sndbuf).is_err() {
            log.alert_of(ngx_socket_errno(), format_args!("setsockopt(SO_SNDBUF) failed"));
            return Err(Error::Failed);
        }
        let keepalive = flag_of!(self, so_keepalive) != 0;
        if keepalive && set(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1).is_err() {
            log.alert_of(
                ngx_socket_errno(),
                format_args!("setsockopt(SO_KEEPALIVE) failed, ignored"),
            );
        }
        let local = field!(self, local);
        // SAFETY: null, or an address of nginx's, as long as the request.
        let Some(local) = (unsafe { local.as_ref() }) else { return Ok(()) };
        if flag_of!(self, transparent) != 0 {
            self.set_transparent(fd)?;
        }
        // SAFETY: an address of nginx's.
        let port = unsafe { super::sys::ngx_inet_get_port(local.sockaddr) };
        if port == 0 && !self.is_unix() {
            // The port is chosen when connecting, so that there can be as many connections from one
            // address as there are ports to each server. Not every kernel can do it.
            let _ = set(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1);
        }
        // SAFETY: an open socket, and an address of nginx's with its length.
        if unsafe { libc::bind(fd, local.sockaddr.cast(), local.socklen) } == -1 {
            let errno = ngx_socket_errno();
            // SAFETY: an address has a name.
            let name = unsafe { bytes_of(local.name) };
            log.crit_of(errno, format_args!("bind({}) failed", super::log::Printable(name)));
            return Err(Error::Failed);
        }
        Ok(())
    }

    /// Lets the socket have an address that is not this machine's.
    fn set_transparent(self, fd: c_int) -> Result<(), Error> {
        let address = field!(self, sockaddr);
        // SAFETY: the balancer has chosen a server.
        let (level, option, name) = match c_int::from(unsafe { (*address).sa_family }) {
            libc::AF_INET => (libc::IPPROTO_IP, libc::IP_TRANSPARENT, "IP_TRANSPARENT"),
            libc::AF_INET6 => (libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT, "IPV6_TRANSPARENT"),
            _ => return Ok(()),
        };
        set(fd, level, option, 1).map_err(|()| {
            self.log().alert_of(ngx_socket_errno(), format_args!("setsockopt({name}) failed"));
            Error::Failed
        })
    }

    /// Tries to connect the socket that [`Self::open`] made, once more if it was tried before.
    ///
    /// # Errors
    ///
    /// What connect(2) failed with.
    pub fn connect(self) -> Result<Progress, Errno> {
        let Some(c) = NonNull::new(field!(self, connection)) else {
            return Err(Errno(libc::EBADF));
        };
        // SAFETY: an open connection.
        unsafe {
            let (c, read) = (c.as_ptr(), (*c.as_ptr()).read);
            if flag!(read, active) != 0 {
                // an attempt that has failed
                forget((*c).fd);
            }
            debug!(
                self.log(),
                "http rs_uwsgi connect to {}, fd:{}",
                super::log::Printable(self.name()),
                (*c).fd
            );
            let mut progress = connect_socket((*c).fd, self.address())?;
            if progress == Progress::Pending && self.is_loopback() && has_peer((*c).fd) {
                progress = Progress::Connected;
            }
            if flag!(read, active) == 0 {
                watch(c, progress).map_err(|()| Errno(ngx_socket_errno()))?;
            }
            if progress == Progress::Connected {
                flag!((*c).write, ready = 1);
            }
            Ok(progress)
        }
    }

    /// Ends an attempt that is pending: no packet of it is sent any more, and the socket can be connected again.
    pub fn forget(self) {
        let c = field!(self, connection);
        // SAFETY: null, or an open connection.
        if let Some(c) = unsafe { c.as_ref() } {
            forget(c.fd);
        }
    }

    /// What has become of an attempt that was pending.
    ///
    /// # Errors
    ///
    /// What it failed with.
    pub fn outcome(self) -> Result<Progress, Errno> {
        let c = field!(self, connection);
        // SAFETY: an open connection.
        outcome(unsafe { (*c).fd })
    }

    /// Closes the connection of the try, if there is one.
    pub fn discard(self) {
        let c = field!(self, connection);
        field!(self, connection = ptr::null_mut());
        if !c.is_null() {
            // SAFETY: an open connection of this try alone: nginx asks for it each time, and finds none.
            unsafe { close(c) };
        }
    }

    fn log(self) -> Log<'a> {
        let log = field!(self, log);
        // SAFETY: nginx's peer has the log of the client's connection.
        unsafe { Log::from_ptr(NonNull::new_unchecked(log)) }
    }
}

/// Forgets what a socket was to be connected to, by connecting it to nothing (connect(2)).
fn forget(fd: c_int) {
    // SAFETY: numbers, all of which may be zero; the kernel copies so many bytes, and checks the number of the socket.
    unsafe {
        let mut nothing = zeroed::<libc::sockaddr>();
        nothing.sa_family = libc::AF_UNSPEC as libc::sa_family_t;
        libc::connect(fd, &raw const nothing, size_of::<libc::sockaddr>() as u32);
    }
}

/// What has become of an attempt to connect that was pending.
///
/// # Errors
///
/// What it failed with.
pub(super) fn outcome(fd: c_int) -> Result<Progress, Errno> {
    let (mut errno, mut size) = (0, size_of::<c_int>() as libc::socklen_t);
    // SAFETY: room for the number; the kernel checks that of the socket.
    unsafe {
        let value = (&raw mut errno).cast();
        if libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, value, &raw mut size) != 0 {
            return Err(Errno(ngx_socket_errno()));
        }
        if errno != 0 {
            return Err(Errno(errno));
        }
    }
    // the event may be that of an earlier attempt
    Ok(if has_peer(fd) { Progress::Connected } else { Progress::Pending })
}

/// Is a socket connected?
fn has_peer(fd: c_int) -> bool {
    // SAFETY: room for an address; the kernel checks the number of the socket.
    unsafe {
        let mut address = zeroed::<libc::sockaddr_storage>();
        let mut size = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        libc::getpeername(fd, (&raw mut address).cast(), &raw mut size) == 0
    }
}

/// The family of an address, which a `sockaddr` begins with.
pub(super) fn family(address: &[u8]) -> c_int {
    address.first_chunk().map_or(0, |family| libc::sa_family_t::from_ne_bytes(*family).into())
}

/// Is an address one of 127.0.0.0/8, or ::1?
fn is_loopback(address: &[u8]) -> bool {
    const IP: usize = offset_of!(libc::sockaddr_in, sin_addr);
    const IP6: usize = offset_of!(libc::sockaddr_in6, sin6_addr);
    match family(address) {
        libc::AF_INET => address.get(IP) == Some(&127),
        libc::AF_INET6 => {
            address.get(IP6..).is_some_and(|ip| ip.starts_with(&Ipv6Addr::LOCALHOST.octets()))
        }
        _ => false,
    }
}

/// Connects a socket to an address, of whichever kind.
///
/// # Errors
///
/// What connect(2) failed with.
pub(super) fn connect_socket(fd: c_int, address: &[u8]) -> Result<Progress, Errno> {
    let is_unix = family(address) == libc::AF_UNIX;
    match is_unix.then(|| abstract_name(address)).flatten() {
        Some(name) => connect_abstract(fd, name),
        // SAFETY: so many bytes, which the kernel copies.
        None => unsafe {
            connect_to(fd, address.as_ptr().cast(), address.len() as libc::socklen_t)
        },
    }
}

/// connect(2).
///
/// # Safety
///
/// `address` must be valid for `length` bytes.
unsafe fn connect_to(
    fd: c_int,
    address: *const libc::sockaddr,
    length: libc::socklen_t,
) -> Result<Progress, Errno> {
    // SAFETY: the caller's promise; the kernel checks the number of the socket.
    match unsafe { libc::connect(fd, address, length) } {
        0 => Ok(Progress::Connected),
        _ => match ngx_socket_errno() {
            libc::EINPROGRESS => Ok(Progress::Pending),
            errno => Err(Errno(errno)),
        },
    }
}

/// The name in the address of a unix socket, where nginx was told "unix:@name". nginx itself takes
/// that for the path of a file; here, as in uWSGI's `socket = @name`, it is a name in Linux's abstract
/// namespace (unix(7)).
fn abstract_name(address: &[u8]) -> Option<&[u8]> {
    let path = address.get(offset_of!(libc::sockaddr_un, sun_path)..)?;
    let name = path.strip_prefix(b"@")?;
    name.split(|byte| *byte == 0).next()
}

/// Connects to a name of the abstract namespace.
///
/// All bytes of the address count there, and servers do not agree on them: uWSGI ends the name with a
/// NUL (`bind_to_unix` of its core/socket.c), others, as systemd and Python, give it as it is.
fn connect_abstract(fd: c_int, name: &[u8]) -> Result<Progress, Errno> {
    // SAFETY: numbers, all of which may be zero.
    let mut address = unsafe { zeroed::<libc::sockaddr_un>() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    // the name stands between NULs
    let room = address.sun_path.len() - 2;
    if name.is_empty() || name.len() > room {
        return Err(Errno(libc::EINVAL));
    }
    for (to, from) in address.sun_path.iter_mut().skip(1).zip(name) {
        *to = *from as c_char;
    }
    let size = offset_of!(libc::sockaddr_un, sun_path) + 1 + name.len();
    let connect = |size: usize| {
        // SAFETY: the address is longer than the name with both NULs, see `room`.
        unsafe { connect_to(fd, (&raw const address).cast(), size as libc::socklen_t) }
    };
    match connect(size + 1) {
        Err(Errno(libc::ECONNREFUSED)) => connect(size),
        other => other,
    }
}

/// Lets the last packet of a TCP handshake wait for the request, which follows at once: it is a packet less, and
/// the server wakes up once, to a request, where it woke up to a connection first. (tcp(7) tells of TCP_DEFER_ACCEPT
/// for servers only; of clients, `tcp_rcv_synsent_state_process` of Linux' net/ipv4/tcp_input.c.) What fails changes
/// nothing.
fn save_ack(fd: c_int) {
    let _ = set(fd, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, 1);
}

/// Sets a socket's option.
fn set(fd: c_int, level: c_int, option: c_int, value: c_int) -> Result<(), ()> {
    let size = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the value is valid for the call.
    match unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), size) } {
        0 => Ok(()),
        _ => Err(()),
    }
}

/// Fills in a new connection, as `ngx_event_connect_peer` does.
///
/// # Safety
///
/// `c` must be new, and `pc` a peer that a server was chosen for.
unsafe fn prepare(c: *mut ngx_connection_t, pc: *mut super::sys::ngx_peer_connection_t) {
    // SAFETY: the caller's promise.
    unsafe {
        (*c).type_ = libc::SOCK_STREAM;
        (*c).recv = ngx_io.recv;
        (*c).send = ngx_io.send;
        (*c).recv_chain = ngx_io.recv_chain;
        (*c).send_chain = ngx_io.send_chain;
        flag!(c, sendfile = 1);
        if c_int::from((*(*pc).sockaddr).sa_family) == libc::AF_UNIX {
            flag!(c, tcp_nopush = DISABLED);
            flag!(c, tcp_nodelay = DISABLED);
        }
        flag!(c, log_error = flag!(pc, log_error));
        (*(*c).read).log = (*pc).log;
        (*(*c).write).log = (*pc).log;
        (*c).pool = spare::take((*pc).log);
        let counter = AtomicUsize::from_ptr(ngx_connection_counter.cast::<usize>());
        (*c).number = counter.fetch_add(1, Ordering::Relaxed) as super::sys::ngx_atomic_uint_t;
        (*c).start_time = ngx_current_msec;
    }
}

/// Lets nginx's event method watch a connection. Of one that is there only reading: its socket can be written to,
/// of which epoll would tell at once, in a turn of the event loop for nothing. Where a send finds the socket
/// full, nginx has writing watched, too (`ngx_handle_write_event`).
///
/// # Safety
///
/// `c` must be an open connection that is not watched.
pub(super) unsafe fn watch(c: *mut ngx_connection_t, progress: Progress) -> Result<(), ()> {
    // SAFETY: the caller's promise; nginx's methods are set before any request comes.
    let status = unsafe {
        match (progress, ngx_event_actions.add_conn) {
            (Progress::Connected, _) => ngx_handle_read_event((*c).read, 0),
            (Progress::Pending, Some(add_conn)) => add_conn(c),
            // methods that watch reading and writing apart
            (Progress::Pending, None) => match ngx_handle_read_event((*c).read, 0) {
                OK => ngx_handle_write_event((*c).write, 0),
                failed => failed,
            },
        }
    };
    if status == OK {
        Ok(())
    } else {
        Err(())
    }
}
