//! A server that cannot be reached for a while.

use socket2::{Domain, Socket, Type};
use std::net::SocketAddr;

/// A TCP listener whose queue is full: the kernel drops what else comes, so that connecting to it takes
/// for ever, or until something is accepted.
pub struct FullListener {
    pub address: SocketAddr,
    pub listener: Socket,
    _first: Socket,
}

impl FullListener {
    #[allow(clippy::new_without_default)]
    pub fn new() -> FullListener {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        // Linux takes one connection more than the length of the queue.
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let first = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        first.connect(&address.into()).unwrap();
        FullListener { address, listener, _first: first }
    }
}
