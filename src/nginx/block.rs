//! The upstreams while the configuration is read, and what is configured of the connections to them.

use core::ptr::{self, NonNull};

use ngx::http::{HttpModuleMainConf, NgxHttpUpstreamModule};

use super::address::url_of;
use super::conf::Error;
use super::module::{context_index, Handler, Module};
use super::peer::address_of;
use super::servers::{choose_addresses, Servers};
use super::shake::TlsClient;
use super::sys::{
    ngx_http_conf_ctx_t, ngx_http_upstream_add, ngx_http_upstream_conf_t,
    ngx_http_upstream_server_t, ngx_http_upstream_srv_conf_t, NGX_HTTP_UPS_CONF,
};
use super::{bytes_of, slice_of, Conf};

/// An upstream while the configuration is read: an "upstream" block, or an address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Block(pub(super) NonNull<ngx_http_upstream_srv_conf_t>);

/// A location that passes to an upstream.
pub struct UpstreamRef<H: Module> {
    /// The upstream.
    pub upstream: Block,
    /// What the location says of connections.
    pub settings: H::Block,
    /// How it speaks TLS, if it does; the name of a directive whose value only a request has.
    pub tls: Result<Option<TlsClient>, &'static str>,
}

/// An address of a server.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The address: a unix socket's with its path, and no more.
    pub address: &'a [u8],
    /// Its name in the log.
    pub name: &'a [u8],
}

/// A server of an upstream, as it is configured.
#[derive(Clone, Copy, Debug)]
pub struct Configured<'a> {
    /// One of its addresses.
    pub address: &'a [u8],
    /// What `server` says.
    pub name: &'a [u8],
    /// Its weight.
    pub weight: usize,
    /// Is it asked only when others fail?
    pub is_backup: bool,
    /// Is it not asked?
    pub is_down: bool,
}

impl Block {
    /// nginx's pointer, for a location's configuration.
    pub fn as_ptr(self) -> *mut ngx_http_upstream_srv_conf_t {
        self.0.as_ptr()
    }

    /// The upstream that a location passes to; None where variables say it.
    pub fn of(conf: &ngx_http_upstream_conf_t) -> Option<Block> {
        NonNull::new(conf.upstream).map(Block)
    }

    /// A number that tells it from all others of the configuration.
    pub fn id(self) -> usize {
        self.0.addr().get()
    }

    /// The block's name, or the address.
    pub fn name<'a>(self) -> &'a [u8] {
        // SAFETY: upstreams live as long as the configuration, and are made before they are found.
        unsafe { bytes_of((*self.0.as_ptr()).host) }
    }

    /// The name that people are shown: as an address is written, where it is one.
    pub fn shown_name(self) -> Vec<u8> {
        let name = self.name();
        match self.port() {
            // nginx takes the scheme away, and no block has such a name
            0 if name.starts_with(b"/") => [&b"unix:"[..], name].concat(),
            0 => name.to_vec(),
            port => [name, &b":"[..], port.to_string().as_bytes()].concat(),
        }
    }

    /// The port in an address; 0 for a block and for a socket.
    pub fn port(self) -> u16 {
        // SAFETY: upstreams live as long as the configuration, and are made before they are found.
        unsafe { (*self.0.as_ptr()).port }
    }

    /// How many addresses its servers have, as far as they are known: one at least.
    pub fn server_count(self) -> usize {
        self.servers().iter().map(|server| server.naddrs.max(1)).sum::<usize>().max(1)
    }

    /// Its servers, as far as they are known.
    fn servers<'a>(self) -> &'a [ngx_http_upstream_server_t] {
        // SAFETY: upstreams live as long as the configuration; null, or an array of servers.
        unsafe {
            (*self.0.as_ptr()).servers.as_ref().map_or(&[], |servers| {
                slice_of(servers.elts.cast::<ngx_http_upstream_server_t>(), servers.nelts)
            })
        }
    }

    /// The addresses that requests may go to, as far as the configuration has them: not those of servers that
    /// are marked "down", nor of names that nginx looks up later.
    pub fn targets<'a>(self) -> impl Iterator<Item = Target<'a>> {
        self.servers().iter().filter(|server| server.down == 0).flat_map(|server| {
            // SAFETY: a server has an array of addresses, which live as long as the configuration.
            let addresses = unsafe { slice_of(server.addrs, server.naddrs) };
            addresses.iter().map(|address| Target {
                address: address_of(address.sockaddr, address.socklen as usize),
                // SAFETY: as above; names are strings of the configuration.
                name: unsafe { bytes_of(address.name) },
            })
        })
    }

    /// The addresses of its servers, as nginx's log has them, as far as they are known.
    pub fn addresses<'a>(self) -> impl Iterator<Item = &'a [u8]> {
        self.configured().map(|server| server.address)
    }

