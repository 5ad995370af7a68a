//! What is answered below a location of `rs_uwsgi_status` to who asks whether it is worth while to send requests
//! here: a load balancer in front.

use super::ask::below;
use crate::pure::health::State;

/// The servers of an upstream that are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Servers {
    /// How many there are.
    pub all: usize,
    /// How many of them are down. Of the others it may not be known yet that they are up.
    pub down: usize,
}

impl Servers {
    /// Adds one in this state.
    pub fn add(&mut self, state: State) {
        self.all += 1;
        self.down += usize::from(state == State::Down);
    }

    fn are_down(self) -> bool {
        self.all > 0 && self.down == self.all
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// After all upstreams.
    All,
    /// After those with this name.
    Of(&'a [u8]),
}

/// Is it this that a path asks for: `health`, or `health/NAME`, below the location? As [`super::ask::format`].
pub fn asked<'a>(location: &[u8], uri: &'a [u8]) -> Option<Asked<'a>> {
    let path = match below(location, uri) {
        Some(path) => path,
        None => {
            let place = uri.windows(8).position(|part| part == b"/health/");
            let place = place.or_else(|| uri.ends_with(b"/health").then(|| uri.len() - 7))?;
            uri.get(place + 1..)?
        }
    };
    match path.strip_prefix(b"health")? {
        b"" | b"/" => Some(Asked::All),
        name => name.strip_prefix(b"/").map(Asked::Of),
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Does each upstream that was asked after have a server that is not down? One whose servers are not checked
    /// counts as if it had.
    pub is_well: bool,
    /// A line of text.
    pub text: String,
}

/// The answer of these upstreams: their names, and their servers that are checked, where any are. None where there
/// is no upstream of the name that is asked after.
pub fn answer(
    asked: Asked<'_>,
    upstreams: impl Iterator<Item = (Vec<u8>, Option<Servers>)>,
) -> Option<Answer> {
    let name = match asked {
        Asked::All => None,
        Asked::Of(name) => Some(name),
    };
    let mut upstreams = upstreams.filter(|(own, _)| name.is_none_or(|name| own == name)).peekable();
    if name.is_some() {
        upstreams.peek()?;
    }
    let mut sum: Option<Servers> = None;
    let mut down = Vec::new();
    for (own, servers) in upstreams {
        let Some(servers) = servers else { continue };
        if servers.are_down() {
            down.push(own.escape_ascii().to_string());
        }
        let sum = sum.get_or_insert_default();
        (sum.all, sum.down) = (sum.all + servers.all, sum.down + servers.down);
    }
    let is_well = down.is_empty();
    let text = match (is_well, sum) {
        (false, _) => format!("down: {}\n", down.join(", ")),
        (true, None) => "up: not checked\n".to_owned(),
        (true, Some(Servers { all, down })) => format!("up: {} of {all} servers\n", all - down),
    };
    Some(Answer { is_well, text })
}

#[cfg(test)]
mod tests {
    use super::{answer, asked, Asked, Servers};

    #[test]
    fn paths() {
        for (location, uri, expected) in [
            ("/status/", "/status/health", Some(Asked::All)),
            ("/status/", "/status/health/", Some(Asked::All)),
            ("/status", "/status/health", Some(Asked::All)),
            ("/status/", "/status/health/app", Some(Asked::Of(b"app"))),
            ("/status/", "/status/health/unix:/run/a", Some(Asked::Of(b"unix:/run/a"))),
            ("/", "/health/health", Some(Asked::Of(b"health"))),
            ("/status/", "/status/healthy", None),
            ("/status/", "/status/x/health", None),
            ("/status/", "/status/json", None),
            // a regular expression
            ("^/s", "/s/health", Some(Asked::All)),
            ("^/s", "/s/health/app", Some(Asked::Of(b"app"))),
            ("^/s", "/s/healthy", None),
        ] {
            assert_eq!(asked(location.as_bytes(), uri.as_bytes()), expected, "{location} {uri}");
        }
    }

    #[test]
    fn answers() {
        let servers = |down, all| Some(Servers { all, down });
        let said = |name: Option<&[u8]>, upstreams: &[(&str, Option<Servers>)]| {
            let upstreams =
                upstreams.iter().map(|(name, known)| (name.as_bytes().to_vec(), *known));
            let answer = answer(name.map_or(Asked::All, Asked::Of), upstreams)?;
            Some((answer.is_well, answer.text))
        };
        let all = [("a", servers(1, 2)), ("b", servers(2, 2)), ("c", None), ("d", servers(0, 0))];
        let [a, .., c, d] = all;
        for (name, of, expected) in [
            (None, &all[..], Some((false, "down: b\n"))),
            (None, &[a, d], Some((true, "up: 1 of 2 servers\n"))),
            (None, &[c], Some((true, "up: not checked\n"))),
            (None, &[], Some((true, "up: not checked\n"))),
            (
                None,
                &[("b\n", servers(1, 1)), ("e", servers(1, 1))],
                Some((false, "down: b\\n, e\n")),
            ),
            (Some("a"), &all, Some((true, "up: 1 of 2 servers\n"))),
            (Some("b"), &all, Some((false, "down: b\n"))),
            (Some("c"), &all, Some((true, "up: not checked\n"))),
            (Some("d"), &all, Some((true, "up: 0 of 0 servers\n"))),
            (Some("e"), &all, None),
            (Some(""), &all, None),
        ] {
            let expected = expected.map(|(is_well, text)| (is_well, text.to_owned()));
            assert_eq!(said(name.map(str::as_bytes), of), expected, "{name:?} {of:?}");
        }
    }
}
