//! Chunked bodies against what was encoded, and against a reader of whole lines.

use ngx_http_rs_uwsgi_module::pure::uwsgi::chunked::{
    Decoder, Malformed, Piece, MAX_SIZE, MAX_SIZE_LINE, MAX_TRAILERS,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, Index};

use crate::fuzz::chunked::{feed, model, Decoded};
use crate::mutated::mutated;
use crate::Bytes;

/// Decodes `bytes`, cut into buffers at `cuts`.
fn decode(bytes: &[u8], cuts: &[Index]) -> Decoded {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    let mut decoder = Decoder::default();
    let mut decoded = Decoded::default();
    for part in cuts.windows(2) {
        if decoded.end.is_none() {
            feed(&mut decoder, &bytes[part[0]..part[1]], &mut decoded, part[0]);
        }
    }
    decoded
}

/// The decoder after each of `bytes`, fed one by one, as long as they are right.
fn steps(bytes: &[u8]) -> impl Iterator<Item = (Decoder, usize)> + '_ {
    let mut decoder = Decoder::default();
    std::iter::once((decoder, 0)).chain(bytes.iter().enumerate().map_while(move |(at, byte)| {
        decoder.next(std::slice::from_ref(byte)).ok().map(|_| (decoder, at + 1))
    }))
}