    /// What is configured of its servers, as far as their addresses are known.
    pub fn configured<'a>(self) -> impl Iterator<Item = Configured<'a>> {
        self.servers().iter().flat_map(|server| {
            // SAFETY: a server has an array of addresses, which live as long as the configuration.
            let addresses = unsafe { slice_of(server.addrs, server.naddrs) };
            addresses.iter().map(move |address| Configured {
                // SAFETY: as above; names are strings of the configuration.
                address: unsafe { bytes_of(address.name) },
                // SAFETY: as above.
                name: unsafe { bytes_of(server.name) },
                weight: server.weight,
                // SAFETY: as above.
                is_backup: unsafe { flag!(ptr::from_ref(server).cast_mut(), backup) != 0 },
                is_down: server.down != 0,
            })
        })
    }

    /// What the block says of connections; None for an address.
    pub fn settings<'a, H: Module>(self) -> Option<&'a H::Block> {
        // SAFETY: as above. Where there are configurations, ours was made by
        // `module::create_srv_conf`, and nobody changes it after its block was read.
        unsafe {
            let conf = (*self.0.as_ptr()).srv_conf;
            if conf.is_null() {
                return None;
            }
            (*conf.add(context_index::<H>())).cast::<H::Block>().as_ref()
        }
    }
}

impl<'a> Conf<'a> {
    /// The servers behind an address or the name of an `upstream` block, which may be defined later.
    ///
    /// # Errors
    ///
    /// [`Error::Logged`], when the address is none.
    pub fn add_upstream(
        self,
        address: &'a [u8],
    ) -> Result<*mut ngx_http_upstream_srv_conf_t, Error> {
        let mut url = url_of(address);
        // SAFETY: parser and url are valid; the address lives as long as the configuration.
        let upstream = unsafe { ngx_http_upstream_add(self.as_ptr(), &raw mut url, 0) };
        if upstream.is_null() {
            return Err(Error::Logged);
        }
        Ok(upstream)
    }

    /// What the "upstream" block says that is being read; None outside of one.
    ///
    /// # Safety
    ///
    /// No other reference to it may be in use.
    pub(super) unsafe fn upstream_settings<H: Module>(self) -> Option<&'a mut H::Block> {
        if field!(self, cmd_type) as u32 != NGX_HTTP_UPS_CONF {
            return None;
        }
        let context = field!(self, ctx).cast::<ngx_http_conf_ctx_t>();
        // SAFETY: in the "http" block the context has a configuration for each module, ours made by
        // `module::create_srv_conf`; the caller promises the rest.
        unsafe { (*(*context).srv_conf.add(context_index::<H>())).cast::<H::Block>().as_mut() }
    }

    /// Notes a location that passes to an upstream.
    pub fn add_upstream_ref<H: Module>(self, upstream: UpstreamRef<H>) {
        self.with_main_conf::<H, _>(|main| main.upstream_refs.push(upstream));
    }

    /// The locations that were noted.
    pub fn take_upstream_refs<H: Module>(self) -> Vec<UpstreamRef<H>> {
        self.with_main_conf::<H, _>(|main| core::mem::take(&mut main.upstream_refs))
    }

    /// All upstreams: blocks, and addresses that some `…_pass` names.
    pub fn upstreams<H: Module>(self) -> Vec<Block> {
        // SAFETY: the parser is valid, and the upstream module's configuration holds an array of
        // pointers to upstreams.
        unsafe {
            let Some(main) = NgxHttpUpstreamModule::main_conf(self.ptr.as_ref()) else {
                return Vec::new();
            };
            let upstreams = &main.upstreams;
            slice_of(upstreams.elts.cast::<*mut ngx_http_upstream_srv_conf_t>(), upstreams.nelts)
                .iter()
                .filter_map(|upstream| NonNull::new(*upstream).map(Block))
                .chain(self.with_main_conf::<H, _>(|main| main.upstream_of_addresses))
                .collect()
        }
    }

    /// The upstream of all locations whose address variables say at run time. nginx knows nothing of
    /// it: it is in none of its lists.
    pub fn upstream_of_addresses<H: Module>(self) -> Result<Block, Error> {
        if let Some(block) = self.with_main_conf::<H, _>(|main| main.upstream_of_addresses) {
            return Ok(block);
        }
        // SAFETY: a structure of numbers and pointers, all of which may be zero.
        let upstream: ngx_http_upstream_srv_conf_t = unsafe { core::mem::zeroed() };
        let block = Block(self.pool().place(upstream).map_err(|_| Error::Logged)?);
        choose_addresses::<H>(block);
        self.with_main_conf::<H, _>(|main| main.upstream_of_addresses = Some(block));
        Ok(block)
    }

    /// Does some location pass to where variables say?
    pub fn has_variable_addresses<H: Module>(self) -> bool {
        self.with_main_conf::<H, _>(|main| main.upstream_of_addresses.is_some())
    }

    /// Wraps an upstream's choice of servers, so that requests handled by `H` may use connections
    /// again.
    pub fn hook<H: Handler>(self, block: Block, own: H::Servers) {
        let servers = Servers::<H>::hook(block, own);
        self.with_main_conf::<H, _>(|main| {
            let place = main.upstreams.partition_point(|other| other.address() < block.0);
            main.upstreams.insert(place, Box::new(servers));
        });
    }
}
