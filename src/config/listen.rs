//! `[listen]`: what the daemon's own HTTP listener binds, and how the world reaches the public part of it.

use std::net::SocketAddr;

use serde::Deserialize;
use url::Url;

use super::raw::Leaf;
use super::reader::Reader;
use super::reteno;

const ADDRESS: &str = "IP:PORT such as \"127.0.0.1:8400\", or \"off\"";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawListen {
    address: Option<Leaf>,
    public_address: Option<Leaf>,
    public_url: Option<Leaf>,
    names: Option<Leaf>,
}

/// What is listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Health and the callback; `None` where it is `"off"`.
    pub address: Option<SocketAddr>,
    /// What strangers may reach, and nothing else: exports. `None` where it is `"off"`. Another port than `address`.
    pub public_address: Option<SocketAddr>,
    /// How Reteno reaches `public_address`, without a slash at its end unless it is the root; https, or http to loopback.
    pub public_url: Option<Url>,
    /// Names of hosts by which `address` is asked, beside IP addresses, local names and those of redirects.
    pub names: Vec<String>,
}

pub(super) fn resolve(reader: &mut Reader, raw: &RawListen) -> Option<Listen> {
    let address = bound(reader, raw.address.as_ref());
    let public_address = bound(reader, raw.public_address.as_ref());
    let public_url = reteno::address(reader, raw.public_url.as_ref(), None);
    let names = host_names(reader, raw.names.as_ref());
    let (address, public_address) = (address?.socket(), public_address?.socket());
    if let (Some(own), Some(public), Some(leaf)) = (address, public_address, &raw.public_address)
        && own.port() == public.port()
        && own.port() != 0
    {
        let accepted = "an address with another port, or \"off\"";
        return reader.refuse(leaf, "has the port of listen.address, which is not for strangers", accepted);
    }
    Some(Listen { address, public_address, public_url, names: names? })
}

fn host_names(reader: &mut Reader, leaf: Option<&Leaf>) -> Option<Vec<String>> {
    const ACCEPTED: &str = "a list of names of hosts, such as [\"sync.example.com\"]";
    let names = reader.list(leaf, ACCEPTED)?;
    if names.iter().any(|name| name.contains(['/', ':', '*'])) {
        return reader.refuse(leaf?, "holds more than the name of a host", ACCEPTED);
    }
    Some(names)
}

enum Bound {
    Off,
    To(SocketAddr),
}

impl Bound {
    fn socket(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::To(address) => Some(address),
        }
    }
}

fn bound(reader: &mut Reader, leaf: Option<&Leaf>) -> Option<Bound> {
    match reader.text(leaf, ADDRESS)? {
        "off" => Some(Bound::Off),
        text => match text.parse() {
            Ok(address) => Some(Bound::To(address)),
            Err(_) => reader.refuse(leaf?, "is not an address with its port", ADDRESS),
        },
    }
}
