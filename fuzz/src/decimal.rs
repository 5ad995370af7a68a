//! Numbers in digits against those of the standard library.

use ngx_http_rs_uwsgi_module::pure::uwsgi::decimal::Decimal;

use super::Input;

/// One number.
pub fn fuzz(input: &[u8]) {
    let number = Input(input).number();
    assert_eq!(Decimal::new(number).digits(), number.to_string().as_bytes());
}