/// A size line: zeros, the size in small or large letters, an extension.
type Style = (usize, bool, &'static str);

const EXTENSIONS: &[&str] =
    &["", ";a=b", " ", "\t; name=\"quoted; text\" ", ";\0\u{ff}", ";0", " 5"];

fn style() -> impl Strategy<Value = Style> {
    (0..3_usize, any::<bool>(), prop_oneof![Just(""), select(EXTENSIONS)])
}

fn size_line((zeros, large, extension): &Style, size: usize) -> String {
    let digits = if *large { format!("{size:X}") } else { format!("{size:x}") };
    format!("{}{digits}{extension}\r\n", "0".repeat(*zeros))
}

/// A body and its encoding.
fn body() -> impl Strategy<Value = (Bytes, Bytes)> {
    let data = vec(prop_oneof![any::<u8>(), select(&b"\r\n0;"[..])], 1..40);
    let trailers = vec(select(&["A: b", "X", " folded", "0", ": \0\u{ff}"][..]), 0..3);
    (vec((data, style()), 0..6), style(), trailers).prop_map(|(chunks, last, trailers)| {
        let (mut body, mut encoded) = (Bytes::new(), Bytes::new());
        for (data, style) in &chunks {
            body.extend(data);
            encoded.extend(size_line(style, data.len()).bytes());
            encoded.extend(data);
            encoded.extend(b"\r\n");
        }
        encoded.extend(size_line(&last, 0).bytes());
        trailers.iter().for_each(|line| encoded.extend(format!("{line}\r\n").bytes()));
        encoded.extend(b"\r\n");
        (body, encoded)
    })
}

/// Bytes that mean something somewhere in a chunked body, more often than any others.
fn framing_byte() -> impl Strategy<Value = u8> {
    prop_oneof![8 => select(&b"\r\n\r\n\r\n00123aF; \tx"[..]), 1 => any::<u8>()]
}

/// `at_least` is exact: no byte brings the end nearer by more than one, and some byte does by one.
/// So, by induction, the end is never nearer than it says, and can be as near.
fn check_at_least(decoder: Decoder) {
    let before = decoder.at_least();
    if before == 0 {
        return;
    }
    let after = (0..=u8::MAX).filter_map(|byte| {
        let mut decoder = decoder;
        decoder.next(&[byte]).ok().map(|_| decoder.at_least())
    });
    assert_eq!(after.min(), Some(before - 1), "{decoder:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_was_encoded_is_decoded(
        (data, encoded) in body(),
        surplus in vec(any::<u8>(), 0..20),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let bytes = [&encoded[..], &surplus].concat();
        prop_assert_eq!(decode(&bytes, &cuts), Decoded { data, end: Some(Ok(encoded.len())) });
    }

    #[test]
    fn at_least_never_exceeds_what_comes((_, encoded) in body()) {
        let mut reached = 0;
        for (decoder, taken) in steps(&encoded) {
            reached = taken;
            let rest = (encoded.len() - taken) as u64;
            prop_assert!(decoder.at_least() <= rest, "{:?}: {rest} come", decoder);
            prop_assert_eq!(decoder.is_done(), rest == 0);
            check_at_least(decoder);
        }
        prop_assert_eq!(reached, encoded.len());
    }

    #[test]
    fn mutated_bodies_are_read_as_by_the_model(
        bytes in mutated(body().prop_map(|(_, encoded)| encoded), framing_byte()),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        prop_assert_eq!(decode(&bytes, &cuts), model(&bytes), "{}", bytes.escape_ascii());
    }

    #[test]
    fn random_bytes_are_read_as_by_the_model(
        bytes in vec(framing_byte(), 0..40),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        prop_assert_eq!(decode(&bytes, &cuts), model(&bytes), "{}", bytes.escape_ascii());
        steps(&bytes).for_each(|(decoder, _)| check_at_least(decoder));
    }
}

#[test]
fn bodies_are_decoded() {
    let rows = [
        ("0\r\n\r\n", ""),
        ("000\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", "hello!"),
        ("00000000000000000000005\r\nhello\r\n0\r\n\r\n", "hello"),
        ("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"),
        ("4\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n"),
        ("5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n"),
        ("1;a=b\r\nx\r\n0;c\r\n\r\n", "x"),
        ("1 \r\nx\r\n0\t\r\n\r\n", "x"),
        ("1 ;a=\"b;c\" ; d\r\nx\r\n0\r\n\r\n", "x"),
        // Not the RFC's, but nginx's.
        ("1 2\r\nx\r\n0\r\n\r\n", "x"),
        ("1;\0\x7f\r\nx\r\n0\r\n\r\n", "x"),
        ("1\r\nx\r\n0\r\nA: b\r\nC: d\r\n\r\n", "x"),
        ("0\r\n folded\r\nno colon\r\n:\0\r\n\r\n", ""),
    ];
    for (body, data) in rows {
        let end = Some(Ok(body.len()));
        assert_eq!(decode(body.as_bytes(), &[]), Decoded { data: data.into(), end }, "{body:?}");
    }
}

/// Each row is wrong at its last byte, and not before.
#[test]
fn malformed_bodies_are_refused_at_the_byte() {
    let sizes = [
        "\r", "\n", ";", " ", "g", "-", "+", "/", ":", "@", "G", "`", "\0", "1g", "0x", "1,", "1/",
        "1:", "1@", "5\0", "1\x0b",
    ];
    let rows = [
        // LF without CR, CR without LF.
        "0\n",
        "5\n",
        "5;a\n",
        "5 \n",
        "0;a\n",
        "0\r\r",
        "5\r5",
        "5;a\rb",
        "5;\r\r",
        "1\r\nx\n",
        "1\r\nx\r0",
        "1\r\nx\r\r",
        "0\r\n\n",
        "0\r\nA: b\n",
        "0\r\n\rA",
        "0\r\n\r\r",
        "0\r\nA: b\rc",
        "0\r\nA: b\r\r",
        "0\r\nA: b\r\n\n",
        // Data longer or shorter than its size.
        "1\r\nxy",
        "1\r\nx1",
        "2\r\nx\r\n",
        "1\r\nx\r\n\r",
    ];
    for body in sizes.into_iter().chain(rows) {
        let body = body.as_bytes();
        let row = body.escape_ascii();
        assert_eq!(decode(&body[..body.len() - 1], &[]).end, None, "{row}: too early");
        assert_eq!(decode(body, &[]).end, Some(Err(Malformed)), "{row}");
        assert_eq!(steps(body).count(), body.len(), "{row}: byte by byte");
    }
}

#[test]
fn a_size_never_overflows() {
    let largest = format!("{MAX_SIZE:x}");
    assert_eq!(largest, "7ffffffffffffff");
    for digits in [largest.clone(), largest.to_uppercase(), format!("00{largest}")] {
        let mut decoder = Decoder::default();
        let line = format!("{digits}\r\n");
        assert_eq!(decoder.next(line.as_bytes()), Ok((line.len(), Piece::Again)));
        assert_eq!(decoder.at_least(), MAX_SIZE + 7);
        assert!(i64::try_from(decoder.at_least()).is_ok());
        assert_eq!(decoder.next(&[b'x'; 100]), Ok((0, Piece::Data(100))));
        assert_eq!(decoder.at_least(), MAX_SIZE + 7 - 100);
    }
    for digits in ["800000000000000", "7ffffffffffffff0", "ffffffffffffffff", "10000000000000000"] {
        assert_eq!(decode(digits.as_bytes(), &[]).end, Some(Err(Malformed)), "{digits}");
    }
    // Also where the size would be small again without its upper bits.
    let wrapped = format!("1{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(16));
    assert_eq!(decode(wrapped.as_bytes(), &[]).end, Some(Err(Malformed)));
}

#[test]
fn a_large_chunk_is_one_piece() {
    let chunk = [b"100000\r\n".as_slice(), &vec![b'x'; 1 << 20], b"\r\n0\r\n\r\n"].concat();
    let mut decoder = Decoder::default();
    assert_eq!(decoder.next(&chunk), Ok((8, Piece::Data(1 << 20))));
    assert_eq!(decoder.next(&chunk[8 + (1 << 20)..]), Ok((7, Piece::End)));
    assert!(size_of::<Decoder>() <= 16);
}

/// Framing up to its limit, and one byte beyond: both ways to fill a line with a size, and
/// trailers.
#[test]
fn framing_does_not_go_on_for_ever() {
    let line = usize::from(MAX_SIZE_LINE) - "1\r\n".len();
    let trailers = usize::from(MAX_TRAILERS) - "\r\n".len();
    let zeros = |length: usize| format!("{}1\r\nx\r\n0\r\n\r\n", "0".repeat(length));
    let extension = |length: usize| format!("1{}\r\nx\r\n0\r\n\r\n", ";".repeat(length));
    let last = |length: usize| format!("0{}\r\n\r\n", ";".repeat(length));
    let one_trailer = |length: usize| format!("0\r\n{}\r\n\r\n", "x".repeat(length - 2));
    let many_trailers = |length: usize| {
        let last = "x".repeat(2 + length % 4);
        format!("0\r\n{}{last}\r\n\r\n", "xx\r\n".repeat(length / 4 - 1))
    };
    // What came before does not count: each chunk has its own limit, and so have trailers.
    let after_others = |length: usize| extension(line).replace("0\r\n\r\n", &last(length));
    type Body<'a> = &'a dyn Fn(usize) -> String;
    let rows: [(&str, Body, usize); 6] = [
        ("zeros", &zeros, line),
        ("extension", &extension, line),
        ("last chunk's extension", &last, line),
        ("last chunk's extension after another", &after_others, line),
        ("one trailer", &one_trailer, trailers),
        ("many trailers", &many_trailers, trailers),
    ];
    for (name, body, length) in rows {
        let right = body(length);
        assert_eq!(decode(right.as_bytes(), &[]).end, Some(Ok(right.len())), "{name}");
        let wrong = body(length + 1);
        assert_eq!(decode(wrong.as_bytes(), &[]).end, Some(Err(Malformed)), "{name}");
    }
    let longest = last(line).replace("\r\n\r\n", &one_trailer(trailers)[1..]);
    assert_eq!(decode(longest.as_bytes(), &[]).end, Some(Ok(longest.len())));
    // Refused as soon as it is too long, not at the line's end.
    let endless = format!("1{}", ";".repeat(MAX_SIZE_LINE.into()));
    assert_eq!(decode(endless.as_bytes(), &[]).end, Some(Err(Malformed)));
    let endless = format!("0\r\n{}", "x".repeat(usize::from(MAX_TRAILERS) + 1));
    assert_eq!(decode(endless.as_bytes(), &[]).end, Some(Err(Malformed)));
}

#[test]
fn at_least_counts_what_must_come() {
    let rows = [
        ("", 5),
        ("0", 4),
        ("0;", 4),
        ("0\r", 3),
        ("0\r\n", 2),
        ("0\r\n\r", 1),
        ("0\r\n\r\n", 0),
        ("0\r\nA", 4),
        ("0\r\nA\r", 3),
        ("0\r\nA\r\n", 2),
        ("5", 2 + 5 + 7),
        ("10", 2 + 16 + 7),
        ("5;", 2 + 5 + 7),
        ("5\r", 1 + 5 + 7),
        ("5\r\n", 5 + 7),
        ("5\r\nhe", 3 + 7),
        ("5\r\nhello", 7),
        ("5\r\nhello\r", 6),
        ("5\r\nhello\r\n", 5),
    ];
    for (body, least) in rows {
        let (decoder, taken) = steps(body.as_bytes()).last().unwrap();
        assert_eq!(taken, body.len());
        assert_eq!(decoder.at_least(), least, "{body:?}");
    }
}
