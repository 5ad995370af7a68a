//! A scripted uwsgi backend: for each connection a closure decides what is read, answered, delayed
//! or broken. Every byte received is recorded.

use super::packet::Packet;
use super::tls::{Handshake, Stream};
use super::{report, show, uninterrupted, wait_for, DEADLINE};
use rustls::ServerConfig;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a connection does. An error ends it like a return; scripts use `?`.
pub type Script = Arc<dyn Fn(&mut Peer) -> io::Result<()> + Send + Sync>;

/// A listening backend; its connections are cut and its threads joined on drop.
pub struct Backend {
    address: Address,
    state: Arc<Mutex<State>>,
    listener: Socket,
    acceptor: Option<JoinHandle<()>>,
}

/// Where a backend listens; displays as `uwsgi_pass` takes it.
#[derive(Clone, Debug)]
pub enum Address {
    /// A socket file, or "@name" for a name of the abstract namespace.
    Unix(PathBuf),
    /// A loopback address.
    Tcp(SocketAddr),
}

/// A request as the backend received it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Header and vars.
    pub packet: Packet,
    /// CONTENT_LENGTH bytes.
    pub body: Vec<u8>,
    /// Which connection it came on, counted from 0.
    pub connection: usize,
}

/// Everything one connection received, whether a script understood it or not.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// The bytes in order.
    pub received: Vec<u8>,
    /// The script and the reading after it have ended.
    pub ended: bool,
}

struct State {
    script: Script,
    connections: Vec<Connection>,
    /// What came and went on each of them, up to [`RECORDED`] bytes, for the report of a failure.
    records: Vec<Vec<(Direction, Vec<u8>)>>,
    requests: Vec<Request>,
    sockets: Vec<Option<Socket>>,
    threads: Vec<JoinHandle<()>>,
    /// How many scripts have panicked, of those whose threads were joined.
    panicked: usize,
    stopping: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Received,
    Sent,
}

/// How many bytes of a connection the report of a failure shows.
const RECORDED: usize = 2000;

/// nginx as a script sees it: one accepted connection.
pub struct Peer {
    /// Counted from 0 for each backend.
    pub number: usize,
    stream: Option<Stream>,
    state: Arc<Mutex<State>>,
}

impl Backend {
    /// Listens on the socket file `path`.
    pub fn unix(
        path: &Path,
        script: impl Fn(&mut Peer) -> io::Result<()> + Send + Sync + 'static,
    ) -> Backend {
        let name = SockAddr::unix(path).unwrap();
        Backend::listen(Address::Unix(path.to_path_buf()), &name, 128, Arc::new(script))
    }

    /// Listens on a free port of 127.0.0.1.
    pub fn tcp(script: impl Fn(&mut Peer) -> io::Result<()> + Send + Sync + 'static) -> Backend {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Backend::listen(Address::Tcp(any), &any.into(), 128, Arc::new(script))
    }

    /// Listens with a chosen queue length.
    pub fn listen(address: Address, name: &SockAddr, backlog: i32, script: Script) -> Backend {
        let listener = Socket::new(name.domain(), Type::STREAM, None).unwrap();
        if name.domain() != Domain::UNIX {
            listener.set_reuse_address(true).unwrap();
        }
        listener.bind(name).unwrap();
        listener.listen(backlog).unwrap();
        let address = match address {
            Address::Tcp(_) => Address::Tcp(listener.local_addr().unwrap().as_socket().unwrap()),
            unix => unix,
        };
        let state = Arc::new(Mutex::new(State {
            script,
            connections: Vec::new(),
            records: Vec::new(),
            requests: Vec::new(),
            sockets: Vec::new(),
            threads: Vec::new(),
            panicked: 0,
            stopping: false,
        }));
        let shared = state.clone();
        let own = listener.try_clone().unwrap();
        let acceptor = std::thread::spawn(move || accept(&own, &shared));
        Backend { address, state, listener, acceptor: Some(acceptor) }
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Replaces the script for the connections that come from now on.
    pub fn set_script(&self, script: impl Fn(&mut Peer) -> io::Result<()> + Send + Sync + 'static) {
        self.state.lock().unwrap().script = Arc::new(script);
    }

    /// Every connection so far.
    pub fn connections(&self) -> Vec<Connection> {
        self.state.lock().unwrap().connections.clone()
    }

    /// How many connections there have been.
    pub fn connection_count(&self) -> usize {
        self.state.lock().unwrap().connections.len()
    }

    /// Every request that a script has read so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    /// Waits for the `index`th request, counted from 0.
    pub fn wait_request(&self, index: usize) -> Request {
        wait_for(&format!("request {index} at the backend"), || {
            self.state.lock().unwrap().requests.get(index).cloned()
        })
    }

    /// Waits until the connections from `first` on, and at least `count` of them, have ended;
    /// returns what each received and forgets it, so that megabytes do not pile up.
    pub fn take_ended(&self, first: usize, count: usize) -> Vec<Vec<u8>> {
        wait_for(&format!("{count} connections to end"), || {
            let mut state = self.state.lock().unwrap();
            let connections = state.connections.get_mut(first..)?;
            if connections.len() < count || !connections.iter().all(|c| c.ended) {
                return None;
            }
            Some(connections.iter_mut().map(|c| std::mem::take(&mut c.received)).collect())
        })
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.state.lock().unwrap().stopping = true;
        // Wakes the acceptor, also where its socket file is gone already.
        let _ = self.listener.shutdown(Shutdown::Both);
        let _ = self.acceptor.take().map(JoinHandle::join);
        let threads = {
            let mut state = self.state.lock().unwrap();
            for socket in state.sockets.iter().flatten() {
                let _ = socket.shutdown(Shutdown::Both);
            }
            std::mem::take(&mut state.threads)
        };
        let panicked = panicked(threads) + self.state.lock().unwrap().panicked;
        if let Address::Unix(path) = &self.address {
            let _ = std::fs::remove_file(path);
        }
        let records = self.state.lock().unwrap().record();
        report::take(&[(&format!("connections of the backend {}", self.address), &records)]);
        if panicked > 0 && !std::thread::panicking() {
            report::print();
            panic!("{panicked} scripts of the backend panicked");
        }
    }
}

/// Joins threads; how many have panicked.
fn panicked(threads: Vec<JoinHandle<()>>) -> usize {
    threads.into_iter().filter_map(|thread| thread.join().err()).count()
}

impl State {
    /// Threads that have ended keep the memory of their stacks until they are joined.
    fn join_ended(&mut self) {
        let threads = std::mem::take(&mut self.threads);
        let (ended, others) = threads.into_iter().partition(JoinHandle::is_finished);
        self.threads = others;
        self.panicked += panicked(ended);
    }

