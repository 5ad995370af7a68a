//! A web server that serves the page and a JSON of the test's making: for what a real nginx shows only
//! after ten minutes, with hundreds of servers, or never.

use crate::browser::Browser;
use crate::document::Document;
use crate::support::wait_for;
use ngx_http_rs_uwsgi_module::pure::page;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// nginx makes another one for each answer.
const NONCE: &str = "e5Zq0000";

/// A browser that looks at a page.
pub struct Scene {
    pub browser: Browser,
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    document: Document,
    /// Status and body in place of the JSON.
    fault: Option<(u16, String)>,
    /// Arguments of the requests for it.
    asked: Vec<String>,
}

impl Scene {
    /// Opens the page with this to show, and waits until it does.
    pub fn open(document: Document) -> Scene {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { document, fault: None, asked: Vec::new() }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        let scene = Scene { browser: Browser::start(), address, state };
        scene.browser.open(&format!("http://{address}/status/"));
        scene.browser.wait("document.querySelector('#fresh').textContent.startsWith('as of')");
        scene
    }

    /// Changes what the page is told; returns when it shows that.
    pub fn change(&self, change: impl FnOnce(&mut Document)) {
        change(&mut self.state.lock().unwrap().document);
        self.refresh();
    }

    /// Answers requests for the JSON with this.
    pub fn fail(&self, fault: Option<(u16, &str)>) {
        let fault = fault.map(|(status, body)| (status, body.to_string()));
        self.state.lock().unwrap().fault = fault;
    }

    /// Waits until the page has asked again, and has shown the answer: it asks for the next one after that.
    pub fn refresh(&self) {
        let before = self.asked().len();
        wait_for("the page to ask twice", || (self.asked().len() >= before + 2).then_some(()));
    }

    /// The arguments of all requests for the JSON.
    pub fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.clone()
    }

    /// The first column of the rows that are shown, in their order.
    pub fn names(&self) -> Vec<String> {
        let rows = "[...document.querySelectorAll('.main .name')].map((name) => name.textContent)";
        let names = self.browser.run(&format!("return {rows}"));
        names.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_string()).collect()
    }

    /// The console must be empty, and nobody else was asked for anything.
    pub fn end(self) {
        assert_eq!(self.browser.console(), Vec::<String>::new());
        let origin = format!("http://{}/status/", self.address);
        let asked = self
            .browser
            .run("return performance.getEntriesByType('resource').map((entry) => entry.name)");
        for url in asked.as_array().unwrap() {
            let url = url.as_str().unwrap();
            assert!(url.starts_with(&origin) || url.starts_with("data:"), "{url}");
        }
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1).unwrap();
    let (path, arguments) = target.split_once('?').unwrap_or((target, ""));
    let name = path.strip_prefix("/status/").unwrap_or("nothing");
    let (status, kind, body) = match name {
        "" => (200, "text/html; charset=utf-8", page::document(NONCE)),
        "json" => {
            let mut state = state.lock().unwrap();
            state.asked.push(arguments.to_string());
            let (status, body) =
                state.fault.clone().unwrap_or_else(|| (200, state.document.at(now(), arguments)));
            (status, "application/json", body)
        }
        _ => (404, "text/plain", "not found".to_string()),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} -\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Content-Security-Policy: {}\r\nConnection: close\r\n\r\n",
        page::policy(NONCE)
    );
    // The browser may have gone meanwhile.
    let _ = stream.write_all(&[head.as_bytes(), body.as_bytes()].concat());
}

/// Seconds since 1970.
pub fn now() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}
