//! A Chromium without a window, by way of chromedriver (W3C WebDriver, and Chrome's DevTools for what
//! that lacks). Each has a profile of its own; both end with the value.

use crate::support::client::{exchange, Response};
use crate::support::process::{self, Process};
use crate::support::{nginx, root, wait_for};
use serde_json::{json, Value};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use tempfile::TempDir;

/// What Chromium is started with: nothing that asks another host.
const ARGUMENTS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];

/// The tabulator and Enter, as WebDriver writes them (17.4.2).
pub const TAB: &str = "\u{e004}";
pub const ENTER: &str = "\u{e007}";

/// A browser with one page.
pub struct Browser {
    driver: SocketAddr,
    session: String,
    _process: Process,
    _profile: TempDir,
}

impl Browser {
    /// Starts one whose window is 1,280 pixels wide and 900 high.
    pub fn start() -> Browser {
        let profile = nginx::prefix();
        let driver = SocketAddr::from(([127, 0, 0, 1], nginx::free_port()));
        let mut command = process::command("/usr/bin/chromedriver");
        command.arg(format!("--port={}", driver.port())).env("HOME", profile.path());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let process = Process::spawn(command).unwrap();
        wait_for("chromedriver to listen", || TcpStream::connect(driver).ok());
        let directory = format!("--user-data-dir={}", profile.path().join("profile").display());
        let arguments: Vec<_> = ARGUMENTS.into_iter().chain([directory.as_str()]).collect();
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"binary": "/usr/bin/chromium", "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let answer = value(&send(driver, "POST", "/session", &wanted.to_string()));
        let session = format!("/session/{}", answer["sessionId"].as_str().unwrap());
        let browser = Browser { driver, session, _process: process, _profile: profile };
        browser.set_size(1280, 900);
        browser
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        value(&send(self.driver, "POST", &format!("{}{path}", self.session), &body.to_string()))
    }

    fn get(&self, path: &str) -> Value {
        value(&send(self.driver, "GET", &format!("{}{path}", self.session), ""))
    }

    /// Opens an address, and returns when its document is loaded.
    pub fn open(&self, url: &str) {
        self.post("/url", &json!({"url": url}));
    }

    /// What the body of a JavaScript function returns.
    pub fn run(&self, body: &str) -> Value {
        self.post("/execute/sync", &json!({"script": body, "args": []}))
    }

    /// The text that an expression of JavaScript has.
    pub fn text(&self, expression: &str) -> String {
        self.run(&format!("return String({expression})")).as_str().unwrap().to_string()
    }

    /// Waits until an expression of JavaScript is true.
    pub fn wait(&self, expression: &str) {
        wait_for(
            &format!("{expression}\nin the page:\n{}", self.text("document.body.innerText")),
            || (self.run(&format!("return Boolean({expression})")) == true).then_some(()),
        );
    }

    /// Clicks where the first element of this selector is.
    pub fn click(&self, selector: &str) {
        let found = self.post("/element", &json!({"using": "css selector", "value": selector}));
        let id = found.as_object().unwrap().values().next().unwrap().as_str().unwrap();
        self.post(&format!("/element/{id}/click"), &json!({}));
    }

