//! Where clients connect, and what is asked of them there.

use std::fmt;

use ipnet::IpNet;
use serde::de::{MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};

use super::address::ListenAddress;
use super::words::ClientTls;

/// A place to listen on.
#[derive(Clone, Debug, PartialEq)]
pub struct Listen {
    /// The address.
    pub address: ListenAddress,
    /// What clients must do about encryption there.
    pub tls: ClientTls,
    /// From these addresses a connection begins with a PROXY header that tells the client's.
    pub proxy_from: Vec<IpNet>,
}

/// An item of `listen` as it is written: an address, or a table with one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RawListen {
    pub(super) address: ListenAddress,
    pub(super) tls: Option<ClientTls>,
    pub(super) proxy_protocol: Vec<IpNet>,
}

impl From<ListenAddress> for RawListen {
    fn from(address: ListenAddress) -> Self {
        Self {
            address,
            tls: None,
            proxy_protocol: Vec::new(),
        }
    }
}

/// The table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    address: ListenAddress,
    tls: Option<ClientTls>,
    #[serde(default)]
    proxy_protocol: Vec<IpNet>,
}

impl<'de> Deserialize<'de> for RawListen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AddressOrTable)
    }
}

struct AddressOrTable;

impl<'de> Visitor<'de> for AddressOrTable {
    type Value = RawListen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address, or a table { address = \"...\", tls = \"...\" }")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawListen, E> {
        text.parse::<ListenAddress>()
            .map(RawListen::from)
            .map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawListen, A::Error> {
        let table = Table::deserialize(MapAccessDeserializer::new(map))?;
        Ok(RawListen {
            address: table.address,
            tls: table.tls,
            proxy_protocol: table.proxy_protocol,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Holder {
        listen: Vec<RawListen>,
    }

    #[test]
    fn an_address_alone_and_a_table_mean_the_same() {
        let text = "listen = ['127.0.0.1:6432', { address = '127.0.0.1:6432' }]";
        let read: Holder = toml::from_str(text).expect("well formed");
        assert_eq!(read.listen[0], read.listen[1]);
    }

    #[test]
    fn a_table_says_what_is_asked_of_clients() {
        let text = "listen = [{ address = 'localhost:1', tls = 'verify-full', \
                    proxy_protocol = ['10.0.0.0/8'] }]";
        let read: Holder = toml::from_str(text).expect("well formed");
        assert_eq!(read.listen[0].tls, Some(ClientTls::VerifyFull));
        assert_eq!(read.listen[0].proxy_protocol.len(), 1);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("listen = [{ tls = 'allow' }]", "missing field `address`"),
            ("listen = [{ address = 'x' }]", "\"x\" is not an address"),
            (
                "listen = [{ address = 'localhost:1', tls = 'on' }]",
                "expected one of `disable`",
            ),
            ("listen = [5]", "an address, or a table"),
        ] {
            let error = toml::from_str::<Holder>(text).err().expect(text);
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
    }
}
