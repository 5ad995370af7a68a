//! Sets of header names against a list of them.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::fuzz::header_set::check;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_header_set_holds_what_a_list_of_names_holds(
        inserted in vec("[aAbB_-]{0,4}", 0..20),
        asked in vec("[aAbBcC_-]{0,5}", 0..40),
    ) {
        let inserted: Vec<_> = inserted.iter().map(String::as_bytes).collect();
        let asked: Vec<_> = asked.iter().map(String::as_bytes).collect();
        check(&inserted, &asked);
    }
}
