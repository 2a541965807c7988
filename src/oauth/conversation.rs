//! The conversation of `--authorize` with the operator: what is printed, and what is read while the listener waits.
//!
//! Knows no listener: whoever serves the callback settles it at the desk, where this looks. Prints no code and no
//! token; the printed address carries the state, as it must.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};
use tokio::time::MissedTickBehavior;
use url::{Host, Url};

use super::authorize::{Authorizer, PendingAuthorization};
use super::authorize_error::AuthorizeError;
use super::desk::{AuthorizationDesk, PendingRecord, Settled};
use super::party::Party;
use super::response::Origin;
use super::token::Grant;
use crate::random::Random;

/// How often the desk is asked whether the listener has finished it: one row, and nobody notices the wait.
const DESK_EVERY: Duration = Duration::from_millis(250);
/// The path the listener serves.
const CALLBACK_PATH: &str = "/callback";

/// How the answer can reach this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meeting {
    /// Where the callback is served now, by this process or by a running daemon. `None`: only pasting is left.
    pub listening: Option<SocketAddr>,
    /// What to write after `ssh -L …`, e.g. `user@host`; `USER@HOST` where it is not known.
    pub ssh_target: String,
}

/// How the conversation ended without an error.
#[derive(Debug)]
pub enum Concluded {
    /// The grant is stored.
    Granted(Grant),
    /// Nothing can arrive here (no listener, standard input at its end); the authorization waits for
    /// `--auth-response`.
    LeftOpen,
}

/// The address to listen on for a callback, where `redirect_uri` leads to this machine's loopback and to our path.
#[must_use]
pub fn callback_address(redirect_uri: &Url) -> Option<SocketAddr> {
    let url = redirect_uri;
    let address = match url.host()? {
        Host::Ipv4(address) => IpAddr::V4(address),
        Host::Ipv6(address) => IpAddr::V6(address),
        Host::Domain("localhost") => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Host::Domain(_) => return None,
    };
    let ours = address.is_loopback() && url.scheme() == "http" && url.path() == CALLBACK_PATH;
    ours.then(|| url.port_or_known_default()).flatten().map(|port| SocketAddr::new(address, port))
}

/// What the app must be allowed, where it is known: with less, access is granted and calls are refused later.
fn scope_note(party: &Party) -> &'static str {
    match party {
        Party::Reteno => {
            "The app needs the scope \"Full access to API\" (in Reteno: For partners, this app). Tokens keep the scope of now:\n\
             after a change of it run this command again.\n\n"
        }
        Party::Crm(_) => "",
    }
}

/// What the operator reads first.
#[must_use]
pub fn build_invitation(pending: &PendingAuthorization, meeting: &Meeting) -> String {
    let mut text = format!("Open this address in a browser and grant access:\n\n  {}\n\n", pending.url);
    if let Some(address) = meeting.listening {
        let port = address.port();
        let target = &meeting.ssh_target;
        text.push_str(
            "The answer is awaited here for fifteen minutes. If the browser runs on another machine, first\n",
        );
        text.push_str("open a tunnel there and keep it open:\n\n");
        let tunnel = format!("  ssh -L {port}:{address} {target}\n\n");
        text.push_str(&tunnel);
        text.push_str("Or paste the address at which the browser ended (or the bare code) here and press Enter:\n");
    } else {
        text.push_str("Then paste the address at which the browser ended (or the bare code) here and press Enter,\n");
        text.push_str("within fifteen minutes. A page that cannot be shown is no harm: its address is what counts.\n");
    }
    text
}

/// Begins an authorization, invites the operator, and waits for whichever answer comes first: at the listener, through
/// another process, or as a line of `input`. A line that cannot be right is answered with its hint, and may be followed
/// by a better one.
pub async fn run_authorize(
    authorizer: &Authorizer,
    desk: &dyn AuthorizationDesk,
    random: &Random,
    meeting: &Meeting,
    (input, output): (impl AsyncBufRead + Unpin, &mut (impl Write + ?Sized)),
) -> Result<Concluded, AuthorizeError> {
    let (pending, record) = authorizer.begin(desk, random).await?;
    write!(output, "{}{}", scope_note(authorizer.party()), build_invitation(&pending, meeting))?;
    output.flush()?;
    let mut lines = input.lines();
    let mut open = true;
    let mut looks = tokio::time::interval(DESK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            line = lines.next_line(), if open => match line? {
                Some(line) if line.trim().is_empty() => {}
                Some(line) => {
                    if let Some(grant) = take_line(authorizer, desk, &line, output).await? {
                        return Ok(Concluded::Granted(grant));
                    }
                }
                None if meeting.listening.is_none() => {
                    write_left_open(authorizer, output)?;
                    return Ok(Concluded::LeftOpen);
                }
                None => open = false,
            },
            _ = looks.tick() => {
                if let Some(grant) = look(authorizer, desk, &record).await? {
                    return Ok(Concluded::Granted(grant));
                }
            }
        }
    }
}

async fn take_line(
    authorizer: &Authorizer,
    desk: &dyn AuthorizationDesk,
    line: &str,
    output: &mut (impl Write + ?Sized),
) -> Result<Option<Grant>, AuthorizeError> {
    match authorizer.complete(desk, line, Origin::Pasted).await {
        Ok(grant) => Ok(Some(grant)),
        Err(error @ (AuthorizeError::WrongState | AuthorizeError::NoState | AuthorizeError::NoCode)) => {
            let party = authorizer.party();
            writeln!(output, "{}\nhint: {}", party.tell(&error), party.hint(&authorizer.mandate().program, &error))?;
            output.flush()?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn write_left_open(authorizer: &Authorizer, output: &mut (impl Write + ?Sized)) -> Result<(), AuthorizeError> {
    let program = &authorizer.mandate().program;
    let command = match authorizer.party() {
        Party::Reteno => format!("{program} authorize --auth-response URL"),
        Party::Crm(source) => format!("{program} authorize --source {source} --auth-response URL"),
    };
    writeln!(output, "Nothing can be read here. Finish it within fifteen minutes with:\n\n  {command}\n")?;
    Ok(output.flush()?)
}

/// Has whoever serves the callback finished it?
async fn look(
    authorizer: &Authorizer,
    desk: &dyn AuthorizationDesk,
    ours: &PendingRecord,
) -> Result<Option<Grant>, AuthorizeError> {
    let present = desk.pending().await?.filter(|(record, _)| record.state_hash == ours.state_hash);
    let (_, outcome) = present.ok_or(AuthorizeError::Superseded)?;
    match outcome {
        Some(Settled::Done) => authorizer.stored().await?.ok_or(AuthorizeError::NotPending).map(Some),
        Some(Settled::Failed { message, hint, ending }) => {
            Err(AuthorizeError::FailedElsewhere { message, hint, ending })
        }
        None if ours.is_void(authorizer.clock().now()) => {
            let timed_out = AuthorizeError::TimedOut;
            let settled = authorizer.party().settled(&authorizer.mandate().program, &timed_out);
            desk.settle(ours.state_hash, settled).await?;
            Err(timed_out)
        }
        None => Ok(None),
    }
}
