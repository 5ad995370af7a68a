//! A name server for nginx's `resolver`: answers A queries (RFC 1035) and SRV queries (RFC 2782) from
//! tables, and with "no such name" for what stands in none.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What names stand for.
#[derive(Default)]
struct Tables {
    hosts: Vec<(String, Ipv4Addr)>,
    /// Services: the port and the host that serves each.
    services: Vec<(String, u16, String)>,
}

/// A running name server on a loopback UDP port; stopped on drop.
pub struct Dns {
    address: SocketAddr,
    tables: Arc<Mutex<Tables>>,
    asked: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Dns {
    /// Serves the names of `table`.
    pub fn start(table: &[(&str, Ipv4Addr)]) -> Dns {
        let hosts = table.iter().map(|(name, ip)| (name.to_string(), *ip)).collect();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        // Only how soon a drop is noticed depends on this.
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let tables = Arc::new(Mutex::new(Tables { hosts, services: Vec::new() }));
        let (names, ended, known) = (asked.clone(), stop.clone(), tables.clone());
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
        Dns { address, tables, asked, stop, thread: Some(thread) }
    }

    /// Address and port, as the `resolver` directive takes them.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what a name stands for.
    pub fn set(&self, name: &str, ip: Ipv4Addr) {
        let hosts = &mut self.tables.lock().unwrap().hosts;
        hosts.retain(|(known, _)| known != name);
        hosts.push((name.to_string(), ip));
    }

    /// Changes which port of which host serves a service, "_service._protocol.name".
    pub fn set_service(&self, name: &str, port: u16, host: &str) {
        let services = &mut self.tables.lock().unwrap().services;
        services.retain(|(known, ..)| known != name);
        services.push((name.to_string(), port, host.to_string()));
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
fn answer(query: &[u8], tables: &Tables) -> Option<(String, Vec<u8>)> {
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
    let (kind, class) = question.get(question.len() - 4..)?.split_at(2);
    let host = tables.hosts.iter().find(|(known, _)| *known == name);
    let service = tables.services.iter().find(|(known, ..)| *known == name);
    let data = match (kind, class, host, service) {
        ([0, A], [0, IN], Some((_, ip)), _) => Some(ip.octets().to_vec()),
        ([0, SRV], [0, IN], _, Some((_, port, host))) => Some(service_data(*port, host)),
        _ => None,
    };
    let code = if host.is_some() || service.is_some() { 0 } else { 3 };
    // Id; response, recursion available, code; one question, and its answer if there is one.
    let mut reply = query.get(..2)?.to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(data.is_some()), 0, 0, 0, 0]);
    reply.extend(question);
    if let Some(data) = data {
        // Name by pointer to the question, its type and class, 60 s, size.
        reply.extend([0xc0, 12]);
        reply.extend(kind.iter().chain(class));
        reply.extend([0, 0, 0, 60, 0, u8::try_from(data.len()).unwrap()]);
        reply.extend(data);
    }
    Some((name, reply))
}

const A: u8 = 1;
const SRV: u8 = 33;
const IN: u8 = 1;

/// Priority 1, weight 1, port, and the host's name.
fn service_data(port: u16, host: &str) -> Vec<u8> {
    let mut data = vec![0, 1, 0, 1];
    data.extend(port.to_be_bytes());
    for label in host.split('.') {
        data.push(u8::try_from(label.len()).unwrap());
        data.extend(label.bytes());
    }
    data.push(0);
    data
}
