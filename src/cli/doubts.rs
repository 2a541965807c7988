//! What `check` says of a configuration that is right: what would surprise the operator later, or lets others in. Looks at
//! the modes of files; opens no connection and no checkpoint.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::config::{AuthConfig, Config, OAuthGrant, Redirect, SourceKind, holds_secrets};
use crate::contact::Catalog;
use crate::oauth::conversation::callback_address;

/// Everything worth a word.
pub(super) fn all(config: &Config, path: &Path) -> Vec<String> {
    // without a connection nobody knows which fields are dates
    let catalog = Catalog::empty();
    let of_sources = config
        .sources
        .iter()
        .flat_map(|source| source.doubt().into_iter().chain(source.clock_doubt(&catalog)).chain(source.id_doubt()));
    no_source(config)
        .into_iter()
        .chain(of_sources)
        .chain(config.doubts.iter().cloned())
        .chain(redirects(config))
        .chain(modes(config, path))
        .collect()
}

fn no_source(config: &Config) -> Option<String> {
    config.sources.is_empty().then(|| "no source is configured: nothing is read; add a table [source.NAME]".to_owned())
}

/// Every address that a browser is sent back to, with its key.
fn redirects(config: &Config) -> impl Iterator<Item = String> {
    let of_sources = config.sources.iter().filter_map(|source| match &source.auth {
        AuthConfig::OAuth2(oauth) => match &oauth.grant {
            OAuthGrant::RefreshToken { redirect, .. } => {
                redirect.as_ref().map(|redirect| (format!("source.{}.auth.redirect_uri", source.name), redirect))
            }
            OAuthGrant::ClientCredentials | OAuthGrant::JwtBearer { .. } => None,
        },
        AuthConfig::None | AuthConfig::Header { .. } => None,
    });
    let all = std::iter::once(("reteno.redirect_uri".to_owned(), &config.reteno.redirect)).chain(of_sources);
    all.filter_map(|(key, redirect)| {
        redirect_doubt(&key, redirect, (config.listen.address, config.listen.public_address))
    })
}

/// Where an address of this machine is not the one that the daemon serves.
fn redirect_doubt(
    key: &str,
    redirect: &Redirect,
    (own, public): (Option<SocketAddr>, Option<SocketAddr>),
) -> Option<String> {
    if !redirect.is_loopback() {
        return None;
    }
    let Some(callback) = callback_address(&redirect.url) else {
        return Some(format!(
            "{key} leads to this machine, but only http://127.0.0.1:PORT/callback is served here: the address at which the \
             browser ends has to be pasted"
        ));
    };
    if public.is_some_and(|public| public.port() == callback.port()) {
        return Some(format!(
            "{key} and listen.public_address have the same port {}: the browser's answer would come to what strangers \
             reach, which does not take it; give one of them another port",
            callback.port()
        ));
    }
    let own = own?;
    let is_served = own.port() == callback.port() && (own.ip() == callback.ip() || own.ip().is_unspecified());
    (!is_served).then(|| {
        format!(
            "{key} leads to {callback}, listen.address is {own}: a running daemon does not get the browser's answer, only \
             the command that authorizes does while it waits; make them agree"
        )
    })
}

/// Files and folders that others may read or write though they should not.
fn modes(config: &Config, path: &Path) -> Vec<String> {
    // what cannot be looked at here is told by whoever opens it
    let mode = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
    let mut doubts = Vec::new();
    if mode(path) & 0o002 != 0 {
        doubts.push(format!("{} can be changed by every user of this machine: chmod o-w {0}", path.display()));
    }
    if mode(path) & 0o004 != 0 && holds_secrets(path).unwrap_or(false) {
        doubts.push(format!(
            "{} holds a secret and can be read by every user of this machine: chmod o= {0}",
            path.display()
        ));
    }
    for source in &config.sources {
        if let SourceKind::Singer(tap) = &source.kind
            && mode(&tap.config) & 0o006 != 0
        {
            let file = tap.config.display();
            doubts.push(format!(
                "the tap's configuration {file}, which may hold a secret, is open to every user of this machine: chmod o= {file}"
            ));
        }
    }
    if mode(&config.state_dir) & 0o022 != 0 {
        doubts.push(format!(
            "the state directory {} can be written to by other users, who could put another checkpoint there: chmod 0700 {0}",
            config.state_dir.display()
        ));
    }
    doubts
}