    /// Adds to what the report of a failure shows of a connection.
    fn note(&mut self, number: usize, direction: Direction, bytes: &[u8]) {
        let record = &mut self.records[number];
        let room = RECORDED - record.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        let bytes = &bytes[..bytes.len().min(room)];
        match record.last_mut().filter(|last| last.0 == direction) {
            Some(last) => last.1.extend(bytes),
            None if !bytes.is_empty() => record.push((direction, bytes.to_vec())),
            None => {}
        }
    }

    fn record(&self) -> String {
        let line = |(direction, bytes): &(Direction, Vec<u8>)| {
            format!("  {direction:?} {}\n", show(bytes))
        };
        let connections = self.records.iter().enumerate().map(|(number, record)| {
            let lines = record.iter().map(line).collect::<String>();
            let more = match record.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() {
                RECORDED => "  …\n",
                _ => "",
            };
            format!("connection {number}\n{lines}{more}")
        });
        connections.collect()
    }
}

impl Address {
    /// Connects as nginx would.
    pub fn connect(&self) -> io::Result<Socket> {
        let connect = |name: SockAddr| {
            let socket = Socket::new(name.domain(), Type::STREAM, None)?;
            socket.connect(&name)?;
            Ok(socket)
        };
        match self {
            Address::Unix(path) => match path.to_str().and_then(|path| path.strip_prefix('@')) {
                Some(name) => connect(SockAddr::unix(format!("\0{name}\0"))?)
                    .or_else(|_: io::Error| connect(SockAddr::unix(format!("\0{name}"))?)),
                None => connect(SockAddr::unix(path)?),
            },
            Address::Tcp(address) => connect((*address).into()),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Tcp(address) => write!(f, "{address}"),
        }
    }
}

fn accept(listener: &Socket, state: &Arc<Mutex<State>>) {
    while let Ok((socket, _)) = listener.accept() {
        let mut locked = state.lock().unwrap();
        if locked.stopping {
            return;
        }
        // Pieces come when they are sent; only TCP could have it otherwise.
        let _ = socket.set_nodelay(true);
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        locked.join_ended();
        let number = locked.connections.len();
        locked.connections.push(Connection::default());
        locked.records.push(Vec::new());
        locked.sockets.push(socket.try_clone().ok());
        let script = locked.script.clone();
        let stream = Some(Stream::Plain(socket));
        let mut peer = Peer { number, stream, state: state.clone() };
        locked.threads.push(std::thread::spawn(move || {
            // An error is nginx going away or the test ending; what was received is on record.
            if script(&mut peer).is_ok() {
                let _ = peer.finish();
            }
        }));
    }
}

impl Drop for Peer {
    /// nginx is not to wait for a script that has panicked.
    fn drop(&mut self) {
        self.close();
    }
}

impl Peer {
    /// Shakes hands as a TLS server; what is read and written from here on is what was encrypted.
    pub fn start_tls(&mut self, config: &Arc<ServerConfig>) -> io::Result<Handshake> {
        let Some(Stream::Plain(socket)) = self.stream.take() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let (stream, handshake) = Stream::accept(socket, config)?;
        self.stream = Some(stream);
        Ok(handshake)
    }

