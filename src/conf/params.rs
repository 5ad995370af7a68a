//! `rs_uwsgi_param` and `rs_uwsgi_drop_headers`: what is sent about a request, compiled once to what
//! the encoder ([`crate::request::encode`]) runs for each.
//!
//! Mirrors `ngx_http_uwsgi_init_params` of nginx's src/http/modules/ngx_http_uwsgi_module.c.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;

use crate::nginx::conf::{parse_size, Conf, Error, A_SIZE};
use crate::nginx::log::Printable;
use crate::nginx::merge::Unset;
use crate::nginx::value::{ComplexValue, Variable};
use crate::pure::health::request;
use crate::pure::uwsgi::header_set::HeaderSet;
use crate::pure::uwsgi::names::{self, STANDARD_PARAMS};
use crate::pure::uwsgi::packet::{VarName, MAX_VARS};

/// A `rs_uwsgi_param` line.
#[derive(Debug)]
pub struct ParamSource {
    name: Box<[u8]>,
    value: Box<[u8]>,
    if_not_empty: bool,
}

/// The `rs_uwsgi_param` lines of a block, shared by all blocks that inherit them.
pub struct ParamSet {
    source: Vec<ParamSource>,
    /// Has the log told of what is missing in it?
    pub is_told: Cell<bool>,
    /// The standard set is compiled at the first location that needs it, so that its variables cost
    /// nothing where the module is loaded and not used.
    compiled: OnceCell<Rc<CompiledParams>>,
    /// The same, with what a cache must not pass on replaced.
    #[cfg(ngx_feature = "http_cache")]
    compiled_for_cache: OnceCell<Rc<CompiledParams>>,
}

/// Parameters, compiled.
pub struct CompiledParams {
    /// In the order of the configuration.
    pub params: Vec<Param>,
    /// The request headers that parameters named `HTTP_…` replace.
    replaced: Vec<Box<[u8]>>,
}

/// A parameter, compiled.
pub struct Param {
    /// The var's name.
    pub name: VarName,
    /// The variable that is its value; [`Variable::none`] for others. Beside them, so that one look at it
    /// says where the value comes from.
    pub variable: Variable,
    /// Where its value comes from otherwise.
    pub value: Value,
    /// Leave the var out where its value is empty.
    pub if_not_empty: bool,
    /// Parameters that are more than their configured value.
    pub role: Role,
    /// Is it written as it is, whatever its value?
    pub is_plain: bool,
}

/// The value of a parameter.
pub enum Value {
    /// No variables in it.
    Text(Box<[u8]>),
    /// One variable and nothing else.
    Variable,
    /// Anything else: variables among text, captures of a regular expression.
    Script(ComplexValue),
}

/// The vars whose value has a rule of its own (see [`crate::request::encode`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sent as configured.
    Plain,
    /// The length of the body that follows.
    ContentLength,
    /// Under `rs_uwsgi_mount`, the mount.
    ScriptName,
    /// Under `rs_uwsgi_mount`, the path below the mount.
    PathInfo,
}

/// The directive `rs_uwsgi_param NAME VALUE [if_not_empty] [unsafe]`.
///
/// # Errors
///
/// An unknown word; a value with variables for a var that makes the server run what it names.
pub fn add(cf: Conf<'_>, own: &mut Vec<ParamSource>) -> Result<(), Error> {
    let (name, value) = (cf.arg(1), cf.arg(2));
    let (mut if_not_empty, mut vouched_for) = (false, false);
    for word in cf.words().skip(3) {
        match word {
            b"if_not_empty" if !if_not_empty => if_not_empty = true,
            b"unsafe" if !vouched_for => vouched_for = true,
            _ => {
                return Err(cf.error(format_args!(
                "invalid parameter \"{}\", it must be \"if_not_empty\" or \"unsafe\", each once",
                Printable(word)
            )))
            }
        }
    }
    if name.len() > usize::from(u16::MAX) {
        return Err(
            cf.error(format_args!("too long \"rs_uwsgi_param\" name of {} bytes", name.len()))
        );
    }
    if !vouched_for && names::is_dangerous_var(name) && cf.variables_in(value) > 0 {
        return Err(cf.error(format_args!(
            "variable in the value \"{}\" of \"rs_uwsgi_param\" \"{}\": whoever chooses this value \
             makes the server run code, add the parameter \"unsafe\" if no client can",
            Printable(value),
            Printable(name),
        )));
    }
    own.push(ParamSource { name: name.into(), value: value.into(), if_not_empty });
    Ok(())
}

