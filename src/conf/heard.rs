//! What was written in a block: directives of stock's that have no effect on `rs_uwsgi_pass`, because they
//! were left behind when a site was migrated. nginx takes them without a word.

use std::cell::Cell;
use std::rc::Rc;

use super::modifiers::Modifier;
use super::LocConf;
use crate::nginx::conf::{Conf, ConfPosition};
use crate::nginx::watch::Whose;

/// The directives that a block holds, as far as they matter here.
#[derive(Default)]
pub struct Heard {
    /// This module's, without "rs_", with the name of what they set where one may be there several times.
    own: Vec<Box<str>>,
    /// Where `rs_uwsgi_pass` stands.
    pass: Option<ConfPosition>,
    /// Where `uwsgi_pass` stands.
    stock_pass: Option<ConfPosition>,
    /// Stock's.
    stock: Vec<Rc<Left>>,
}

/// A directive of stock's.
struct Left {
    /// What it sets, as in [`Heard::own`].
    what: Box<str>,
    position: ConfPosition,
    /// Has the log told of it, or of one like it in the same file?
    is_told: Cell<bool>,
}

/// Directives that may stand in a block several times, each for something else.
const MANY: [&str; 4] =
    ["uwsgi_param", "uwsgi_pass_header", "uwsgi_hide_header", "uwsgi_ssl_conf_command"];

/// Nothing for a location: the names of these say where something is, for all of nginx.
const ELSEWHERE: [&str; 2] = ["uwsgi_cache_path", "uwsgi_temp_path"];

impl Heard {
    /// A directive is about to be set.
    pub fn hear(&mut self, cf: Conf<'_>, whose: Whose) {
        let name = String::from_utf8_lossy(cf.arg(0));
        let name = name.strip_prefix("rs_").unwrap_or(&name);
        let what = match MANY.contains(&name) {
            true => format!("{name} {}", String::from_utf8_lossy(cf.arg(1))),
            false => name.to_string(),
        };
        match (name, whose) {
            ("uwsgi_pass", Whose::Own) => self.pass = Some(cf.position()),
            ("uwsgi_pass", Whose::Stock) => self.stock_pass = Some(cf.position()),
            (_, Whose::Own) => self.own.push(what.into()),
            _ if ELSEWHERE.contains(&name) => {}
            _ => self.stock.push(Rc::new(Left {
                what: what.into(),
                position: cf.position(),
                is_told: Cell::new(false),
            })),
        }
    }

    /// Adds what is in effect of the block around.
    pub fn inherit(&mut self, outer: &Heard) {
        // parameters are inherited all together or not at all
        let has_params = self.stock.iter().any(|left| left.is_param());
        let is_hidden = |left: &Left| {
            left.is_param() && has_params || self.stock.iter().any(|own| own.what == left.what)
        };
        let inherited: Vec<_> = outer
            .stock
            .iter()
            .filter(|left| !outer.own.contains(&left.what) && !is_hidden(left))
            .map(Rc::clone)
            .collect();
        self.stock.extend(inherited);
        // a twin that is there around speaks for what is there around, and for no other
        self.stock.retain(|left| !self.own.contains(&left.what));
    }
}

impl Left {
    fn is_param(&self) -> bool {
        self.what.starts_with("uwsgi_param ")
    }

    /// The name alone.
    fn name(&self) -> &str {
        self.what.split(' ').next().unwrap_or_default()
    }
}

/// Says what has no effect on the location's `rs_uwsgi_pass`, once for each kind and file.
pub fn warn(cf: Conf<'_>, own: &LocConf) {
    let heard = &own.heard;
    let Some(pass) = &heard.pass else { return };
    if let Some(stock) = &heard.stock_pass {
        cf.log().warn(format_args!(
            "\"uwsgi_pass\" in {}:{} and \"rs_uwsgi_pass\" in {}:{} are in one location, the last one counts",
            stock.file, stock.line, pass.file, pass.line
        ));
    }
    for left in &heard.stock {
        let is_sent = left.what.strip_prefix("uwsgi_param ").is_some_and(|name| {
            own.params.as_ref().is_some_and(|params| params.has(name.as_bytes()))
        });
        if is_sent || left.is_told.get() {
            continue;
        }
        for other in &heard.stock {
            if other.name() == left.name() && other.position.file == left.position.file {
                other.is_told.set(true);
            }
        }
        cf.log().warn(format_args!(
            "\"{}\" in {}:{} has no effect on \"rs_uwsgi_pass\" in {}:{}, \"rs_{}\" has",
            left.what,
            left.position.file,
            left.position.line,
            pass.file,
            pass.line,
            left.name()
        ));
    }
    let is_python =
        own.string().is_empty() && matches!(own.modifier1, None | Some(Modifier::Fixed(0)));
    let params = own.params.as_ref().filter(|_| is_python);
    if params.is_some_and(|params| !params.has(b"REQUEST_METHOD") && !params.is_told.replace(true))
    {
        cf.log().warn(format_args!(
            "no \"rs_uwsgi_param\" REQUEST_METHOD for \"rs_uwsgi_pass\" in {}:{}: the parameters of a block \
             replace all others, applications fail without the usual ones, include \"rs_uwsgi_params\"",
            pass.file, pass.line
        ));
    }
}
