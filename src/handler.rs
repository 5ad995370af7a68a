//! Wiring only: every callback of nginx's upstream machinery on one page, in the order of a request's
//! life, and the file that does the step.
//!
//! Mirrors `ngx_http_uwsgi_handler` of nginx's src/http/modules/ngx_http_uwsgi_module.c.

use std::ops::Range;
use std::rc::Rc;

use crate::conf::connections::{self, Settings};
use crate::conf::{merge, status, LocConf};
use crate::module::{Peer, Probed, Servers, State, Uwsgi};
use crate::nginx::answer::{AnswerHandler, AnswerHead};
use crate::nginx::callbacks::{Content, Next, RequestHandler};
use crate::nginx::conf::{self, Conf};
use crate::nginx::connection::{IdleOwner, Lost};
use crate::nginx::filter::ChunkDecoder;
use crate::nginx::log::debug;
use crate::nginx::module::{Module, ModuleConf};
use crate::nginx::peer::{Choice, Chosen, IfFull, Outcome, PeerHandler};
use crate::nginx::probe::{Prober, Turn, Well};
use crate::nginx::resolved::{Current, ServersOwner};
use crate::nginx::shake::TlsClient;
use crate::nginx::status::INTERNAL_SERVER_ERROR;
use crate::nginx::sys::ngx_int_t;
use crate::nginx::wait::QueueHandler;
use crate::nginx::watch::Whose;
use crate::nginx::zone::ZoneOwner;
use crate::nginx::{Error, Request};
use crate::peer::queue::ServersState;
use crate::peer::{checked, choose, health, idle, places, refused, release, wait};
use crate::pure::health::{Failure, Reading};
use crate::pure::overload::SHARED;
use crate::pure::pool::{Pool, Worker};
use crate::pure::stats;
use crate::pure::vars_limit::Cut;
use crate::pure::zone::{Generation, Rung, Zone};
use crate::request::{body as request_body, encode, target};
use crate::response::{body, head};
use crate::state::RequestState;
use crate::status::answer::Answer;
use crate::status::{answer, count};
use crate::{variables, version};

impl Module for Uwsgi {
    type Location = LocConf;
    type Block = Settings;
    type Servers = ServersState;
    type State<'a> = RequestState<'a>;
    type Probed = Rc<checked::Server>;

    #[cfg(feature = "faults")]
    fn begin_step(r: Request<'_>, step: &'static str) {
        crate::faults::begin_step(r, step);
    }
}

impl ModuleConf for Uwsgi {
    const VERSION: &'static str = version::VERSION;

    fn unset_location() -> LocConf {
        LocConf::unset()
    }

    fn unset_block() -> Settings {
        Settings::unset()
    }

    fn shared(location: &mut LocConf) -> &mut Settings {
        &mut location.connections
    }

    fn begin(cf: Conf<'_>) -> Result<(), conf::Error> {
        variables::add(cf)
    }

    fn heard(cf: Conf<'_>, location: &mut LocConf, whose: Whose) {
        location.heard.hear(cf, whose);
    }

    fn merge(cf: Conf<'_>, outer: &mut LocConf, own: &mut LocConf) -> Result<(), conf::Error> {
        merge::merge(cf, outer, own)
    }

    fn finish(cf: Conf<'_>) -> Result<(), conf::Error> {
        let (mut servers, idle) = (0, Worker::new());
        let shows_in_flight = variables::shows_in_flight(cf);
        connections::merge_users(cf, |block, settings, keyed_by| {
            servers += block.server_count();
            let idle = Pool::new(&idle, block.id());
            let state =
                ServersState { shows_in_flight, ..ServersState::new(settings, keyed_by, idle) };
            cf.hook::<Uwsgi>(block, state);
        })?;
        let others = status::finish(cf, servers)?;
        cf.add_zone::<Uwsgi>(servers, others, stats::COUNTERS, SHARED)
    }
}

impl RequestHandler for Uwsgi {
    #[inline(always)]
    fn content(r: Request<'_>) -> Content {
        if target::create_upstream(r).is_err() {
            return Content::Ended(INTERNAL_SERVER_ERROR);
        }
        match if r.has_body() { choose::check_body(r) } else { Ok(()) } {
            Ok(()) => request_body::read(r),
            Err(status) => Content::Ended(status),
        }
    }

    #[inline(always)]
    fn body_ready(r: Request<'_>) -> Next {
        let Some(state) = RequestState::of(r) else {
            return Next::Finalize(INTERNAL_SERVER_ERROR);
        };
        // a subrequest has the body of its main request
        let length = state.body_length(r);
        let checked = if length > 0 { choose::check_body(r) } else { request_body::check(r) };
        let ready = match checked {
            Ok(()) => encode::prepare(r, state, length),
            failed => failed,
        };
        match ready {
            Ok(()) => Next::StartUpstream,
            Err(status) => Next::Finalize(status),
        }
    }

