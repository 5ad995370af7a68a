//! The head of the response: its status and headers, given to nginx.
//!
//! Mirrors `ngx_http_uwsgi_process_status_line` and `ngx_http_uwsgi_process_header` of nginx's
//! src/http/modules/ngx_http_uwsgi_module.c.

use crate::conf::LocConf;
use crate::module::{State, Uwsgi};
use crate::nginx::log::{debug, Printable};
use crate::nginx::sys::NGX_HTTP_SWITCHING_PROTOCOLS;
use crate::nginx::{self, version, Error, Request, Upstream};
use crate::pure::hints::Hint;
use crate::pure::uwsgi::head::plain::Names;
use crate::pure::uwsgi::head::{self, Line, NotAStatusLine, Parsed, StatusLine};
use crate::pure::uwsgi::vars::Vars;
use crate::state::{Answer, Head, RequestState};

/// Begins with a new response, of the next server.
pub fn restart(r: Request<'_>) {
    if let Some(u) = r.upstream() {
        u.forget_body();
    }
    if let Some(state) = RequestState::of(r) {
        state.past_status_line.set(false);
    }
}

/// Parses what was read of the head so far, line by line.
///
/// # Errors
///
/// [`Error::Again`] while lines are missing, [`Error::InvalidHeader`] with a line in the log where
/// the head is none.
pub fn process(r: Request<'_>) -> Result<(), Error> {
    let state = RequestState::of(r).ok_or(Error::Failed)?;
    let (u, response) = (state.upstream, &state.attempt().response);
    if !r.is_cached() {
        // A server that has begun to answer has taken the request: it must not get it again because
        // its connection came from the pool.
        if !response.has_begun() {
            let is_html = u.unparsed().starts_with(b"<");
            response.answer.set(if is_html { Answer::Page } else { Answer::Begun });
        }
        u.forget_cached_connection();
    }

    loop {
        if !state.past_status_line.get() {
            status_line(r, u)?;
            state.past_status_line.set(true);
        }
        while !plain_headers(r, state)? && header_line(r, state)? {}

        if !is_interim(u) {
            break;
        }
        // RFC 9110, 15.2: the final response follows
        r.log().debug(format_args!("http rs_uwsgi interim response {}", u.status()));
        response.interim.set(response.interim.get().saturating_add(1));
        let passes = is_passed_on(r, u);
        u.clear_status();
        state.past_status_line.set(false);
        if passes {
            // nginx comes back with what follows
            return Err(version::early_hints());
        }
    }

    if u.status() == 0 {
        cgi_status(r, u)?;
    }
    u.report_status();
    if u.status() == NGX_HTTP_SWITCHING_PROTOCOLS as usize && r.is_upgrade() {
        u.upgrade();
    }
    if u.is_chunked() {
        // RFC 9112, 6.3: chunks override a length
        u.clear_content_length();
    }
    // the head of a cached response says nothing of the connection
    if !r.is_cached() {
        let status = u.status().try_into().unwrap_or(0);
        let after = u.unparsed().len() as u32;
        response.answer.set(Answer::Head(Head { status, after }));
        if !LocConf::of(r).buffering_is_explicit() && u.is_event_stream() {
            u.pass_on_at_once(r);
        }
    }
    u.prepare_body(r)
}

/// Is this a 1xx response? 101 is a final one: another protocol follows it.
fn is_interim(u: Upstream<'_>) -> bool {
    (100..200).contains(&u.status()) && u.status() != NGX_HTTP_SWITCHING_PROTOCOLS as usize
}

/// Is this an interim response that the client gets (RFC 8297)?
fn is_passed_on<'a>(r: Request<'a>, u: Upstream<'a>) -> bool {
    const EARLY_HINTS: usize = 103;
    u.status() == EARLY_HINTS && u.passes_early_hints(r)
}

/// "HTTP/1.1 200 OK". A CGI program's response has none.
fn status_line<'a>(r: Request<'a>, u: Upstream<'a>) -> Result<(), Error> {
    let (most, status) = head::MOST;
    let (status, size) = if u.unparsed().starts_with(most) {
        (status, most.len())
    } else {
        match head::status_line(u.unparsed()) {
            Ok(Parsed::Complete(StatusLine { code, line }, size)) => {
                (StatusLine { code, line: r.pool().copy(line)? }, size)
            }
            Ok(Parsed::Partial) => return Err(Error::Again),
            Err(NotAStatusLine) => return Ok(()),
        }
    };
    u.set_status(status.code, Some(status.line));
    u.consume(size);
    debug!(r.log(), "http rs_uwsgi status {}", status.code);
    Ok(())
}

