//! `[listen]`: what the daemon's own HTTP listener binds.

use std::net::SocketAddr;

use serde::Deserialize;

use super::raw::Leaf;
use super::reader::Reader;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawListen {
    address: Option<Leaf>,
}

/// What is listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Health and the callback; `None` where it is `"off"`.
    pub address: Option<SocketAddr>,
}

pub(super) fn resolve(reader: &mut Reader, raw: &RawListen) -> Option<Listen> {
    const ADDRESS: &str = "IP:PORT such as \"127.0.0.1:8400\", or \"off\"";
    let address = match reader.text(raw.address.as_ref(), ADDRESS)? {
        "off" => None,
        _ => Some(socket(reader, raw.address.as_ref(), ADDRESS)?),
    };
    Some(Listen { address })
}

fn socket(reader: &mut Reader, leaf: Option<&Leaf>, accepted: &str) -> Option<SocketAddr> {
    let text = reader.text(leaf, accepted)?;
    match text.parse() {
        Ok(address) => Some(address),
        Err(_) => reader.refuse(leaf?, "is not an address with its port", accepted),
    }
}
