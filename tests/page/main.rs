//! The status page, the demo, and the documentation as a site, in a real Chromium, which is driven by WebDriver (W3C). Needs
//! Debian's chromium and chromium-driver: `make test-page` and `make test-docs-site` install them.

// These lints guard what comes from clients and backends; here a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

mod accessible;
mod browser;
mod demo;
mod docs_site;
mod document;
mod looks;
mod nginx;
mod safety;
mod scripted;
mod table;