/// The directive `rs_uwsgi_max_vars SIZE`.
///
/// # Errors
///
/// No size, or one that is more than a packet can have; a second directive in the same block.
pub fn set_max_vars(cf: Conf<'_>, max_vars: &mut usize) -> Result<(), Error> {
    if *max_vars != Unset::UNSET {
        return Err(Error::Directive("is duplicate".into()));
    }
    let size = parse_size(cf.arg(1)).ok_or_else(|| {
        let value = Printable(cf.arg(1));
        Error::Directive(format!("invalid value \"{value}\", {A_SIZE}").into())
    })?;
    if size > MAX_VARS {
        return Err(cf.error(format_args!(
            "\"rs_uwsgi_max_vars\" {size} is greater than {MAX_VARS}, the most that the protocol allows"
        )));
    }
    *max_vars = size;
    Ok(())
}

/// The directive `rs_uwsgi_drop_headers NAME … | off`.
///
/// # Errors
///
/// "off" among names, or a second directive in the same block.
pub fn set_drop_headers(
    cf: Conf<'_>,
    drop_headers: &mut Option<Rc<HeaderSet>>,
) -> Result<(), Error> {
    if drop_headers.is_some() {
        return Err(Error::Directive("is duplicate".into()));
    }
    let mut set = HeaderSet::new();
    let mut words = cf.words().skip(1);
    if words.clone().eq([b"off".as_slice()]) {
        words.next();
    }
    for word in words {
        if word == b"off" || word.is_empty() {
            return Err(cf.error(format_args!(
                "invalid value \"{}\" in \"rs_uwsgi_drop_headers\" directive, it must be \"off\" \
                 alone or names of headers",
                Printable(word)
            )));
        }
        set.insert(word);
    }
    *drop_headers = Some(Rc::new(set));
    Ok(())
}

impl ParamSource {
    fn new(name: &str, value: &str, if_not_empty: bool) -> Self {
        ParamSource { name: name.as_bytes().into(), value: value.as_bytes().into(), if_not_empty }
    }
}

fn compile_once(
    place: &OnceCell<Rc<CompiledParams>>,
    compile: impl FnOnce() -> Result<CompiledParams, Error>,
) -> Result<Rc<CompiledParams>, Error> {
    if let Some(vars) = place.get() {
        return Ok(Rc::clone(vars));
    }
    let vars = Rc::new(compile()?);
    Ok(Rc::clone(place.get_or_init(|| vars)))
}

impl ParamSet {
    /// The parameters of a block.
    pub fn new(source: Vec<ParamSource>) -> Self {
        ParamSet {
            source,
            is_told: Cell::default(),
            compiled: OnceCell::new(),
            #[cfg(ngx_feature = "http_cache")]
            compiled_for_cache: OnceCell::new(),
        }
    }

    /// The standard parameters, for configurations without any.
    pub fn standard() -> Self {
        let source = STANDARD_PARAMS.iter();
        ParamSet::new(
            source.map(|(name, value, skip)| ParamSource::new(name, value, *skip)).collect(),
        )
    }

    /// The parameters as they are written.
    pub fn source(&self) -> impl Iterator<Item = request::Param<'_>> {
        self.source.iter().map(|ParamSource { name, value, if_not_empty }| request::Param {
            name,
            value,
            if_not_empty: *if_not_empty,
        })
    }

    /// Is there one with this name?
    pub fn has(&self, name: &[u8]) -> bool {
        self.source.iter().any(|param| *param.name == *name)
    }

    /// The parameters, compiled.
    ///
    /// # Errors
    ///
    /// An invalid variable name.
    pub fn compiled(&self, cf: Conf<'_>) -> Result<Rc<CompiledParams>, Error> {
        compile_once(&self.compiled, || CompiledParams::compile(cf, self.source.iter()))
    }

    /// The parameters for requests whose response is to be cached, compiled.
    ///
    /// # Errors
    ///
    /// An invalid variable name.
    #[cfg(ngx_feature = "http_cache")]
    pub fn compiled_for_cache(&self, cf: Conf<'_>) -> Result<Rc<CompiledParams>, Error> {
        compile_once(&self.compiled_for_cache, || {
            let own = |name: &str| {
                self.source.iter().any(|param| param.name.eq_ignore_ascii_case(name.as_bytes()))
            };
            let added: Vec<_> = super::cache::CACHE_PARAMS
                .iter()
                .filter(|(name, _)| !own(name))
                .map(|(name, value)| ParamSource::new(name, value, true))
                .collect();
            CompiledParams::compile(cf, self.source.iter().chain(&added))
        })
    }
}

