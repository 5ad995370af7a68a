//! A name server for nginx's `resolver`: answers A queries (RFC 1035) from a table, and with
//! "no such name" for everything else.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A running name server on a loopback UDP port; stopped on drop.
pub struct Dns {
    address: SocketAddr,
    table: Arc<Mutex<Vec<(String, Ipv4Addr)>>>,
    asked: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Dns {
    /// Serves the names of `table`.
    pub fn start(table: &[(&str, Ipv4Addr)]) -> Dns {
        let table: Vec<_> = table.iter().map(|(name, ip)| (name.to_string(), *ip)).collect();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        // Only how soon a drop is noticed depends on this.
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let table = Arc::new(Mutex::new(table));
        let (names, ended, known) = (asked.clone(), stop.clone(), table.clone());
        let thread = std::thread::spawn(move || {
            let mut query = [0; 512];
            while !ended.load(Ordering::Relaxed) {
                let Ok((size, from)) = socket.recv_from(&mut query) else { continue };
                let answer = answer(&query[..size], &known.lock().unwrap());
                if let Some((name, reply)) = answer {
                    names.lock().unwrap().push(name);
                    let _ = socket.send_to(&reply, from);
                }
            }
        });
        Dns { address, table, asked, stop, thread: Some(thread) }
    }

    /// Address and port, as the `resolver` directive takes them.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what a name stands for.
    pub fn set(&self, name: &str, ip: Ipv4Addr) {
        let mut table = self.table.lock().unwrap();
        table.retain(|(known, _)| known != name);
        table.push((name.to_string(), ip));
    }

    /// The names asked for so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The name asked for and the reply, or None for what is not a query.
fn answer(query: &[u8], table: &[(String, Ipv4Addr)]) -> Option<(String, Vec<u8>)> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let size = usize::from(*query.get(at)?);
        at += 1;
        if size == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + size)?).to_lowercase());
        at += size;
    }
    let question = query.get(12..at + 4)?;
    let name = labels.join(".");
    let is_a = question.ends_with(&[0, 1, 0, 1]);
    let ip = table.iter().find(|(known, _)| *known == name).map(|(_, ip)| *ip);
    let (code, count) = match ip {
        Some(_) if is_a => (0, 1),
        Some(_) => (0, 0),
        None => (3, 0),
    };
    // Id; response, recursion available, code; one question, `count` answers.
    let mut reply = query.get(..2)?.to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
    reply.extend(question);
    if let (1, Some(ip)) = (count, ip) {
        // Name by pointer to the question, A, IN, 60 s, four bytes.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        reply.extend(ip.octets());
    }
    Some((name, reply))
}
