//! Whom an authorization is about, and how what goes wrong is told of it: Reteno by its name, a CRM by its source.
//!
//! Pure. The errors themselves speak of Reteno; whoever shows one goes through here. Never quotes an answer.

use super::authorize_error::{AuthorizeError, Unproven};
use super::chain;
use super::desk::Settled;
use super::reaction::TokenError;

/// Who gives the tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Party {
    /// Reteno itself.
    Reteno,
    /// The CRM of the source with this name.
    Crm(String),
}

impl Party {
    /// The name that a pending authorization carries: no source has Reteno's.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Reteno => "reteno",
            Self::Crm(source) => source,
        }
    }

    /// What it is called within a sentence.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self {
            Self::Reteno => "Reteno".to_owned(),
            Self::Crm(source) => format!("the CRM of source {source}"),
        }
    }

    /// The command that begins an authorization.
    #[must_use]
    pub fn command(&self, program: &str) -> String {
        match self {
            Self::Reteno => format!("{program} --authorize"),
            Self::Crm(source) => format!("{program} --authorize --source {source}"),
        }
    }

    /// What a token request came to, with its causes.
    #[must_use]
    pub fn tell_token(&self, error: &TokenError) -> String {
        let Self::Crm(source) = self else { return chain(error) };
        let crm = self.in_words();
        let text = match error {
            TokenError::InvalidGrant => format!("{crm} refused the authorization code, refresh token or statement"),
            TokenError::InvalidClient => format!("{crm} refused the client id or secret"),
            TokenError::OtherRefusal { code } => format!("{crm} refused the token request with the error {code}"),
            TokenError::Temporary { cause, .. } => format!("cannot get tokens from {crm} for now, {cause}"),
            TokenError::Uncertain { cause, .. } => {
                format!("the answer to the token request of source {source} was lost, {cause}")
            }
            TokenError::NotUnderstood { cause } => {
                format!("cannot understand the answer to the token request of source {source}, {cause}")
            }
        };
        with_causes(text, error)
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn token_hint(&self, error: &TokenError) -> String {
        let Self::Crm(source) = self else { return error.hint().to_owned() };
        let section = format!("[source.{source}.auth]");
        match error {
            TokenError::InvalidGrant => format!(
                "where a person granted access, it has to be granted anew with `--authorize --source {source}`; \
                 otherwise compare {section} with the app's page in the CRM"
            ),
            TokenError::InvalidClient => format!(
                "compare client_id and client_secret of {section} with the app's page in the CRM; if they are right, \
                 try the other client_auth (body, basic)"
            ),
            TokenError::OtherRefusal { .. } => format!(
                "compare {section} with the app's page in the CRM: redirect_uri, scope, and client_auth (body, basic)"
            ),
            TokenError::Temporary { .. } => {
                format!("check the network of this machine and token_url of {section}, then try again")
            }
            TokenError::Uncertain { .. } => {
                "check the network of this machine, then run the same command again".to_owned()
            }
            TokenError::NotUnderstood { .. } => {
                format!("check token_url of {section}: something else than the CRM's token endpoint answers")
            }
        }
    }

    /// Why an authorization came to nothing, with its causes.
    #[must_use]
    pub fn tell(&self, error: &AuthorizeError) -> String {
        let Self::Crm(_) = self else { return chain(error) };
        let crm = self.in_words();
        match error {
            AuthorizeError::Refused => format!("access was refused on the page of {crm}"),
            AuthorizeError::OtherError { code } => format!("{crm} answered the authorization with the error {code}"),
            AuthorizeError::CodeRefused => {
                format!("{crm} refused the authorization code: it was used before or has expired")
            }
            AuthorizeError::Exchange(token) => {
                format!("cannot exchange the authorization code: {}", self.tell_token(token))
            }
            AuthorizeError::NoRefreshToken => format!("{crm} gave no refresh token"),
            AuthorizeError::WrongState
            | AuthorizeError::NoState
            | AuthorizeError::NoCode
            | AuthorizeError::NotPending
            | AuthorizeError::Superseded
            | AuthorizeError::TimedOut
            | AuthorizeError::NotProven { .. }
            | AuthorizeError::OtherAccount { .. }
            | AuthorizeError::SenderRuns { .. }
            | AuthorizeError::Vault(_)
            | AuthorizeError::Lock(_)
            | AuthorizeError::Desk(_)
            | AuthorizeError::FailedElsewhere { .. }
            | AuthorizeError::Terminal(_) => chain(error),
        }
    }

    /// What the operator can do about that. `program` is how this program is called with its configuration.
    #[must_use]
    pub fn hint(&self, program: &str, error: &AuthorizeError) -> String {
        let Self::Crm(source) = self else { return error.hint(program) };
        let (command, section) = (self.command(program), format!("[source.{source}.auth]"));
        match error {
            AuthorizeError::Refused => {
                format!("run `{command}` again and grant access as a user who may connect apps to the CRM")
            }
            AuthorizeError::OtherError { .. } => format!(
                "compare client_id, redirect_uri and scope of {section} with the app's page in the CRM, then run \
                 `{command}` again"
            ),
            AuthorizeError::WrongState => format!("open the address printed last by `{command}`, not an older one"),
            AuthorizeError::NoState => format!("paste the whole address of this page at the prompt of `{command}`"),
            AuthorizeError::NotPending
            | AuthorizeError::Superseded
            | AuthorizeError::TimedOut
            | AuthorizeError::CodeRefused => {
                format!("run `{command}` and open the address it prints within fifteen minutes")
            }
            AuthorizeError::Exchange(token) => self.token_hint(token),
            AuthorizeError::NoRefreshToken => format!(
                "set what the CRM wants for one in {section}: scope (offline_access, refresh_token) or \
                 authorize_extra (access_type = \"offline\")"
            ),
            AuthorizeError::NotProven { why: Unproven::ForNow | Unproven::Misdirected | Unproven::Refused, .. }
            | AuthorizeError::OtherAccount { .. }
            | AuthorizeError::SenderRuns { .. } => format!("run `{command}` again"),
            AuthorizeError::Terminal(_) => {
                format!("run `{program} authorize --source {source} --auth-response URL` with the redirected address")
            }
            AuthorizeError::NoCode
            | AuthorizeError::Vault(_)
            | AuthorizeError::Lock(_)
            | AuthorizeError::Desk(_)
            | AuthorizeError::FailedElsewhere { .. } => error.hint(program),
        }
    }

    /// Message, hint and ending, as another process reads them.
    #[must_use]
    pub fn settled(&self, program: &str, error: &AuthorizeError) -> Settled {
        Settled::Failed { message: self.tell(error), hint: self.hint(program, error), ending: error.ending() }
    }
}

