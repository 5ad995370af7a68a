//! Stock's packet turned into the one that ours must send for the same request: exactly the
//! differences that the project intends, and nothing else.

use crate::prelude::*;
use crate::support::packet::Var;

/// Headers that do not reach the application unless the request asks for an upgrade.
const DROPPED: [&str; 7] = [
    "HTTP_CONNECTION",
    "HTTP_KEEP_ALIVE",
    "HTTP_PROXY_CONNECTION",
    "HTTP_TRANSFER_ENCODING",
    "HTTP_TE",
    "HTTP_TRAILER",
    "HTTP_PROXY",
];

const HOST: &[u8] = b"HTTP_HOST";

/// Its value is that of CONTENT_LENGTH, which stands among the params.
const LENGTH_HEADER: &[u8] = b"HTTP_CONTENT_LENGTH";

/// Stock's packet without the header that says the body's length once more, and the body; what is no
/// packet, as it is.
pub fn without_length_header(stock: &[u8]) -> Vec<u8> {
    let Ok((packet, body)) = Packet::parse(stock) else { return stock.to_vec() };
    let vars: Vec<Var> = packet.vars.into_iter().filter(|(key, _)| key != LENGTH_HEADER).collect();
    [&Packet::encode(packet.modifier1, packet.modifier2, &vars), body].concat()
}

/// Does stock send `$host$is_request_port$request_port` as HTTP_HOST, where no param has that name?
pub fn stock_has_host_of_its_own() -> bool {
    nginx_version() >= 1_029_005
}

/// A packet without HTTP_HOST, and that: since nginx 1.29.5 stock's stands elsewhere than the header and
/// says something else, so each is compared by itself.
pub fn without_host(bytes: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (packet, body) = Packet::parse(bytes).expect("a broken packet");
    let (hosts, vars): (Vec<Var>, _) = packet.vars.into_iter().partition(|(key, _)| key == HOST);
    let rest = [&Packet::encode(packet.modifier1, packet.modifier2, &vars), body].concat();
    (rest, hosts.into_iter().map(|(_, value)| value).collect())
}

/// What must be known of the request and the configuration beyond stock's packet.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The names of the params configured, in order.
    pub params: &'a [String],
    /// Host and port of a request line in absolute form.
    pub authority: Option<&'a [u8]>,
    /// HTTP_HOST as ours must send it: the authority, else the Host header.
    pub host: Option<&'a [u8]>,
    /// The bytes that follow the packet.
    pub body: &'a [u8],
}

/// The packet and body that ours must send where stock sent `stock`; without HTTP_HOST, where stock has
/// its own.
pub fn intended(stock: &[u8], facts: &Facts) -> Vec<u8> {
    let (packet, body) = Packet::parse(stock).expect("stock sent a broken packet");
    assert_eq!(body.len(), facts.body.len(), "stock passed another body than was sent");
    let (params, headers) = split_params(packet.vars, facts.params);
    let params = params.into_iter().map(|(key, value)| match key.as_slice() {
        b"CONTENT_LENGTH" => (key, canonical_length(value, body.len())),
        _ => (key, value),
    });
    let vars: Vec<Var> = params.chain(joined(kept(hosted(headers, facts)))).collect();
    [&Packet::encode(packet.modifier1, packet.modifier2, &vars), body].concat()
}

/// Params come first and in the order of the configuration; `if_not_empty` leaves gaps.
fn split_params(mut vars: Vec<Var>, names: &[String]) -> (Vec<Var>, Vec<Var>) {
    let mut count = 0;
    for name in names {
        if vars.get(count).is_some_and(|(key, _)| key == name.as_bytes()) {
            count += 1;
        }
    }
    let headers = vars.split_off(count);
    (vars, headers)
}

/// The length of the body that follows in plain digits; an absent length stays absent when there
/// is no body.
fn canonical_length(value: Vec<u8>, body: usize) -> Vec<u8> {
    match (value.is_empty(), body) {
        (true, 0) => value,
        _ => body.to_string().into_bytes(),
    }
}

/// HTTP_HOST is the host that nginx acts on: that of the request line if it has one. A param of
/// that name stands instead of the header, as everywhere.
fn hosted(mut headers: Vec<Var>, facts: &Facts) -> Vec<Var> {
    let replaced = facts.params.iter().any(|name| name == "HTTP_HOST");
    if let Some(authority) = facts.authority.filter(|_| !replaced) {
        match headers.iter_mut().find(|(key, _)| key == b"HTTP_HOST") {
            Some((_, value)) => *value = authority.to_vec(),
            None => headers.insert(0, (b"HTTP_HOST".to_vec(), authority.to_vec())),
        }
    }
    headers
}

/// Without Content-Length and the hop-by-hop headers, but for Connection in a request for an upgrade.
fn kept(headers: Vec<Var>) -> Vec<Var> {
    let upgrade = headers.iter().any(|(key, _)| key == b"HTTP_UPGRADE");
    let stays = |key: &[u8]| {
        (upgrade && key == b"HTTP_CONNECTION") || !DROPPED.iter().any(|name| name.as_bytes() == key)
    };
    let stays = |key: &[u8]| key != LENGTH_HEADER && stays(key);
    headers.into_iter().filter(|(key, _)| stays(key)).collect()
}

/// Repeated headers become one var at the place of the first.
fn joined(headers: Vec<Var>) -> Vec<Var> {
    let mut joined: Vec<Var> = Vec::new();
    for (key, value) in headers {
        match joined.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => {
                let separator: &[u8] = if key == b"HTTP_COOKIE" { b"; " } else { b", " };
                values.extend_from_slice(separator);
                values.extend(value);
            }
            None => joined.push((key, value)),
        }
    }
    joined
}

/// The names of the `uwsgi_param` lines in a piece of configuration, in order. Params named
/// `HTTP_…` with an empty value are never sent and so are left out.
pub fn param_names(conf: &str) -> Vec<String> {
    let lines = conf.lines().filter_map(|line| line.trim().strip_prefix("uwsgi_param "));
    let words = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    words
        .filter(|w| !(w[0].starts_with("HTTP_") && w[1] == "\"\";"))
        .map(|w| w[0].to_string())
        .collect()
}
