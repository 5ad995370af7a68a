//! What the kernel knows of another process: its open descriptors, and its sockets with their
//! options (proc(5), pidfd_getfd(2)).

use socket2::Socket;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// How many descriptors the process `pid` has open.
pub fn descriptor_count(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// The memory that the process `pid` has in use, in KiB (VmRSS).
pub fn memory(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// How many connections the server of the unix socket `path` has, those included that it has not
/// accepted yet: their sockets bear the path of the listening one (the seventh column of
/// /proc/net/unix is the inode, the eighth the path; 03 in the sixth is connected).
pub fn unix_connections(path: &Path) -> usize {
    let path = path.to_str().unwrap();
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    let columns = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    columns.filter(|c| c.get(7) == Some(&path) && c[5] != "01").count()
}

/// Raises the soft limit on open descriptors to what 1000 clients and a server take, for this process
/// and those that it starts from here on.
pub fn raise_descriptor_limit() {
    const WANTED: libc::rlim_t = 16_384;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: limit is valid for the call.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    if limit.rlim_cur < WANTED.min(limit.rlim_max) {
        limit.rlim_cur = WANTED.min(limit.rlim_max);
        // SAFETY: limit is valid for the call, which changes nothing else.
        let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }
}

/// Second handles of all sockets that the process `pid` has open. They keep a connection open until
/// they are dropped.
pub fn sockets(pid: u32) -> Vec<Socket> {
    // SAFETY: takes two numbers and returns a new descriptor, which nobody else owns.
    let process = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }).unwrap();
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().filter_map(|entry| {
        let entry = entry.ok()?;
        // A descriptor that was closed meanwhile is of no interest.
        let is_socket = fs::read_link(entry.path()).ok()?.to_str()?.starts_with("socket:");
        is_socket.then(|| entry.file_name().to_str()?.parse::<i32>().ok())?
    });
    let copy = |number: i32| {
        let process = process.as_raw_fd();
        // SAFETY: takes three numbers and returns a new descriptor, which nobody else owns.
        let copied = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process, number, 0) };
        owned(copied).map(Socket::from)
    };
    descriptors.map(|number| copy(number).unwrap()).collect()
}

/// Is IP_TRANSPARENT (ip(7)) set on `socket`?
pub fn is_transparent(socket: &Socket) -> bool {
    let mut value: libc::c_int = 0;
    let mut size = size_of::<libc::c_int>() as libc::socklen_t;
    let (fd, level, name) = (socket.as_raw_fd(), libc::SOL_IP, libc::IP_TRANSPARENT);
    // SAFETY: value and size are valid for the call, and size is that of value.
    let result =
        unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut size) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    value != 0
}

/// Is any TCP connection to `address` being made, and not yet there? (In the third column of
/// /proc/net/tcp 127.0.0.1 is 0100007F; in the fourth 02 is SYN_SENT.)
pub fn is_connecting_to(address: SocketAddr) -> bool {
    let SocketAddr::V4(address) = address else { panic!("{address} is not IPv4") };
    let ip = u32::from_le_bytes(address.ip().octets());
    let wanted = format!("{ip:08X}:{:04X}", address.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().any(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        columns[2] == wanted && columns[3] == "02"
    })
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match result {
        // SAFETY: the kernel has just returned this descriptor to us.
        0.. => Ok(unsafe { OwnedFd::from_raw_fd(result as i32) }),
        _ => Err(io::Error::last_os_error()),
    }
}