    /// Presses and releases keys: characters, [`TAB`] and [`ENTER`].
    pub fn press(&self, keys: &str) {
        let press = |key| {
            [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})]
        };
        let actions: Vec<_> = keys.chars().flat_map(|key| press(key.to_string())).collect();
        self.post(
            "/actions",
            &json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]}),
        );
    }

    /// Moves the pointer to a place in the window.
    pub fn point(&self, x: i64, y: i64) {
        let moved = json!({"type": "pointerMove", "duration": 0, "x": x, "y": y});
        let pointer = json!({"type": "pointer", "id": "mouse", "actions": [moved]});
        self.post("/actions", &json!({"actions": [pointer]}));
    }

    /// A command of Chrome's DevTools.
    pub fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// Makes the page as large as this, in CSS pixels.
    pub fn set_size(&self, width: u32, height: u32) {
        let mobile = width < 600;
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// What the operating system is set to: "light" or "dark".
    pub fn prefer(&self, scheme: &str) {
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": [feature]}));
    }

    /// Elements with text of their own whose contrast to what is behind them is too low (WCAG 2, 1.4.3).
    pub fn faint(&self) -> Vec<String> {
        self.list(
            "const rgba = (text) => text.match(/[\\d.]+/g).map(Number);
            const light = ([r, g, b]) => [[r, .2126], [g, .7152], [b, .0722]].reduce((sum, [c, share]) =>
                sum + share * (c / 255 <= .04045 ? c / 255 / 12.92 : ((c / 255 + .055) / 1.055) ** 2.4), 0);
            const behind = (node) => { for (; node; node = node.parentElement) {
                const color = rgba(getComputedStyle(node).backgroundColor);
                if (color.length === 3) return color; } return [255, 255, 255]; };
            return [...document.querySelectorAll('body *')].filter((node) => node.checkVisibility()
                && [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim())).flatMap((node) => {
                const [a, b] = [light(rgba(getComputedStyle(node).color)), light(behind(node))];
                const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
                return contrast < 4.5 ? [`${contrast.toFixed(2)} ${node.outerHTML.slice(0, 120)}`] : []; });",
        )
    }

    /// Elements that reach further to the right than this, in pixels, but for what scrolls by itself.
    pub fn wide(&self, width: u32) -> Vec<String> {
        let body = "const scrolls = (node) => node && (['auto', 'scroll'].includes(getComputedStyle(node).overflowX)
                || scrolls(node.parentElement));
            return [...document.querySelectorAll('body *')].filter((node) => node.checkVisibility()
                && node.getBoundingClientRect().right > WIDTH + .5 && !scrolls(node.parentElement))
                .map((node) => node.outerHTML.slice(0, 99));";
        self.list(&body.replace("WIDTH", &width.to_string()))
    }

    /// What the body of a JavaScript function returns that is a list of texts.
    fn list(&self, body: &str) -> Vec<String> {
        let found = self.run(body);
        let texts = found.as_array().unwrap().iter();
        texts.map(|text| text.as_str().unwrap().to_string()).collect()
    }

    /// Writes what is to be seen to target/screenshots.
    pub fn screenshot(&self, name: &str) {
        let directory = root().join("target/screenshots");
        fs::create_dir_all(&directory).unwrap();
        let picture = self.get("/screenshot");
        let picture = from_base64(picture.as_str().unwrap());
        assert!(picture.starts_with(b"\x89PNG"));
        fs::write(directory.join(name).with_extension("png"), picture).unwrap();
    }

    /// Lines of the console since the last look.
    pub fn console(&self) -> Vec<String> {
        let lines = self.post("/se/log", &json!({"type": "browser"}));
        lines.as_array().unwrap().iter().map(|line| line["message"].to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The process that ends next would leave Chromium behind.
        send(self.driver, "DELETE", &self.session, "");
    }
}

fn send(driver: SocketAddr, method: &str, path: &str, body: &str) -> Response {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {driver}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    exchange(driver, request.as_bytes())
}

/// What a command returns (W3C WebDriver, 6.3); panics with its error.
fn value(response: &Response) -> Value {
    let mut answer: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(response.status, 200, "{answer}");
    answer["value"].take()
}

/// RFC 4648, 4.
fn from_base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits: Vec<_> = text.bytes().filter_map(digit).collect();
    let bytes = digits.chunks(4).flat_map(|group| {
        let bits = group.iter().fold(0u32, |bits, &digit| bits << 6 | u32::from(digit));
        let bits = bits << (6 * (4 - group.len()));
        bits.to_be_bytes().into_iter().skip(1).take(group.len() - 1).collect::<Vec<_>>()
    });
    bytes.collect()
}