/// The headers that need no care, up to the first line that is none of them; true at the end of the
/// head. Interim responses are rare, and left to [`header_line`].
fn plain_headers<'a>(r: Request<'a>, state: &State<'a>) -> Result<bool, Error> {
    let (u, response) = (state.upstream, &state.attempt().response);
    let names = u.known_headers::<Uwsgi>(r).filter(|_| !is_interim(u));
    let Some(mut reader) = names.and_then(Names::reader) else { return Ok(false) };
    let (notes, has_debug) = (!r.is_cached(), r.log().has_debug());
    let mut fields = response.fields.get();
    let ended = u.push_plain_headers(r, &mut reader, |field, line| {
        if has_debug {
            log_header(r, field.name_in(line), field.value_in(line));
        }
        match field.known.map(|name| name.value().framing()) {
            _ if !notes => {}
            Some(None) => {}
            Some(Some(framing)) => fields.see_of(framing, field.value_in(line)),
            None => fields.see(field.name_in(line), field.value_in(line)),
        }
    })?;
    response.fields.set(fields);
    Ok(ended)
}

/// One header; false at the end of the head.
fn header_line<'a>(r: Request<'a>, state: &State<'a>) -> Result<bool, Error> {
    let u = state.upstream;
    let unparsed = u.unparsed();
    match head::header_line(unparsed) {
        Ok(Parsed::Complete(line, size)) => {
            if let Line::Header(header) = &line {
                // Many headers act at once: an interim response must not decide whether and how
                // the final one is cached or buffered.
                if !is_interim(u) {
                    note(r, state, header);
                    u.push_header(r, header.name, header.value, header.hash)?;
                } else if is_passed_on(r, u) && head::may_be_hinted(header.name) {
                    u.push_hint(r, header.name, header.value, header.hash)?;
                }
                log_header(r, header.name, header.value);
            }
            u.consume(size);
            Ok(!matches!(line, Line::End))
        }
        Ok(Parsed::Partial) => Err(Error::Again),
        Err(invalid) => {
            r.log().error(format_args!(
                "upstream sent invalid header: \"{}\\x{:02x}...\"",
                Printable(unparsed.get(..invalid.end).unwrap_or_default()),
                invalid.byte,
            ));
            advise_on_protocol(r, state, unparsed);
            Err(Error::InvalidHeader)
        }
    }
}

/// uWSGI begins its status line with the SERVER_PROTOCOL that it was sent: says so where that is no
/// protocol.
#[cold]
fn advise_on_protocol(r: Request<'_>, state: &State<'_>, line: &[u8]) {
    let vars = Vars::new(state.vars());
    let protocol = vars.flatten().filter(|(name, _)| *name == b"SERVER_PROTOCOL").last();
    let (Some((_, protocol)), Some(peer)) = (protocol, state.attempt().peer.get()) else { return };
    let is_echoed = line.strip_prefix(protocol).is_some_and(|rest| rest.starts_with(b" "));
    let hints = &peer.servers().queue.hints;
    if is_echoed && !r.is_cached() && hints.take_due(Hint::Protocol, nginx::now()) {
        r.log().error(format_args!(
            "\"SERVER_PROTOCOL\" is \"{}\", which is no protocol: uWSGI begins its responses with it, \
             configure \"rs_uwsgi_param SERVER_PROTOCOL $server_protocol\"",
            Printable(protocol),
        ));
    }
}

fn log_header(r: Request<'_>, name: &[u8], value: &[u8]) {
    let (name, value) = (Printable(name), Printable(value));
    r.log().debug(format_args!("http rs_uwsgi header: \"{name}: {value}\""));
}

fn note(r: Request<'_>, state: &State<'_>, header: &head::Header<'_>) {
    if !r.is_cached() {
        let response = &state.attempt().response;
        let mut fields = response.fields.get();
        fields.see(header.name, header.value);
        response.fields.set(fields);
    }
}

/// The status of a response without a status line: by the header Status, else 302 for a Location,
/// else 200 (RFC 3875, 6.2 and 6.3.3).
fn cgi_status<'a>(r: Request<'a>, u: Upstream<'a>) -> Result<(), Error> {
    if let Some(value) = u.status_header() {
        let Some(code) = head::cgi_status(value) else {
            r.log().error(format_args!("upstream sent invalid status \"{}\"", Printable(value)));
            return Err(Error::InvalidHeader);
        };
        let has_phrase = value.len() > 3 || version::STATUS_IS_LINE;
        // the header may move, and filters may need the line when it has
        let line = if has_phrase { Some(&*r.pool().copy(value)?) } else { None };
        u.set_status(code, line);
        return Ok(());
    }
    let (code, line): (u16, &'static [u8]) =
        if u.has_location() { (302, b"302 Moved Temporarily") } else { (200, b"200 OK") };
    u.set_status(code, Some(line));
    Ok(())
}
