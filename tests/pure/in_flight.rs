//! Requests that are with servers, against a list of them.

use ngx_http_rs_uwsgi_module::pure::in_flight::InFlight;
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #[test]
    fn they_are_there_until_they_end(steps in vec((0..3_u8, any::<bool>(), any::<usize>()), 0..200)) {
        let (mut in_flight, mut model) = (InFlight::default(), Vec::new());
        for (number, (server, begins, which)) in steps.into_iter().enumerate() {
            let socket = number as i32;
            if begins || model.is_empty() {
                model.push((in_flight.begin(server, socket), server, socket));
            } else {
                let (number, ..) = model.swap_remove(which % model.len());
                in_flight.end(number);
                // twice is once
                in_flight.end(number);
            }
            prop_assert_eq!(in_flight.len(), model.len());
            for server in 0..3 {
                let own = model.iter().filter(|(_, of, _)| *of == server);
                let odd = own.clone().filter(|(.., socket)| socket % 2 == 1).count() as u64;
                let expected = (own.count() as u64, odd);
                prop_assert_eq!(in_flight.look(server, |socket| socket % 2 == 1), expected);
            }
        }
    }

    /// With hundreds not each that is over costs a look at hundreds.
    #[test]
    fn looks_cost_the_same_for_each(count in 0..1000_usize) {
        let mut in_flight = InFlight::default();
        (0..count).for_each(|number| {
            in_flight.begin((), number as i32);
        });
        let looks = (0..1000).filter(|_| in_flight.is_due()).count();
        prop_assert!(looks * count <= 8 * 1000 + 8 * count, "{looks}");
        prop_assert!(looks >= 1000 / (count / 8 + 1) - 1, "{looks}");
    }
}
