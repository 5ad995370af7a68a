//! The packet against the list of vars that were written to it.

use ngx_http_rs_uwsgi_module::pure::uwsgi::names::separator;
use ngx_http_rs_uwsgi_module::pure::uwsgi::packet::{Packet, TooLarge, VarName, MAX_VARS};
use ngx_http_rs_uwsgi_module::pure::uwsgi::vars::{Truncated, Vars};

use super::{Bytes, Input};

/// A number of bytes that may be used, whether the packet was used before, then writes.
pub fn fuzz(input: &[u8]) {
    let mut input = Input(input);
    let max_vars = input.one_of(&[MAX_VARS, usize::MAX, 0, 30, 200, 4096]);
    let mut packet = Packet::new();
    if input.byte() == 1 {
        packet.var(b"LEFT OVER", &vec![b'x'; 5000]);
    }
    let mut writes = Vec::new();
    // they take a thousand times as long as others
    let mut long = 3;
    while !input.is_empty() {
        writes.push(write(&mut input, &mut long));
    }
    check(&mut packet, &writes, max_vars);
}

fn write(input: &mut Input, long: &mut usize) -> Write {
    let kind = input.byte() % 8;
    if kind == 7 {
        return Write::Rewind(input.byte().into());
    }
    let name = if kind == 6 { text(input, &mut 0) } else { text(input, long) };
    match kind {
        0 => Write::Var(name, text(input, long)),
        1 => Write::Param(name, text(input, long)),
        2 => Write::Pieces(name, texts(input, long)),
        3 => Write::Cancelled(name, texts(input, long)),
        4 => Write::Header(name, text(input, long)),
        5 => Write::Joined(name, texts(input, long)),
        _ => Write::Raw(name, text(input, &mut 0)),
    }
}

fn texts(input: &mut Input, long: &mut usize) -> Vec<Bytes> {
    (0..input.byte() % 4).map(|_| text(input, long)).collect()
}

/// Bytes behind their number, or about as many as a length field can hold, where that is not done
/// too often.
fn text(input: &mut Input, long: &mut usize) -> Bytes {
    match input.byte() {
        length @ 0xfa.. if *long > 0 => {
            *long -= 1;
            vec![b'v'; 65_531 + usize::from(length - 0xfa)]
        }
        0xf9 => b"Cookie".to_vec(),
        length => input.take(usize::from(length)).to_vec(),
    }
}

/// One way of writing to a packet.
#[derive(Clone, Debug)]
pub enum Write {
    /// `var`.
    Var(Bytes, Bytes),
    /// `param`.
    Param(Bytes, Bytes),
    /// `begin_var`, `append` for each piece, `end_var`.
    Pieces(Bytes, Vec<Bytes>),
    /// The same with `cancel_var` at the end.
    Cancelled(Bytes, Vec<Bytes>),
    /// `header`.
    Header(Bytes, Bytes),
    /// `header_joined`.
    Joined(Bytes, Vec<Bytes>),
    /// `raw`, of a var.
    Raw(Bytes, Bytes),
    /// `rewind`, to where one of the writes before began: the number is taken modulo theirs.
    Rewind(usize),
}

impl Write {
    fn run(&self, packet: &mut Packet) {
        match self {
            Write::Var(name, value) => packet.var(name, value),
            Write::Param(name, value) => packet.param(&VarName::new(name), value),
            Write::Pieces(name, pieces) | Write::Cancelled(name, pieces) => {
                let mark = packet.begin_var(name);
                pieces.iter().for_each(|piece| packet.append(piece));
                assert_eq!(packet.value_len(&mark), pieces.concat().len());
                match self {
                    Write::Cancelled(..) => packet.cancel_var(mark),
                    _ => packet.end_var(mark),
                }
            }
            Write::Header(name, value) => packet.header(name, value),
            Write::Joined(name, values) => {
                packet.header_joined(name, values.iter().map(Vec::as_slice));
            }
            Write::Raw(name, value) => {
                let field = |bytes: &Bytes| u16::try_from(bytes.len()).unwrap().to_le_bytes();
                packet.raw(&[&field(name)[..], name, &field(value)[..], value].concat());
            }
            Write::Rewind(_) => {}
        }
    }

    /// The var that this is to leave behind, if any.
    fn var(&self) -> Option<(Bytes, Bytes)> {
        let http = |name: &Bytes| {
            let name = name.to_ascii_uppercase().into_iter();
            let name = name.map(|byte| if byte == b'-' { b'_' } else { byte });
            b"HTTP_".iter().copied().chain(name).collect()
        };
        match self {
            Write::Var(name, value) | Write::Param(name, value) | Write::Raw(name, value) => {
                Some((name.clone(), value.clone()))
            }
            Write::Pieces(name, pieces) => Some((name.clone(), pieces.concat())),
            Write::Header(name, value) => Some((http(name), value.clone())),
            Write::Joined(_, values) if values.is_empty() => None,
            Write::Joined(name, values) => Some((http(name), values.join(separator(name)))),
            Write::Cancelled(..) | Write::Rewind(_) => None,
        }
    }
}

/// Writes all into a packet, which may have been used, and compares with the list of vars.
pub fn check(packet: &mut Packet, writes: &[Write], max_vars: usize) {
    packet.clear();
    let mut vars: Vec<(Bytes, Bytes)> = Vec::new();
    let mut ends = Vec::new();
    for write in writes {
        ends.push((packet.end(), vars.len()));
        match write {
            Write::Rewind(place) => {
                let place = place % ends.len();
                let (end, count) = ends[place];
                packet.rewind(end);
                vars.truncate(count);
                ends.truncate(place + 1);
            }
            _ => {
                write.run(packet);
                vars.extend(write.var());
            }
        }
    }
    let vars = vars.iter().map(|(name, value)| (&name[..], &value[..])).collect::<Vec<_>>();
    let size: usize = vars.iter().map(|(name, value)| 4 + name.len() + value.len()).sum();
    assert_eq!(packet.vars_size(), size);
    let largest_size = vars.iter().map(|(n, v)| n.len() + v.len()).max();
    let largest = vars.iter().find(|(n, v)| Some(n.len() + v.len()) == largest_size);
    let largest = largest.map(|(n, v)| (*n, n.len() + v.len()));
    assert!(packet.largest_var() == largest, "not {largest:?}");
    if size <= MAX_VARS {
        assert!(packet.vars().eq(vars.iter().map(|var| Ok(*var))), "{vars:?}");
    }
    match packet.finish(9, 200, max_vars) {
        Ok(bytes) => {
            assert!(size <= max_vars.min(MAX_VARS));
            let [low, high] = u16::try_from(size).unwrap().to_le_bytes();
            assert_eq!(bytes[..4], [9, low, high, 200]);
            let read: Result<Vec<_>, Truncated> = Vars::new(&bytes[4..]).collect();
            assert!(read.as_ref() == Ok(&vars), "{vars:?}");
        }
        Err(error) => {
            assert!(size > max_vars.min(MAX_VARS));
            let (name, largest_size) = largest.unwrap();
            let expected = TooLarge { size, largest_name: name.to_vec(), largest_size };
            assert!(error == expected, "{} {}", error.size, error.largest_size);
        }
    }
}
