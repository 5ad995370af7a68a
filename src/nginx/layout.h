/*
 * The structures whose members build/layout.rs measures.
 */

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