impl CompiledParams {
    fn compile<'a>(
        cf: Conf<'_>,
        source: impl Iterator<Item = &'a ParamSource>,
    ) -> Result<CompiledParams, Error> {
        let mut vars = CompiledParams { params: Vec::new(), replaced: Vec::new() };
        for ParamSource { name, value, if_not_empty } in source {
            if let Some(header @ [_, ..]) = name.strip_prefix(b"HTTP_") {
                vars.replaced.push(header.into());
                // an empty value means: not at all
                if value.is_empty() {
                    continue;
                }
            }
            let (if_not_empty, role) = (*if_not_empty, Role::of(name));
            let (variable, value) = compile(cf, value)?;
            vars.params.push(Param {
                name: VarName::new(name),
                variable,
                value,
                if_not_empty,
                role,
                is_plain: role == Role::Plain && !if_not_empty,
            });
        }
        Ok(vars)
    }
}

fn compile(cf: Conf<'_>, value: &[u8]) -> Result<(Variable, Value), Error> {
    if cf.variables_in(value) == 0 {
        return Ok((Variable::none(), Value::Text(value.into())));
    }
    match single_variable(value) {
        Some(name) => Ok((Variable::of_name(cf, name)?, Value::Variable)),
        None => Ok((Variable::none(), Value::Script(ComplexValue::compile(cf, value)?))),
    }
}

impl Role {
    fn of(name: &[u8]) -> Role {
        match name {
            b"CONTENT_LENGTH" => Role::ContentLength,
            b"SCRIPT_NAME" => Role::ScriptName,
            b"PATH_INFO" => Role::PathInfo,
            _ => Role::Plain,
        }
    }
}

/// The name in "$name" or "${name}", where that is the whole value. Not captures, "$1".
fn single_variable(value: &[u8]) -> Option<&[u8]> {
    let name = value.strip_prefix(b"$")?;
    let name = match name.strip_prefix(b"{") {
        Some(name) => name.strip_suffix(b"}")?,
        None => name,
    };
    let plain = name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    (plain && name.first().is_some_and(|first| !first.is_ascii_digit())).then_some(name)
}

/// The request headers that are not sent as they are.
pub struct HeaderFilter {
    ordinary: HeaderSet,
    upgrade: HeaderSet,
}

impl HeaderFilter {
    /// Joins the headers that parameters replace with those to drop.
    pub fn new(vars: &CompiledParams, drop_headers: &HeaderSet) -> Self {
        let mut filter = HeaderFilter { ordinary: HeaderSet::new(), upgrade: HeaderSet::new() };
        let asks_for_upgrade: HeaderSet = names::UPGRADE_HEADERS.iter().collect();
        for name in drop_headers.iter() {
            filter.ordinary.insert(name);
            if !asks_for_upgrade.contains(name) {
                filter.upgrade.insert(name);
            }
        }
        for name in &vars.replaced {
            filter.ordinary.insert(name);
            filter.upgrade.insert(name);
        }
        // CONTENT_LENGTH alone tells of the body that follows: some servers believe the header first.
        filter.ordinary.insert(b"Content-Length");
        filter.upgrade.insert(b"Content-Length");
        filter
    }

    /// The headers not to send. A request for another protocol (WebSocket) keeps those that ask for
    /// it.
    pub fn dropped(&self, is_upgrade: bool) -> &HeaderSet {
        if is_upgrade {
            &self.upgrade
        } else {
            &self.ordinary
        }
    }
}