    /// Reads one packet and the CONTENT_LENGTH bytes after it, and records the request.
    pub fn read_request(&mut self) -> io::Result<Request> {
        let packet = self.read_packet()?;
        let length = packet.get("CONTENT_LENGTH").unwrap_or_default();
        let length = if length.is_empty() { Ok(0) } else { length.parse() };
        let length = length.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        let body = self.read_exact(length)?;
        let request = Request { packet, body, connection: self.number };
        self.state.lock().unwrap().requests.push(request.clone());
        Ok(request)
    }

    /// Reads one packet without a body.
    pub fn read_packet(&mut self) -> io::Result<Packet> {
        let mut bytes = self.read_exact(4)?;
        let size = usize::from(u16::from_le_bytes([bytes[1], bytes[2]]));
        bytes.extend(self.read_exact(size)?);
        let packet = Packet::parse(&bytes).map(|(packet, _)| packet);
        packet.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }

    /// The address that nginx connected from (TCP).
    pub fn remote(&mut self) -> io::Result<SocketAddr> {
        let address = self.stream()?.socket().peer_addr()?.as_socket();
        address.ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// Reads exactly `size` bytes.
    pub fn read_exact(&mut self, size: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; size];
        let mut filled = 0;
        while filled < size {
            match self.read_some(&mut bytes[filled..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => filled += n,
            }
        }
        Ok(bytes)
    }

    /// Reads until nginx closes.
    pub fn read_to_end(&mut self) -> io::Result<()> {
        let mut bytes = vec![0; 65536];
        while self.read_some(&mut bytes)? > 0 {}
        Ok(())
    }

    /// Reads what has come, at least one byte, or nothing at the end.
    pub fn read_some(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let stream = self.stream()?;
        let count = uninterrupted(|| stream.read(into))?;
        let mut state = self.state.lock().unwrap();
        state.connections[self.number].received.extend(&into[..count]);
        state.note(self.number, Direction::Received, &into[..count]);
        Ok(count)
    }

    /// Sends all of `bytes`.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.state.lock().unwrap().note(self.number, Direction::Sent, bytes);
        self.stream()?.write_all(bytes)
    }

    /// Sends `bytes` in pieces of `size` with a pause after each.
    pub fn write_pieces(&mut self, bytes: &[u8], size: usize, pause: Duration) -> io::Result<()> {
        for piece in bytes.chunks(size) {
            self.write(piece)?;
            std::thread::sleep(pause);
        }
        Ok(())
    }

    /// Reads the request and answers with `response`.
    pub fn answer(&mut self, response: &[u8]) -> io::Result<()> {
        self.read_request()?;
        self.write(response)
    }

    /// The same socket once more.
    pub fn socket(&mut self) -> io::Result<Socket> {
        self.stream()?.socket().try_clone()
    }

    /// Ends our direction only.
    pub fn half_close(&mut self) -> io::Result<()> {
        self.stream()?.half_close()
    }

    /// Refuses what nginx still sends, and can still write (unix sockets).
    pub fn stop_reading(&mut self) -> io::Result<()> {
        self.stream()?.socket().shutdown(Shutdown::Read)
    }

    /// Does nothing until nginx gives up or the test ends.
    pub fn stall(&mut self) -> io::Result<()> {
        self.read_to_end()
    }

    /// Reads nothing and waits until nginx gives up.
    pub fn wait_hangup(&mut self) -> io::Result<()> {
        self.poll(libc::POLLRDHUP)
    }

    /// As `wait_hangup`, after `stop_reading`.
    pub fn wait_closed(&mut self) -> io::Result<()> {
        self.poll(0)
    }

    fn poll(&mut self, events: i16) -> io::Result<()> {
        let fd = self.stream()?.socket().as_raw_fd();
        let mut poll = libc::pollfd { fd, events, revents: 0 };
        // SAFETY: one pollfd, valid for the call, of a descriptor that self keeps open.
        match unsafe { libc::poll(&mut poll, 1, DEADLINE.as_millis() as i32) } {
            1 => Ok(()),
            0 => Err(io::ErrorKind::TimedOut.into()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Closes at once, with nothing read first.
    pub fn close(&mut self) {
        self.stream = None;
        let mut state = self.state.lock().unwrap();
        state.sockets[self.number] = None;
        state.connections[self.number].ended = true;
    }

    /// Closes with a reset instead of an orderly end (TCP; a unix socket resets when bytes are
    /// left unread).
    pub fn reset(&mut self) -> io::Result<()> {
        self.stream()?.socket().set_linger(Some(Duration::ZERO))?;
        self.close();
        Ok(())
    }

    /// The default end of a script: what nginx still sends is read and recorded, so that bytes
    /// beyond the body show, and nothing is cut off by a reset.
    fn finish(&mut self) -> io::Result<()> {
        if self.stream.is_some() {
            self.half_close()?;
            self.read_to_end()?;
        }
        Ok(())
    }

    fn stream(&mut self) -> io::Result<&mut Stream> {
        self.stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}
