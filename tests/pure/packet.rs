//! The packet against the list of vars that were written to it.

use ngx_http_rs_uwsgi_module::pure::uwsgi::packet::{Packet, MAX_VARS};
use ngx_http_rs_uwsgi_module::pure::uwsgi::vars::Vars;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::fuzz::packet::{check, Write};
use crate::Bytes;

fn write(long: bool) -> impl Strategy<Value = Write> {
    let edge = proptest::sample::select(&[65_534, 65_535, 65_536, 70_000][..]);
    let text = || vec(any::<u8>(), 0..20);
    let value = prop_oneof![
        9 => text().boxed(),
        4 * u32::from(long) => edge.prop_map(|length| vec![b'v'; length]).boxed(),
    ];
    let name = prop_oneof![8 => text(), 1 => Just(b"Cookie".to_vec()), 1 => "[a-zA-Z-]{1,20}"
        .prop_map(String::into_bytes)];
    let pieces = vec(value.clone(), 0..4);
    prop_oneof![
        (name.clone(), value.clone()).prop_map(|(name, value)| Write::Var(name, value)),
        (value.clone(), text()).prop_map(|(name, value)| Write::Var(name, value)),
        (name.clone(), value.clone()).prop_map(|(name, value)| Write::Param(name, value)),
        (vec(any::<u8>(), 20..40), value.clone())
            .prop_map(|(name, value)| Write::Param(name, value)),
        (value.clone(), text()).prop_map(|(name, value)| Write::Param(name, value)),
        (name.clone(), pieces.clone()).prop_map(|(name, pieces)| Write::Pieces(name, pieces)),
        (name.clone(), pieces.clone()).prop_map(|(name, pieces)| Write::Cancelled(name, pieces)),
        (name.clone(), value).prop_map(|(name, value)| Write::Header(name, value)),
        (name.clone(), pieces).prop_map(|(name, values)| Write::Joined(name, values)),
        (name, text()).prop_map(|(name, value)| Write::Raw(name, value)),
        any::<usize>().prop_map(Write::Rewind),
    ]
}

/// Writes all into a packet that held other bytes before.
fn check_packet(writes: &[Write], max_vars: usize) {
    let mut packet = Packet::new();
    packet.var(b"LEFT OVER", &vec![b'x'; (MAX_VARS + 1) * (1 + writes.len() % 3)]);
    check(&mut packet, writes, max_vars);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_written_is_read_back(writes in vec(write(false), 0..12), max in 0..600_usize) {
        check_packet(&writes, max);
        check_packet(&writes, MAX_VARS);
    }

    #[test]
    fn too_much_is_refused_and_the_largest_var_named(writes in vec(write(true), 0..6)) {
        check_packet(&writes, usize::MAX);
    }

    #[test]
    fn vars_end_at_the_first_that_is_cut_short(bytes in vec(0..4_u8, 0..40)) {
        let read: Vec<_> = Vars::new(&bytes).collect();
        let whole = read.iter().flatten().map(|(name, value)| 4 + name.len() + value.len());
        let whole: usize = whole.sum();
        let cut = read.iter().filter(|var| var.is_err()).count();
        prop_assert_eq!(cut, usize::from(whole < bytes.len()));
        prop_assert!(read.iter().rev().skip(1).all(Result::is_ok));
    }
}

/// Sizes at both sides of every limit, alone and beside others.
#[test]
fn limits_are_exact_and_of_equals_the_first_is_named() {
    let var = |name: &str, length| Write::Var(name.into(), vec![b'v'; length]);
    let cases = [
        vec![var("A", MAX_VARS - 5)],
        vec![var("A", MAX_VARS - 4)],
        vec![var("A", MAX_VARS)],
        vec![var("A", MAX_VARS + 1)],
        vec![var("A", MAX_VARS + 1), var("B", MAX_VARS + 1)],
        vec![var("A", MAX_VARS), var("B", MAX_VARS)],
        vec![var("A", MAX_VARS + 1), var("B", 1), var("C", MAX_VARS + 2), var("D", 1)],
        vec![var("A", 1), var("B", MAX_VARS + 1), var(&"C".repeat(MAX_VARS), MAX_VARS)],
        vec![var(&"A".repeat(MAX_VARS), 0)],
        vec![var(&"A".repeat(MAX_VARS + 1), 0), var("B", MAX_VARS)],
    ];
    cases.iter().for_each(|writes| check_packet(writes, MAX_VARS));
    check_packet(&[var("A", 9), var("B", 9)], 9);
}

/// Each length is copied in its own way; all bytes differ from their neighbours, and from what the
/// buffer held.
#[test]
fn names_and_values_of_every_length() {
    let bytes =
        |length: usize| (0..length).map(|i| b"abcdefghijk-mnopqrs"[i % 19]).collect::<Bytes>();
    for length in 0..200 {
        for other in [0, 7] {
            let (long, short) = (bytes(length), bytes(other));
            check_packet(
                &[
                    Write::Param(long.clone(), short.clone()),
                    Write::Param(short.clone(), long.clone()),
                    Write::Header(long.clone(), short.clone()),
                    Write::Header(short, long),
                ],
                MAX_VARS,
            );
        }
    }
}
