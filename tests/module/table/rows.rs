//! What is known of each directive beyond the table: a right value, and the tests that show what it
//! does.

/// One directive of stock's.
pub struct Row {
    /// Without `uwsgi_`.
    pub name: &'static str,
    /// Arguments that are right.
    pub value: &'static str,
    /// Tests that fail if the directive did nothing, as the test runner names them.
    pub tests: &'static [&'static str],
}

const fn shown(name: &'static str, value: &'static str, tests: &'static [&'static str]) -> Row {
    Row { name, value, tests }
}

/// The row of a directive.
pub fn row(name: &str) -> &'static Row {
    let row = ROWS.iter().find(|row| row.name == name);
    row.unwrap_or_else(|| panic!("uwsgi_{name} has no row in tests/module/table/rows.rs"))
}

/// In the order of the documentation.
pub const ROWS: &[Row] = &[
    shown(
        "pass",
        "127.0.0.1:1",
        &[
            "inheritance::addresses_of_every_form",
            "inheritance::variables_in_the_address",
            "inheritance::named_upstreams_before_and_after",
        ],
    ),
    shown(
        "modifier1",
        "0",
        &[
            "oracle_requests::random_requests_with_more_params",
            "inheritance::single_values_are_inherited_and_overridden",
        ],
    ),
    shown(
        "modifier2",
        "0",
        &[
            "oracle_requests::random_requests_with_more_params",
            "inheritance::single_values_are_inherited_and_overridden",
        ],
    ),
    shown("store", "on", &["store::what_is_stored_where"]),
    shown("store_access", "user:rw group:r all:r", &["store::store_access"]),
    shown(
        "buffering",
        "on",
        &[
            "traffic::slow_clients::the_server_is_free_while_the_client_reads",
            "behaviour::an_unbuffered_response_arrives_while_it_is_made",
        ],
    ),
    shown("request_buffering", "on", &["traffic::uploads::arriving_while_sent"]),
    shown("ignore_client_abort", "on", &["traffic::aborts::while_waiting_and_in_the_body"]),
    shown("bind", "127.0.0.1", &["traffic::sockets::bind", "traffic::sockets::bind_transparent"]),
    shown("socket_keepalive", "on", &["traffic::sockets::socket_keepalive"]),
    shown("socket_rcvbuf", "64k", &["traffic::sockets::socket_buffers"]),
    shown("socket_sndbuf", "64k", &["traffic::sockets::socket_buffers"]),
    shown(
        "connect_timeout",
        "1s",
        &["traffic::aborts::while_connecting", "tls::transport::handshakes_that_fail"],
    ),
    shown("send_timeout", "1s", &["bad_backend::reading_nothing"]),
    shown("buffer_size", "8k", &["buffers::buffer_size_bounds_the_head"]),
    shown("pass_request_headers", "on", &["oracle_requests::without_request_headers_or_body"]),
    shown(
        "pass_request_body",
        "on",
        &[
            "traffic::uploads::by_file_name",
            "differences::content_length_when_the_body_is_not_passed",
        ],
    ),
    shown("intercept_errors", "on", &["oracle_responses::rows_with_intercepted_errors"]),
    shown("read_timeout", "1s", &["bad_backend::stalling"]),
    shown("buffers", "8 8k", &["traffic::slow_clients::the_server_is_free_while_the_client_reads"]),
    shown("busy_buffers_size", "16k", &["buffers::busy_buffers_size_bounds_what_is_on_its_way"]),
    shown("force_ranges", "on", &["traffic::rates::ranges"]),
    shown("limit_rate", "1k", &["traffic::rates::limit_rate"]),
    shown("cache", "zone", &["cache::hit_and_miss", "cache::the_zone"]),
    shown("cache_key", "$uri", &["cache::the_key", "cache::without_a_key"]),
    shown(
        "cache_path",
        "@dir@/other keys_zone=other:1m",
        &[
            "cache_disk::levels",
            "cache_disk::the_manager_removes_files",
            "cache_disk::temporary_files",
        ],
    ),
    shown("cache_bypass", "$arg_a $arg_b", &["cache::bypass_and_no_cache"]),
    shown("no_cache", "$arg_a", &["cache::bypass_and_no_cache"]),
    shown("cache_valid", "200 302 1m", &["cache::valid_times_by_status"]),
    shown("cache_min_uses", "2", &["cache::min_uses"]),
    shown("cache_max_range_offset", "1m", &["cache::conditional_requests_and_ranges"]),
    shown(
        "cache_use_stale",
        "error updating",
        &["cache_stale::stale_after_each_fault", "cache_stale::updating"],
    ),
    shown("cache_methods", "GET POST", &["cache::methods"]),
    shown("cache_lock", "on", &["cache_stale::lock"]),
    shown("cache_lock_timeout", "1s", &["cache_stale::lock"]),
    shown("cache_lock_age", "1s", &["cache_stale::lock"]),
    shown("cache_revalidate", "on", &["cache_stale::revalidate"]),
    shown("cache_background_update", "on", &["cache_stale::background_update"]),
    shown("temp_path", "@dir@/temp/other 1 2", &["cache_disk::temporary_files"]),
    shown(
        "max_temp_file_size",
        "1m",
        &[
            "traffic::slow_clients::the_server_is_free_while_the_client_reads",
            "store::a_limited_temporary_file",
        ],
    ),
    shown("temp_file_write_size", "64k", &["buffers::temp_file_write_size_bounds_each_write"]),
    shown(
        "next_upstream",
        "error http_500",
        &["traffic::next_upstream::statuses", "traffic::next_upstream::failures"],
    ),
    shown("next_upstream_tries", "2", &["traffic::next_upstream::limits"]),
    shown("next_upstream_timeout", "1s", &["traffic::next_upstream::limits"]),
    shown(
        "param",
        "A b",
        &[
            "oracle_requests::random_requests_with_more_params",
            "inheritance::params_are_inherited_as_a_set",
        ],
    ),
    shown("string", "s", &["oracle_requests::without_request_headers_or_body"]),
    shown(
        "pass_header",
        "Server",
        &["oracle_responses::rows_with_headers_hidden_passed_and_ignored"],
    ),
    shown("hide_header", "X-A", &["oracle_responses::rows_with_headers_hidden_passed_and_ignored"]),
    shown(
        "ignore_headers",
        "Vary Expires",
        &[
            "oracle_responses::rows_with_headers_hidden_passed_and_ignored",
            "cache_responses::headers_that_decide",
        ],
    ),
    shown("ssl_session_reuse", "on", &["tls::handshake::session_reuse"]),
    shown("ssl_protocols", "TLSv1.2 TLSv1.3", &["tls::handshake::protocols"]),
    shown("ssl_ciphers", "DEFAULT", &["tls::handshake::ciphers"]),
    shown("ssl_name", "$host", &["tls::verify::name_from_the_request"]),
    shown("ssl_server_name", "on", &["tls::handshake::server_name"]),
    shown("ssl_verify", "off", &["tls::verify::authority_name_and_time"]),
    shown("ssl_verify_depth", "2", &["tls::verify::depth"]),
    shown("ssl_trusted_certificate", "ca.pem", &["tls::verify::authority_name_and_time"]),
    shown("ssl_crl", "crl.pem", &["tls::verify::revocation"]),
    shown(
        "ssl_certificate",
        "cert.pem",
        &[
            "tls::client_certificate::demanded_by_the_server",
            "tls::client_certificate::chosen_by_variables",
        ],
    ),
    shown(
        "ssl_certificate_key",
        "key.pem",
        &[
            "tls::client_certificate::demanded_by_the_server",
            "tls::client_certificate::chosen_by_variables",
        ],
    ),
    shown(
        "ssl_certificate_cache",
        "max=10 inactive=1m",
        &["tls::certificate_cache::files_are_read_once", "tls::certificate_cache::validity_ends"],
    ),
    shown("ssl_password_file", "@dir@/nginx.conf", &["tls::client_certificate::encrypted_keys"]),
    shown("ssl_conf_command", "Options PrioritizeChaCha", &["tls::handshake::conf_commands"]),
];
