//! The tokens of CRMs, as `status` tells them: what is stored, and what the configuration lacks.

use crate::clock::Timestamp;
use crate::config::{AuthConfig, Config, OAuthGrant};
use crate::daemon::compose::Surroundings;
use crate::daemon::crms;
use crate::oauth::token::Grant;
use crate::report;

use super::Failure;
use super::status::token_state;

/// The tokens of one source.
pub(super) struct CrmTokens {
    source: String,
    grant: Option<Grant>,
    refresh_token_ends: Option<Timestamp>,
    /// Whether a person has to grant them.
    asks_person: bool,
}

/// Those of all sources that want some.
pub(super) async fn load(config: &Config, around: &Surroundings) -> Result<Vec<CrmTokens>, Failure> {
    let mut all = Vec::new();
    for source in &config.sources {
        let AuthConfig::OAuth2(oauth) = &source.auth else { continue };
        let owner = crms::owner(source, oauth);
        let grant = around.store.call(move |checkpoint| checkpoint.load_source_grant(&owner)).await?;
        let asks_person = match oauth.grant {
            OAuthGrant::RefreshToken { .. } => true,
            OAuthGrant::ClientCredentials | OAuthGrant::JwtBearer { .. } => false,
        };
        let lifetime = oauth.refresh_token_lifetime.filter(|_| asks_person);
        let refresh_token_ends = grant.as_ref().zip(lifetime).map(|(grant, life)| grant.requested_at.plus(life));
        all.push(CrmTokens { source: source.name.clone(), grant, refresh_token_ends, asks_person });
    }
    Ok(all)
}

/// By source.
pub(super) fn document(all: &[CrmTokens]) -> serde_json::Value {
    let entry = |tokens: &CrmTokens| {
        let state = match &tokens.grant {
            Some(grant) => token_state(grant),
            None if tokens.asks_person => "needs authorization",
            None => "none yet",
        };
        let value = serde_json::json!({
            "state": state,
            "base_url": tokens.grant.as_ref().and_then(|grant| grant.base_url.clone()),
            "access_token_expires_at": tokens.grant.as_ref().map(Grant::expires_at),
            "refresh_token_expires_at": tokens.refresh_token_ends,
        });
        (tokens.source.clone(), value)
    };
    all.iter().map(entry).collect::<serde_json::Map<_, _>>().into()
}

/// One line a source.
pub(super) fn rows(all: &[CrmTokens], program: &str, now: Timestamp) -> Vec<Vec<String>> {
    let line = |tokens: &CrmTokens| {
        let text = match &tokens.grant {
            None if tokens.asks_person => format!("none: run `{}`", crms::command(&tokens.source, program)),
            None => "none yet: they are asked for when the source is read".to_owned(),
            Some(grant) => {
                let access = report::span(grant.expires_at().since(now));
                let refresh =
                    tokens.refresh_token_ends.map(|at| format!(", refresh token in {}", report::span(at.since(now))));
                format!("{}; access token ends in {access}{}", token_state(grant), refresh.unwrap_or_default())
            }
        };
        vec![format!("tokens of {}", tokens.source), text]
    };
    all.iter().map(line).collect()
}