fn with_causes(mut text: String, error: &dyn std::error::Error) -> String {
    if let Some(cause) = error.source() {
        text.push_str(": ");
        text.push_str(&chain(cause));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::tests::scripted::not_sent;

    #[test]
    fn what_is_told_of_a_crm_names_its_source_and_never_reteno() {
        let crm = Party::Crm("hub".to_owned());
        let temporary =
            TokenError::Temporary { cause: "no connection".to_owned(), retry_after: None, source: Some(not_sent()) };
        assert_eq!(
            crm.tell_token(&temporary),
            "cannot get tokens from the CRM of source hub for now, no connection: cannot reach uaa.example:443: \
             connection refused"
        );
        let tokens = || {
            [
                TokenError::InvalidGrant,
                TokenError::InvalidClient,
                TokenError::OtherRefusal { code: "x".to_owned() },
                TokenError::Uncertain { cause: "the answer is cut off", source: None },
                TokenError::NotUnderstood { cause: "it holds no access token".to_owned() },
            ]
        };
        let mut all: Vec<String> =
            tokens().iter().flat_map(|error| [crm.tell_token(error), crm.token_hint(error)]).collect();
        let errors = tokens().map(AuthorizeError::from).into_iter().chain([
            AuthorizeError::Refused,
            AuthorizeError::OtherError { code: "x".to_owned() },
            AuthorizeError::WrongState,
            AuthorizeError::NoState,
            AuthorizeError::NoCode,
            AuthorizeError::NotPending,
            AuthorizeError::TimedOut,
            AuthorizeError::NoRefreshToken,
        ]);
        for error in errors {
            all.extend([crm.tell(&error), crm.hint("prog", &error)]);
        }
        for text in all {
            assert!(!text.to_lowercase().contains("reteno"), "{text}");
        }
        assert_eq!(Party::Reteno.command("prog"), "prog --authorize");
        assert!(crm.hint("prog", &AuthorizeError::NotPending).contains("`prog --authorize --source hub`"));
    }
}
