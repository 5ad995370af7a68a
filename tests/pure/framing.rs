//! What the headers of a response say of its end and of its connection, against tables, and against
//! a reader of all headers at once.

use ngx_http_rs_uwsgi_module::pure::uwsgi::framing::{Chunks, End, Framing, Said};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::fuzz::framing::{check, framing, seen, Has, LARGEST};
use crate::Bytes;

/// The values of the Connection headers of a response, and what they say.
const CONNECTION: [(&[&str], Said); 31] = [
    (&[], Said::Nothing),
    (&["keep-alive"], Said::KeepAlive),
    (&["Keep-Alive"], Said::KeepAlive),
    (&["KEEP-ALIVE"], Said::KeepAlive),
    (&["\tkeep-alive \t"], Said::KeepAlive),
    (&["upgrade, keep-alive"], Said::KeepAlive),
    (&["keep-alive,upgrade"], Said::KeepAlive),
    (&[",, keep-alive ,"], Said::KeepAlive),
    (&["keep-alive", "keep-alive"], Said::KeepAlive),
    (&["keep-alive", "upgrade"], Said::KeepAlive),
    (&["upgrade", "keep-alive"], Said::KeepAlive),
    (&["close"], Said::Close),
    (&["Close"], Said::Close),
    (&["CLOSE"], Said::Close),
    (&["x,\tclose\t,y"], Said::Close),
    (&["close, close"], Said::Close),
    (&["close, keep-alive"], Said::Close),
    (&["keep-alive, close"], Said::Close),
    (&["keep-alive", "close"], Said::Close),
    (&["close", "keep-alive"], Said::Close),
    (&["keep-alive", "close", "keep-alive"], Said::Close),
    (&[""], Said::Nothing),
    (&[","], Said::Nothing),
    (&["upgrade"], Said::Nothing),
    (&["keep-alives, closed"], Said::Nothing),
    (&["keep alive"], Said::Nothing),
    (&["keep-alive close"], Said::Nothing),
    (&["keep-alive; timeout=5"], Said::Nothing),
    (&["\"keep-alive\""], Said::Nothing),
    (&["keep-alive\0"], Said::Nothing),
    (&["keep-", "alive"], Said::Nothing),
];

const LENGTH: [(&[&str], Has<u64>); 36] = [
    (&[], Has::None),
    (&["0"], Has::One(0)),
    (&["5"], Has::One(5)),
    (&["007"], Has::One(7)),
    (&["4294967296"], Has::One(1 << 32)),
    (&["9223372036854775807"], Has::One(LARGEST)),
    (&["0000000000000000000000000000005"], Has::One(5)),
    (&["9223372036854775808"], Has::Doubt),
    (&["18446744073709551615"], Has::Doubt),
    (&["18446744073709551621"], Has::Doubt),
    (&["99999999999999999999999999999999999999999999999999"], Has::Doubt),
    (&[""], Has::Doubt),
    (&[" "], Has::Doubt),
    (&["+5"], Has::Doubt),
    (&["-5"], Has::Doubt),
    (&["-0"], Has::Doubt),
    (&["5 5"], Has::Doubt),
    (&["5,5"], Has::Doubt),
    (&["5, 5"], Has::Doubt),
    (&["5\t"], Has::Doubt),
    (&["\t5"], Has::Doubt),
    (&[" 5"], Has::Doubt),
    (&["5\0"], Has::Doubt),
    (&["5."], Has::Doubt),
    (&["5e1"], Has::Doubt),
    (&["0x5"], Has::Doubt),
    (&["1_0"], Has::Doubt),
    (&["five"], Has::Doubt),
    (&["\u{665}"], Has::Doubt),
    (&["5", "5"], Has::Doubt),
    (&["0", "0"], Has::Doubt),
    (&["5", "6"], Has::Doubt),
    (&["5", ""], Has::Doubt),
    (&["", "5"], Has::Doubt),
    (&["+5", "5"], Has::Doubt),
    (&["5", "+5", "5"], Has::Doubt),
];

const CODING: [(&[&str], Has<()>); 22] = [
    (&[], Has::None),
    (&["chunked"], Has::One(())),
    (&["Chunked"], Has::One(())),
    (&["CHUNKED"], Has::One(())),
    (&[""], Has::Doubt),
    (&[" chunked"], Has::Doubt),
    (&["\tchunked"], Has::Doubt),
    (&["chunked\t"], Has::Doubt),
    (&["\u{b}chunked"], Has::Doubt),
    (&["chunked,"], Has::Doubt),
    (&["chunked;q=1"], Has::Doubt),
    (&["xchunked"], Has::Doubt),
    (&["chunkedx"], Has::Doubt),
    (&["identity"], Has::Doubt),
    (&["gzip"], Has::Doubt),
    (&["gzip, chunked"], Has::Doubt),
    (&["chunked, gzip"], Has::Doubt),
    (&["chunked, chunked"], Has::Doubt),
    (&["chunked", "chunked"], Has::Doubt),
    (&["chunked", "identity"], Has::Doubt),
    (&["identity", "chunked"], Has::Doubt),
    (&["gzip", "chunked", "chunked"], Has::Doubt),
];

