/*
 * What nginx-sys leaves out: constants that nginx defines by macros with a cast.
 * build.rs makes a Rust constant of each, for src/nginx.rs.
 */

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

/* what stock's uwsgi module had before there was a macro */
#if (NGX_HTTP_SSL && !defined NGX_SSL_DEFAULT_PROTOCOLS)
#if (nginx_version >= 1023004)
#define NGX_SSL_DEFAULT_PROTOCOLS                                             \
    (NGX_SSL_TLSv1|NGX_SSL_TLSv1_1|NGX_SSL_TLSv1_2|NGX_SSL_TLSv1_3)
#else
#define NGX_SSL_DEFAULT_PROTOCOLS                                             \
    (NGX_SSL_TLSv1|NGX_SSL_TLSv1_1|NGX_SSL_TLSv1_2)
#endif
#endif

enum rs_macros {
    RS_NGX_CONF_UNSET_UINT = NGX_CONF_UNSET_UINT,
    RS_NGX_CONF_UNSET_SIZE = NGX_CONF_UNSET_SIZE,
    RS_NGX_CONF_UNSET_MSEC = NGX_CONF_UNSET_MSEC,
    RS_NGX_CONF_UNSET_PTR = (ngx_uint_t) NGX_CONF_UNSET_PTR,

#if (NGX_HTTP_SSL)
    RS_NGX_SSL_DEFAULT_PROTOCOLS = NGX_SSL_DEFAULT_PROTOCOLS
#endif
};
