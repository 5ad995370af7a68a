//! Values by key against a map.

use std::collections::BTreeMap;

use ngx_http_rs_uwsgi_module::pure::keys::Keys;
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #[test]
    fn keys_are_found_where_they_were_put(steps in vec((0..5_u8, 0..30_u32), 0..200)) {
        let mut keys = Keys::default();
        // the place and the value
        let mut model = BTreeMap::<u32, (usize, u32)>::new();
        for (kind, number) in steps {
            let key = number.to_le_bytes();
            match kind {
                0..3 if !model.contains_key(&number) => {
                    model.insert(number, (keys.insert(&key, number + 1), number + 1));
                }
                3 if number % 8 == 0 => {
                    keys.retain(|value| value % 3 > 0);
                    model.retain(|_, (_, value)| *value % 3 > 0);
                }
                _ => {
                    let removed = model.remove(&number);
                    let place = keys.find(&key);
                    prop_assert_eq!(place, removed.map(|(place, _)| place));
                    prop_assert_eq!(place.and_then(|place| keys.remove(place)), removed.map(|(_, value)| value));
                }
            }
            prop_assert_eq!(keys.len(), model.len());
            prop_assert_eq!(keys.is_empty(), model.is_empty());
            for number in 0..30_u32 {
                let place = keys.find(&number.to_le_bytes());
                prop_assert_eq!(place, model.get(&number).map(|(place, _)| *place));
                let expected = model.get(&number).map(|(_, value)| value);
                prop_assert_eq!(place.and_then(|place| keys.get(place)), expected);
            }
            let mut all: Vec<_> = keys.iter().map(|(key, value)| (key.to_vec(), *value)).collect();
            all.sort_by_key(|(_, value)| *value);
            let expected = model.iter().map(|(number, (_, value))| (number.to_le_bytes().to_vec(), *value));
            prop_assert!(all.into_iter().eq(expected));
        }
    }
}
