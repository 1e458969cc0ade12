//! What goes on to the server of a start-up packet, and to which server.

use crate::config::{Config, Target};
use crate::tls::stream::Peer;
use crate::wire::startup::{Replication, Startup};

pub(super) const APPLICATION_NAME: &str = "application_name";

/// `NAMEDATALEN - 1`: the server keeps so many bytes of a name.
const NAME_MAX: usize = 63;

/// Between a name and the client's address, as PgBouncer has it.
const SEPARATOR: &[u8] = b" - ";

/// Where the client's server is. The log of a cluster belongs to none of its databases, and what
/// clients name then (`replication`, as libpq has it) is nobody's.
pub(super) fn target(config: &Config, startup: &Startup) -> Option<Target> {
    let named = config.target(startup.database());
    match startup.replication() {
        Some(Replication::Physical) => Some(named.unwrap_or_else(|| config.default_target())),
        Some(Replication::Logical) | None => named,
    }
}

/// The start-up packet as the server gets it.
pub(super) fn forwarded(config: &Config, startup: &Startup, peer: Peer) -> Startup {
    let named = if config.application_name_add_client {
        let name = startup
            .parameter_bytes(APPLICATION_NAME)
            .unwrap_or_default();
        startup.with_parameter(APPLICATION_NAME, &name_with_client(name, peer))
    } else {
        None
    };
    named.unwrap_or_else(|| startup.clone())
}

/// A name, shortened so that the client's address behind it stays whole.
fn name_with_client(name: &[u8], peer: Peer) -> Vec<u8> {
    let address = peer.to_string();
    if name.is_empty() {
        return address.into_bytes();
    }
    let room = NAME_MAX.saturating_sub(address.len() + SEPARATOR.len());
    let mut end = name.len().min(room);
    // As the server cuts names: not inside of a character.
    while end > 0 && name.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
        end -= 1;
    }
    [&name[..end], SEPARATOR, address.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gives_way_to_the_address() {
        let peer = Peer::Tcp(
            "[2001:db8:1111:2222:3333:4444:5555:6666]:50122"
                .parse()
                .expect("an address"),
        );
        let added = |name: &[u8]| name_with_client(name, peer);
        let address = b"[2001:db8:1111:2222:3333:4444:5555:6666]:50122";
        assert_eq!(added(b""), address);
        assert_eq!(added(b"psql"), [b"psql - ".as_slice(), address].concat());
        let long = added(b"a name of some length");
        assert_eq!(long, [b"a name of some - ".as_slice(), address].concat());
        assert_eq!(long.len(), NAME_MAX);
        // Fourteen bytes would end inside of the last character.
        let cut = added("a name of \u{e9}\u{20ac}x".as_bytes());
        assert_eq!(
            cut,
            [" a name of \u{e9} - ".trim_start().as_bytes(), address].concat()
        );
        // What is not UTF-8 stays as it is.
        assert_eq!(
            added(b"\xff\xfe"),
            [b"\xff\xfe - ".as_slice(), address].concat()
        );
        assert_eq!(name_with_client(b"x", Peer::Unix), b"x - [local]");
    }
}
