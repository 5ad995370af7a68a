//! Ports and directories that tests beside each other do not share.

use super::wait_for;
use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use tempfile::TempDir;

/// A port of TCP and UDP that nobody has and no other test gets, outside the range that the kernel hands
/// out to clients. Starts from the process id, so that test runs side by side seldom meet.
pub fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = (std::process::id() % 199) as u16 * 100;
    wait_for("a free port", || {
        let port = FIRST + (NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(offset)) % COUNT;
        let free =
            |host| TcpListener::bind((host, port)).is_ok() && UdpSocket::bind((host, port)).is_ok();
        (free("127.0.0.1") && free("127.0.0.2")).then_some(port)
    })
}

/// A directory with a path short enough for unix sockets (107 bytes) whatever TMPDIR says.
pub fn prefix() -> TempDir {
    let temp = std::env::temp_dir();
    let base = if temp.as_os_str().len() > 60 { "/tmp".into() } else { temp };
    tempfile::Builder::new().prefix("rsu").tempdir_in(base).unwrap()
}