const BODILESS: [u16; 2] = [204, 304];
/// Others, among them those whose body, by the rules of HTTP, is to be empty or is special.
const WITH_BODY: [u16; 10] = [200, 201, 203, 205, 206, 301, 303, 305, 404, 500];

#[test]
fn every_combination_of_the_headers_in_every_order() {
    const NAMES: [[&str; 3]; 4] = [
        ["Connection", "Content-Length", "Transfer-Encoding"],
        ["connection", "content-length", "transfer-encoding"],
        ["CONNECTION", "CONTENT-LENGTH", "TRANSFER-ENCODING"],
        ["cOnnecTion", "contenT-lengtH", "Transfer-encodinG"],
    ];
    const ORDERS: [[usize; 3]; 6] =
        [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let mut number = 0;
    for (connection, said) in CONNECTION {
        for (lengths, length) in LENGTH {
            for (codings, coding) in CODING {
                let groups = [connection, lengths, codings];
                for order in ORDERS {
                    // the spelling of the names changes nothing: each has its turn
                    let names = NAMES[number % NAMES.len()];
                    number += 1;
                    let headers = order.iter().flat_map(|group| {
                        let name = names[*group].as_bytes();
                        groups[*group].iter().map(move |value| (name, value.as_bytes()))
                    });
                    let fields = seen(headers);
                    let of = || format!("{groups:?} in the order {order:?}");
                    assert_eq!(fields.said(), said, "{}", of());
                    let status = WITH_BODY[number % WITH_BODY.len()];
                    assert_eq!(fields.framing(status), framing(length, coding), "{}", of());
                }
            }
        }
    }
}

#[test]
fn the_status_matters_only_where_it_says_that_there_is_no_body() {
    for (lengths, length) in LENGTH {
        for (codings, coding) in CODING {
            let lengths = lengths.iter().map(|value| (&b"Content-Length"[..], value.as_bytes()));
            let codings = codings.iter().map(|value| (&b"Transfer-Encoding"[..], value.as_bytes()));
            let fields = seen(lengths.chain(codings));
            for status in (200..600).filter(|status| !BODILESS.contains(status)) {
                assert_eq!(fields.framing(status), framing(length, coding), "{status}");
            }
        }
    }
}

/// RFC 9112, 6.3: whatever the headers say. Only what all agree on is listed.
#[test]
fn a_status_without_a_body_ends_with_its_head() {
    for status in BODILESS {
        assert_eq!(seen([]).framing(status), Framing::NoBody);
        let empty = seen([(&b"Content-Length"[..], &b"0"[..])]);
        assert_eq!(empty.framing(status), Framing::NoBody);
    }
}

#[test]
fn a_body_that_is_announced_may_come_whatever_the_status() {
    for status in BODILESS {
        for (name, value) in [
            ("Content-Length", "1"),
            ("Content-Length", "+0"),
            ("Transfer-Encoding", "chunked"),
            ("Transfer-Encoding", "gzip"),
        ] {
            let fields = seen([(name.as_bytes(), value.as_bytes())]);
            let end = fields.framing(status).end(0, Chunks::Open);
            assert_ne!(end, End::Clean, "{status} with {name}: {value}");
        }
    }
}

#[test]
fn headers_of_other_names_say_nothing() {
    let names = [
        "",
        "Connection ",
        "Connectio",
        "Connections",
        "Connectiom",
        "Set-Cookie",
        "Keep-Alive",
        "Proxy-Connection",
        "Content-Lengt",
        "Content-Lengths",
        "Content_Length",
        "Content\rLength",
        "X-Content-Length",
        "Transfer-Encodin",
        "Transfer-Encodings",
        "Transfer_Encoding",
        "Transfer\rEncoding",
        "Content-Encoding",
        "TE",
    ];
    for name in names {
        for value in ["", "close", "keep-alive", "5", "+5", "chunked", "gzip"] {
            let fields = seen([(name.as_bytes(), value.as_bytes())]);
            assert_eq!(fields.said(), Said::Nothing, "{name}: {value}");
            assert_eq!(fields.framing(200), Framing::Close, "{name}: {value}");
        }
    }
}

#[test]
fn a_response_has_ended_when_as_much_came_as_its_framing_says() {
    use {Chunks as C, End as E, Framing as F};
    const MAX: u64 = u64::MAX;
    // the chunks do not matter
    let by_bytes = [
        (F::NoBody, 0, E::Clean),
        (F::NoBody, 1, E::Surplus),
        (F::NoBody, MAX, E::Surplus),
        (F::Length(0), 0, E::Clean),
        (F::Length(0), 1, E::Surplus),
        (F::Length(5), 0, E::Open),
        (F::Length(5), 4, E::Open),
        (F::Length(5), 5, E::Clean),
        (F::Length(5), 6, E::Surplus),
        (F::Length(5), 5 + (1 << 32), E::Surplus),
        (F::Length(LARGEST), 0, E::Open),
        (F::Length(LARGEST), LARGEST - 1, E::Open),
        (F::Length(LARGEST), LARGEST, E::Clean),
        (F::Length(LARGEST), LARGEST + 1, E::Surplus),
        (F::Length(MAX), MAX, E::Clean),
        (F::Close, 0, E::ByClose),
        (F::Close, MAX, E::ByClose),
        (F::Uncertain, 0, E::Uncertain),
        (F::Uncertain, MAX, E::Uncertain),
    ];
    for (framing, received, end) in by_bytes {
        for chunks in [C::Open, C::Ended, C::Surplus] {
            assert_eq!(framing.end(received, chunks), end, "{framing:?}, {received}, {chunks:?}");
        }
    }
    // the bytes do not matter
    let by_chunks = [(C::Open, E::Open), (C::Ended, E::Clean), (C::Surplus, E::Surplus)];
    for (chunks, end) in by_chunks {
        for received in [0, 5, MAX] {
            assert_eq!(F::Chunked.end(received, chunks), end, "{received}, {chunks:?}");
        }
    }
}

/// A header that matters, in any spelling, and any value.
fn header() -> impl Strategy<Value = (Bytes, Bytes)> {
    let telling = "[Cc][Oo][Nn][Nn]ectio[Nn]|[Cc]ontent-[Ll]engt[Hh]|[Tt]ransfer-[Ee]ncodin[Gg]";
    let name = prop_oneof![
        9 => telling.prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..20),
    ];
    let tables = CONNECTION.iter().map(|row| row.0);
    let tables = tables.chain(LENGTH.iter().map(|row| row.0)).chain(CODING.iter().map(|row| row.0));
    let known: Vec<_> = tables.flatten().map(|value| value.as_bytes().to_vec()).collect();
    let value = prop_oneof![
        4 => select(known),
        2 => "[0-9]{1,21}".prop_map(String::into_bytes),
        1 => "0{0,20}92233720368547758[0-9]{2}".prop_map(String::into_bytes),
        3 => select(vec!["chunked", "5", "close", "keep-alive"])
            .prop_map(|value| value.as_bytes().to_vec()),
        1 => vec(select(b"0159+- ,\tchunkedlosKeep-aiv".to_vec()), 0..24),
        1 => vec(any::<u8>(), 0..24),
    ];
    (name, value)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn random_headers_are_read_as_all_at_once(headers in vec(header(), 0..5)) {
        check(&headers, 200);
    }

    #[test]
    fn the_order_of_headers_changes_nothing(
        (headers, shuffled) in vec(header(), 0..7)
            .prop_flat_map(|headers| (Just(headers.clone()), Just(headers).prop_shuffle())),
        status in 200..600u16,
    ) {
        let read = |headers: &[(Bytes, Bytes)]| {
            let fields = seen(headers.iter().map(|(name, value)| (&name[..], &value[..])));
            (fields.said(), fields.framing(status))
        };
        prop_assert_eq!(read(&headers), read(&shuffled));
    }

    #[test]
    fn a_doubtful_header_makes_the_end_uncertain_wherever_it_stands(
        mut headers in vec(header(), 0..6),
        (name, value) in select(doubtful()),
        place in any::<proptest::sample::Index>(),
        received in any::<u64>(),
    ) {
        headers.insert(place.index(headers.len() + 1), (name.into(), value.into()));
        let fields = seen(headers.iter().map(|(name, value)| (&name[..], &value[..])));
        prop_assert_eq!(fields.framing(200), Framing::Uncertain);
        for chunks in [Chunks::Open, Chunks::Ended, Chunks::Surplus] {
            prop_assert_eq!(fields.framing(200).end(received, chunks), End::Uncertain);
        }
    }
}

/// The headers of the tables that are doubtful on their own.
fn doubtful() -> Vec<(&'static str, &'static str)> {
    let lengths = LENGTH.iter().filter(|row| row.0.len() == 1 && row.1 == Has::Doubt);
    let codings = CODING.iter().filter(|row| row.0.len() == 1 && row.1 == Has::Doubt);
    let lengths = lengths.map(|row| ("Content-Length", row.0[0]));
    lengths.chain(codings.map(|row| ("Transfer-Encoding", row.0[0]))).collect()
}