    #[cfg(ngx_feature = "http_cache")]
    fn create_key(r: Request<'_>) -> Result<(), Error> {
        crate::request::cache_key::create(r)
    }

    fn create_request(r: Request<'_>) -> Result<(), Error> {
        encode::create(r)
    }

    fn reinit_request(r: Request<'_>) -> Result<(), Error> {
        head::restart(r);
        Ok(())
    }

    fn process_header(r: Request<'_>) -> Result<(), Error> {
        head::process(r)
    }

    fn input_filter_init(r: Request<'_>) -> Result<(), Error> {
        body::start(r)
    }

    fn connection_cut(r: Request<'_>, cut: Cut) -> bool {
        refused::is_refused_by_cut(r, cut)
    }

    fn answer_cut(r: Request<'_>) -> Next {
        refused::answer(r)
    }

    fn abort_request(r: Request<'_>) {
        debug!(r.log(), "abort http rs_uwsgi request");
    }

    fn finalize_request(r: Request<'_>, rc: ngx_int_t) {
        release::note_end(r, rc);
        debug!(r.log(), "finalize http rs_uwsgi request: {rc}");
    }
}

impl PeerHandler for Uwsgi {
    fn begin_try<'a>(r: Request<'a>, state: &'a State<'a>) -> Result<(), Error> {
        state.begin_try(r)
    }

    fn choice(peer: Peer<'_>) -> Choice {
        health::choice(peer)
    }

    fn choose_connection<'a>(r: Request<'a>, peer: Peer<'a>, if_full: IfFull) -> Chosen {
        choose::choose(r, peer, if_full)
    }

    fn release_connection<'a>(r: Request<'a>, peer: Peer<'a>, outcome: Outcome) -> Outcome {
        release::release(r, peer, outcome)
    }

    fn end_try(peer: Peer<'_>) {
        release::end_try(peer);
    }
}

impl QueueHandler for Uwsgi {
    fn on_connect_event(r: Request<'_>) {
        wait::on_connect_event(r);
    }

    fn on_slow_connect(r: Request<'_>) {
        wait::on_slow_connect(r);
    }

    fn on_queue_timeout(r: Request<'_>) -> Next {
        wait::on_queue_timeout(r)
    }

    fn wake(servers: &Servers) {
        wait::wake(servers);
    }
}

impl Prober for Uwsgi {
    fn probed(servers: &Servers, now: Vec<Current>) -> Vec<Probed> {
        health::probed(servers, now)
    }

    fn probe_turn(servers: &Servers, server: &Self::Probed) -> Turn {
        health::turn(servers, server)
    }

    fn probe_tls(servers: &Servers) -> Option<&TlsClient> {
        health::tls(servers)
    }

    fn probe_packet(servers: &Servers) -> &[u8] {
        health::packet(servers)
    }

    fn reads_on(servers: &Servers) -> bool {
        health::reads_on(servers)
    }

    fn read_probe(servers: &Servers, bytes: &[u8], ended: bool) -> Reading {
        health::read(servers, bytes, ended)
    }

    fn probe_ended(
        servers: &Servers,
        server: &Self::Probed,
        result: Result<Well, Failure>,
    ) -> usize {
        health::ended(servers, server, result)
    }

    fn leave_probes(servers: &Servers) {
        health::leave(servers);
    }
}

impl ServersOwner for Uwsgi {
    fn close_gone(servers: &Servers) {
        health::close_gone(servers);
    }
}

impl ChunkDecoder for Uwsgi {
    fn decode_chunks(
        r: Request<'_>,
        bytes: &[u8],
        data: &mut dyn FnMut(Range<usize>) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        body::decode(r, bytes, data)
    }
}

impl IdleOwner for Uwsgi {
    fn patience(servers: &Servers, descriptor: i32) -> Option<usize> {
        idle::patience(servers, descriptor)
    }

    fn connection_lost(servers: &Servers, descriptor: i32, why: Lost) {
        idle::lose(servers, descriptor, why);
    }
}

impl AnswerHandler for Uwsgi {
    type Answer = Answer;

    fn begin_answer(r: Request<'_>) -> Result<(AnswerHead, Answer), ngx_int_t> {
        answer::begin(r)
    }

    fn next_part(answer: &mut Answer, part: &mut Vec<u8>, most: usize) -> bool {
        answer::next_part(answer, part, most)
    }

    fn log_request(r: Request<'_>) {
        count::log_request(r);
    }
}

impl ZoneOwner for Uwsgi {
    fn keep_slots(servers: &Servers, zone: &Zone<'_>, generation: Generation) {
        places::keep_slots(servers, zone, generation);
    }

    fn on_ring(servers: &Servers, rung: Rung) {
        wait::on_ring(servers, rung);
    }
}
