//! Sets of header names against a list of them.

use ngx_http_rs_uwsgi_module::uwsgi::header_set::{lowcase_var, HeaderSet};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::Bytes;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_header_set_holds_what_a_list_of_names_holds(
        inserted in vec("[aAbB_-]{0,4}", 0..20),
        asked in vec("[aAbBcC_-]{0,5}", 0..40),
    ) {
        let mut set = HeaderSet::new();
        let mut list: Vec<Bytes> = Vec::new();
        for name in &inserted {
            let plain = name.to_lowercase().replace('-', "_").into_bytes();
            prop_assert_eq!(lowcase_var(name.as_bytes()), plain.clone());
            prop_assert_eq!(set.insert(name.as_bytes()), !list.contains(&plain));
            if !list.contains(&plain) {
                list.push(plain);
            }
        }
        prop_assert_eq!(set.is_empty(), list.is_empty());
        prop_assert!(set.iter().eq(list.iter().map(Vec::as_slice)));
        for name in inserted.iter().chain(&asked) {
            let plain = name.to_lowercase().replace('-', "_").into_bytes();
            prop_assert_eq!(set.contains(name.as_bytes()), list.contains(&plain));
        }
    }
}
