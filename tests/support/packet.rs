//! The uwsgi packet as a backend sees it: u8 modifier1, u16 LE size, u8 modifier2, then the vars,
//! each a u16 LE length and bytes for key and for value. Written apart from the module's own
//! encoder, so that a fault there is not repeated here.

use std::fmt;

/// One var: key and value.
pub type Var = (Vec<u8>, Vec<u8>);

/// A decoded packet, without the body.
#[derive(Clone, PartialEq, Eq)]
pub struct Packet {
    /// First byte of the header.
    pub modifier1: u8,
    /// Last byte of the header.
    pub modifier2: u8,
    /// The vars as they came, undecoded.
    pub raw: Vec<u8>,
    /// The vars in order.
    pub vars: Vec<Var>,
}

impl Packet {
    /// Decodes the packet that `bytes` begin with and returns it with what follows it.
    pub fn parse(bytes: &[u8]) -> Result<(Packet, &[u8]), String> {
        let (&[modifier1, low, high, modifier2], rest) =
            bytes.split_first_chunk().ok_or_else(|| format!("only {} bytes", bytes.len()))?;
        let size = usize::from(u16::from_le_bytes([low, high]));
        let raw = rest.get(..size).ok_or_else(|| format!("{} of {size} bytes", rest.len()))?;
        let vars = vars(raw)?;
        Ok((Packet { modifier1, modifier2, raw: raw.to_vec(), vars }, &rest[size..]))
    }

    /// The packet that carries `vars`: the inverse of `parse`.
    pub fn encode(modifier1: u8, modifier2: u8, vars: &[Var]) -> Vec<u8> {
        let mut raw = Vec::new();
        for part in vars.iter().flat_map(|(key, value)| [key, value]) {
            raw.extend(u16::try_from(part.len()).unwrap().to_le_bytes());
            raw.extend(part);
        }
        let [low, high] = u16::try_from(raw.len()).unwrap().to_le_bytes();
        [vec![modifier1, low, high, modifier2], raw].concat()
    }

    /// Every value of the var `key`, in order.
    pub fn all(&self, key: &str) -> Vec<String> {
        let named = self.vars.iter().filter(|(k, _)| k == key.as_bytes());
        named.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// The value of the var `key`; panics when it was sent twice.
    pub fn get(&self, key: &str) -> Option<String> {
        let mut all = self.all(key);
        assert!(all.len() < 2, "{key} was sent {} times", all.len());
        all.pop()
    }

    /// The names of all vars in order.
    pub fn names(&self) -> Vec<String> {
        self.vars.iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect()
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "modifier1 {} modifier2 {}", self.modifier1, self.modifier2)?;
        for (key, value) in &self.vars {
            writeln!(f, "  {} = {}", super::show(key), super::show(value))?;
        }
        Ok(())
    }
}

/// What a server needs to see of a request to `target`, body included, with `more` vars.
pub fn request(method: &str, target: &str, body: &[u8], more: &[(&str, &str)]) -> Vec<u8> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let length = body.len().to_string();
    let mut vars = vec![
        ("REQUEST_METHOD", method),
        ("REQUEST_URI", target),
        ("PATH_INFO", path),
        ("QUERY_STRING", query),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("SERVER_NAME", "t"),
        ("SERVER_PORT", "80"),
        ("CONTENT_LENGTH", if body.is_empty() { "" } else { &length }),
    ];
    vars.extend(more);
    let owned = |(key, value): (&str, &str)| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    let vars: Vec<Var> = vars.into_iter().map(owned).collect();
    [&Packet::encode(0, 0, &vars), body].concat()
}

fn vars(mut raw: &[u8]) -> Result<Vec<Var>, String> {
    let mut take = || -> Result<Option<Vec<u8>>, String> {
        if raw.is_empty() {
            return Ok(None);
        }
        let (&size, rest) = raw.split_first_chunk().ok_or("half a length")?;
        let size = usize::from(u16::from_le_bytes(size));
        let part = rest.get(..size).ok_or("a length beyond the packet")?;
        raw = &rest[size..];
        Ok(Some(part.to_vec()))
    };
    let mut vars = Vec::new();
    while let Some(key) = take()? {
        vars.push((key, take()?.ok_or("a key without a value")?));
    }
    Ok(vars)
}
