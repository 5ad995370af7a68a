# The two commands: `make demo` shows the module at work, `make test` proves it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

# The nginx to build for and to test with: "installed"; "vendored", the one in the crate nginx-src;
# "sanitize", the same with the checks of the sanitizers; "debian-trixie" and the like, that of another
# Debian; or any source tree that is configured, with NGINX_BUILD_DIR where that is not its folder objs.
ifdef NGINX_SOURCE_DIR
NGINX := source
NGINX_BUILD_DIR ?= $(NGINX_SOURCE_DIR)/objs
RS_UWSGI_NGINX ?= $(abspath $(NGINX_BUILD_DIR))/nginx
export RS_UWSGI_NGINX
endif
NGINX ?= installed
# An nginx takes this variable of its environment for sockets that it inherits.
unexport NGINX

ifeq ($(NGINX),installed)
MODULE := target/module/ngx_http_rs_uwsgi_module.so
else
MODULE := target/module/$(NGINX)/ngx_http_rs_uwsgi_module.so
RS_UWSGI_NGINX ?= $(CURDIR)/target/nginx/$(NGINX)/objs/nginx
export RS_UWSGI_NGINX
endif
export RS_UWSGI_MODULE := $(abspath $(MODULE))

# Prepared by scripts/prepare-nginx.
NGINX_TREE := target/nginx/$(NGINX)
# No path of this machine gets into the module, so that the same sources give the same file anywhere.
CARGO_HOME ?= $(HOME)/.cargo
REMAP = $(patsubst %,--remap-path-prefix=%,$(CURDIR)=. $(abspath $(NGINX_TREE))=nginx \
	$(addsuffix =crates,$(wildcard $(CARGO_HOME)/registry/src/*) $(CURDIR)/vendor) \
	$(shell rustc --print sysroot)=rust)
# Runs cargo with the variables by which nginx-sys finds it. Debuggers and -dbgsym packages find a
# module by its build ID.
WITH_NGINX = vars=$$(scripts/prepare-nginx $(NGINX) $(NGINX_TREE) $(NGINX_SOURCE_DIR) $(NGINX_BUILD_DIR)) \
	|| exit 1; env $$vars RUSTFLAGS="$${RUSTFLAGS:-} $(REMAP) -Clink-arg=-Wl,--build-id=sha1$(SANITIZE)"
CARGO_OUT := $(NGINX_TREE)/cargo/release
# The module with the checks of Rust's AddressSanitizer, and those of overflows; the runtime that they
# call is in nginx, whose compiler's has the same interface (__asan_version_mismatch_check_v8, or
# the module does not load). A target by name keeps all of it away from build scripts.
ifeq ($(NGINX),sanitize)
SANITIZE_TARGET := $(shell rustc -vV | sed -n 's/^host: //p')
SANITIZE := $(EMPTY) -Zsanitizer=address
WITH_NGINX += RUSTC_BOOTSTRAP=1 CARGO_BUILD_TARGET=$(SANITIZE_TARGET) \
	CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true
CARGO_OUT := $(NGINX_TREE)/cargo/$(SANITIZE_TARGET)/release
endif
# Who brings a source tree brings what it needs.
PACKAGES := $(if $(filter source,$(NGINX)),,packages)

# What the tests need beside the module: tests/probe.
PROBE := $(dir $(MODULE))ngx_probe_module.so

.PHONY: help rust packages test-packages module probe faults demo demo-check test lint test-pure test-module test-page test-sanitize \
	test-http3 test-valgrind test-layout test-untested versions soak fuzz parity bench bench-overload bench-health profile check-reproducible test-source docs \
	docs-site test-docs-site deb \
	test-deb test-newcomer rpm clean

help:
	@echo 'make demo         build the module and show a Django and Flask site behind it'
	@echo 'make demo-check   the same unattended: request every page, fail where an answer is wrong'
	@echo 'make test         everything: lint, test-pure, test-module, test-page, demo-check'
	@echo 'make module       build $(MODULE) for the installed nginx'
	@echo 'make lint         rustfmt, clippy and, where it is installed, cargo-deny'
	@echo 'make test-pure    the parts that need no nginx'
	@echo 'make fuzz         the same parts under libFuzzer, TIME seconds in all (60)'
	@echo 'make test-module  the module in nginx, against real and scripted uwsgi servers'
	@echo '                  ONLY=name: the tests with this in their names; see tests/README.md'
	@echo 'make test-page    the status page and the demo in Chromium; 2 minutes'
	@echo 'make test-sanitize  test-module under AddressSanitizer and UBSan (TESTS=FILTER: some of it)'
	@echo 'make test-valgrind  20 tests of test-module, or TESTS=FILTER, in valgrind; any NGINX'
	@echo 'make test-http3   HTTP/3 in front, compared with uwsgi_pass: nginx 1.28.3 with it, aioquic from PyPI; 2 min'
	@echo 'make soak         random traffic with aborts, kills and reloads: TIME=60 or 10m, and some 1 min more'
	@echo 'make test-layout  build the module for each nginx that can be had, which checks its structures'
	@echo 'make test-untested  what a build says of an nginx that is too old or that nobody has tested; 3 minutes'
	@echo 'make versions     the tests with each of them, into docs/; 3 minutes each (TREES="NAME=FOLDER …")'
	@echo 'make parity       write docs/parity.md anew, the part of this nginx'
	@echo 'make bench        compare speed with uwsgi_pass and proxy_pass (BENCH=quick: the short way)'
	@echo '                  BENCH=costs: large bodies, memory, many headers; README=write: into the README'
	@echo 'make bench-overload  what becomes of more requests than can be served: bursts (PART=bursts, 5 min), and clients'
	@echo '                  who arrive at a rate and leave (PART=open, 30 min; PART=open-quick), with HAProxy'
	@echo 'make bench-health  how soon it is known that a server is not well, and what fails until then'
	@echo 'make profile      where the instructions of a request go, by function'
	@echo 'make deb          packages for Debian, in target/deb/packages (DIST=trixie: for that Debian)'
	@echo 'make rpm          packages for Fedora and nginx.org, in target/rpm'
	@echo 'make test-deb     the Debian package in a clean Debian: install, upgrade, purge; 4 minutes'
	@echo 'make test-newcomer  one who comes from uwsgi_pass, in a clean Debian: migrate, break in twelve ways, mend, go back;'
	@echo '                  4 minutes, 8 the first time; needs root'
	@echo 'make test-source  nginx built from its sources with the module; 3 minutes'
	@echo 'make check-reproducible  two builds of the commit give the same module; 1 minute'
	@echo 'make docs         write debian/copyright anew'
	@echo 'make docs-site    the documentation as a site with a search, in target/docs-site/html; its links are checked'
	@echo 'make test-docs-site  the same, opened in Chromium; 1 minute, and some to build mdbook the first time'
	@echo 'make packages     install the Debian packages that the module and the demo need; tests say what they need besides'
	@echo 'make clean        remove target/'
	@echo
	@echo 'NGINX=vendored    with any of these: nginx 1.28.3 in place of the installed one'
	@echo 'NGINX=debian-trixie  the same: the nginx of another Debian (debian-sid …)'
	@echo 'NGINX_SOURCE_DIR=… [NGINX_BUILD_DIR=…]  the same: a source tree that is configured'

# Says what it installs; silent where nothing is missing.
packages:
	@scripts/install-packages

# Before packages are installed that are of no use without it.
rust:
	@scripts/rust-version here

module: rust $(PACKAGES)
	+@$(WITH_NGINX) cargo build --release --lib --locked --target-dir $(NGINX_TREE)/cargo
	@mkdir -p $(dir $(MODULE))
	@cp $(CARGO_OUT)/libngx_http_rs_uwsgi_module.so $(MODULE).new
	@mv $(MODULE).new $(MODULE)
	@echo 'built $(MODULE)'

# Beside those of the module: a service among them, and modules that nginx loads.
test-packages:
	@scripts/install-packages --list scripts/packages-test

probe: rust $(PACKAGES) $(PACKAGES:packages=test-packages)
	@$(WITH_NGINX) cargo build --release -p ngx_probe_module --locked --target-dir $(NGINX_TREE)/cargo
	@mkdir -p $(dir $(PROBE))
	@cp $(CARGO_OUT)/libngx_probe_module.so $(PROBE).new
	@mv $(PROBE).new $(PROBE)

demo: module
	@examples/demo

demo-check: module
	@examples/demo --check

test: lint test-pure test-module test-page demo-check

lint: module
	cargo fmt --all --check
	$(WITH_NGINX) cargo clippy --release --lib --workspace --locked --target-dir $(NGINX_TREE)/cargo -- -D warnings
	cargo clippy --no-default-features --all-targets --locked -- -D warnings
	scripts/directives check
	scripts/messages check
	scripts/rooms check
	scripts/rust-version
	if cargo deny --version >/dev/null 2>&1; then cargo deny --offline check bans licenses sources; fi

test-pure:
	cargo test --no-default-features --locked --lib --test pure

# Needs a C++ compiler beside Rust. Not part of make test, which runs what was found again.
TIME ?= 60
fuzz:
	@scripts/fuzz $(TIME)

# The module with steps that fail when a test asks for it: src/faults.rs.
FAULTS := $(dir $(MODULE))ngx_http_rs_uwsgi_module_with_faults.so

faults: module
	@$(WITH_NGINX) cargo build --release --lib --features faults --locked --target-dir $(NGINX_TREE)/cargo-faults
	@cp $(subst /cargo/,/cargo-faults/,$(CARGO_OUT))/libngx_http_rs_uwsgi_module.so $(FAULTS).new
	@mv $(FAULTS).new $(FAULTS)

# ONLY: names of tests, or parts of them, in place of all. Most tests wait for nginx and servers and
# compute little, so that there are more threads than processors.
ONLY ?=
MODULE_TESTS := cargo test --no-default-features --locked --test module --
TEST_THREADS ?= $(shell expr 4 '*' $$(nproc))

test-module: module probe faults
	$(if $(ONLY),@$(MODULE_TESTS) --list $(ONLY) 2>/dev/null | grep ': test$$' >/dev/null \
		|| { echo 'make: no name of a test contains: $(ONLY)' >&2; exit 1; })
	RUST_TEST_THREADS=$(TEST_THREADS) $(MODULE_TESTS) $(ONLY) $(addprefix --skip ,$(SKIP))

# The status page in a real browser; pictures of it come into target/screenshots.
PAGE_TESTS = RUST_TEST_THREADS=$(shell expr 2 '*' $$(nproc)) cargo test --no-default-features --locked --test page --

test-page: module probe
	@scripts/install-packages --list scripts/packages-page
	$(PAGE_TESTS) $(ONLY) --skip docs_site::

# The module's tests in an nginx that checks every access to memory, or some of them: TESTS=traffic::.
# A leak until the process ends is none: what belongs to a request is in its pool, what grows is found by
# `make soak`, and nginx itself ends without freeing everything.
TESTS ?=
# UBSan takes no options here: it reads them at its first report, when nginx has written its title over them.
SANITIZE_OPTIONS := ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:detect_stack_use_after_return=1

test-sanitize:
	@$(MAKE) --no-print-directory NGINX=sanitize module probe faults
	$(SANITIZE_OPTIONS) RS_UWSGI_MODULE=$(CURDIR)/target/module/sanitize/ngx_http_rs_uwsgi_module.so \
	RS_UWSGI_NGINX=$(CURDIR)/target/nginx/sanitize/objs/nginx \
	cargo test --no-default-features --locked --test module -- $(TESTS)

# HTTP/3 in front. Neither nginx nor curl of Debian 12 has it; its OpenSSL has no QUIC, so nginx brings its own
# beside it.
test-http3:
	@$(MAKE) --no-print-directory NGINX=http3 module probe
	RS_UWSGI_MODULE=$(CURDIR)/target/module/http3/ngx_http_rs_uwsgi_module.so \
	RS_UWSGI_NGINX=$(CURDIR)/target/nginx/http3/objs/nginx \
	cargo test --no-default-features --locked --test module -- --ignored $(or $(TESTS),oracle_http3::)

# A second opinion, which also finds what was never written: some quick tests of each kind in valgrind's
# memcheck, with the nginx that NGINX says.
VALGRIND_TESTS := behaviour::subrequests behaviour::body_limits_and_expect behaviour::head_with_a_body_from_the_server \
	behaviour::a_client_that_goes_away behaviour::reload_in_the_middle_of_a_request \
	behaviour::accel_redirect_to_a_file_and_back_to_the_application \
	ends::filters::failed_precondition ends::responses::bad_chunks ends::responses::cached \
	ends::responses::chunked ends::responses::early ends::responses::reset ends::responses::invalid_head \
	ends::responses::too_large_head ends::responses::unbuffered ends::responses::client_leaves_in_the_body \
	ends::connections::queue_is_full ends::connections::dead_connection ends::subrequests::included \
	ends::redirects::redirect_to_named
VALGRIND_NGINX = $(or $(RS_UWSGI_NGINX),/usr/sbin/nginx)

test-valgrind: module probe
	@scripts/install-packages --list scripts/packages-valgrind
	VALGRIND_NGINX=$(VALGRIND_NGINX) RS_UWSGI_NGINX=$(CURDIR)/scripts/nginx-in-valgrind \
	cargo test --no-default-features --locked --test module -- $(or $(TESTS),--exact $(VALGRIND_TESTS))

# Random traffic with faults for TIME (seconds, or 10m); SEED=N repeats one of before.
TIME ?= 60
SEED ?=

soak: module
	cargo test --no-default-features --locked --test soak -- $(TIME) $(SEED)

parity: module probe
	RS_UWSGI_PARITY=write cargo test --no-default-features --locked --test module table::page::

# Two builds of the commit, 1 min.
check-reproducible: $(PACKAGES)
	@scripts/check-reproducible

# The module with every nginx that can be had here, and with the source trees in TREES ("NAME=FOLDER …", built):
# into docs/versions.tsv and docs/parity.md. 3 minutes each.
TREES ?=
versions:
	@scripts/versions run $(TREES)
	@$(MAKE) --no-print-directory parity

# The module built for each of them, which checks where the members of nginx's structures are.
test-layout: packages
	@scripts/versions layout

# A build for an nginx that is older or newer than any that was tested says so, and ends where nginx's
# structures are not as the module expects them.
test-untested: packages
	@scripts/versions untested

# From what the crates say of their licences. make deb fails where it is old.
docs:
	scripts/crates copyright

# mdbook comes from crates.io, into target/mdbook.
docs-site: rust $(PACKAGES)
	@mdbook=$$(scripts/install-mdbook target/mdbook) || exit 1; scripts/docs-site "$$mdbook" target/docs-site
	@scripts/check-links target/docs-site/html
	@echo 'built target/docs-site/html/index.html'

# Not part of make test, because mdbook takes minutes to build.
test-docs-site: docs-site module
	@scripts/install-packages --list scripts/packages-page
	$(PAGE_TESTS) docs_site::

# nginx built from its sources with the module, 3 min.
test-source: packages
	@scripts/test-source

# The Debian to build a package for, and to test it in: this machine's; or "trixie" and the like, whose
# nginx and Rust scripts/debian-root fetches: needs root.
HERE := $(shell . /etc/os-release && echo "$${VERSION_CODENAME:-}")
DIST ?= $(HERE)
export DIST
# Where the packages are built; what they are tested with comes beside it.
DEB := target/deb/$(if $(filter-out $(HERE),$(DIST)),$(DIST)/)packages

deb: rust packages
	@scripts/install-packages --list scripts/packages-deb
	@scripts/build-deb $(DEB)

# Source package, and a binary package for nginx.org's nginx 1.28.3.
rpm: packages
	@scripts/install-packages --list scripts/packages-rpm
	@scripts/build-rpm

# Some 4 min, the first time 6, when it makes the Debians to test in. Needs root.
test-deb: deb
	@scripts/build-deb $(dir $(DEB))rebuilt-in-another-folder +rebuilt1
	@scripts/test-deb $(DEB) $(dir $(DEB))rebuilt-in-another-folder

# Who comes from uwsgi_pass: package, site, migration, twelve failures and their remedies, the way back. 4 min, the
# first time 8, when it makes the Debian. Needs root.
test-newcomer: deb
	@scripts/test-newcomer $(DEB)

# No test: it measures and judges nothing. BENCH is "full", "quick", "costs" or "costs-quick"; with
# README=write the main figures go into README.md besides.
BENCH ?= full
README ?=
WRITE_README = $(if $(filter write,$(README)),--readme README.md)

bench: module
	@scripts/install-packages --list scripts/packages-bench
	@mkdir -p target/bench
	@rustc --edition 2021 -C opt-level=3 -o target/bench/null_backend benches/compare/null_backend.rs
	@gunicorn=$$(scripts/install-gunicorn target/gunicorn) || exit 1; \
	lighttpd=$$(scripts/unpack-package lighttpd target/lighttpd) || exit 1; \
	/usr/bin/python3 benches/compare $(BENCH) --null-backend target/bench/null_backend \
		--gunicorn "$$gunicorn" $${lighttpd:+--lighttpd "$$lighttpd"} $(WRITE_README)

profile:
	@$(MAKE) --no-print-directory bench BENCH=profile README=

# PART is "all", "bursts", "open" or "open-quick".
PART ?= all

bench-overload: module
	@haproxy=$$(scripts/unpack-package haproxy target/haproxy) || exit 1; \
	/usr/bin/python3 benches/overload $(PART) $${haproxy:+--haproxy "$$haproxy"} $(WRITE_README)

bench-health: module
	@/usr/bin/python3 benches/health

clean:
	rm -rf target
