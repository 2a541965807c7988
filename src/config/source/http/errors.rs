//! `[source.NAME.errors.WORD]`: what the CRM's errors mean.

use std::time::Duration;

use http::HeaderName;
use serde::Deserialize;

use super::Resolver;
use crate::config::problem::KeyPath;
use crate::config::raw::Leaf;
use crate::source::http::description::{ErrorAction, ErrorRule};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawError {
    status: Option<Leaf>,
    body_path: Option<Leaf>,
    body_equals: Option<Leaf>,
    action: Option<Leaf>,
    wait: Option<Leaf>,
    wait_header: Option<Leaf>,
    wait_path: Option<Leaf>,
}

const ACTIONS: [(&str, ErrorAction); 7] = [
    ("retry", ErrorAction::Retry),
    ("rate_limited", ErrorAction::RateLimited),
    ("reauth", ErrorAction::Reauthorize),
    ("restart_at_cursor", ErrorAction::RestartAtCursor),
    ("ignore", ErrorAction::Ignore),
    ("fail_run", ErrorAction::FailRun),
    ("halt_source", ErrorAction::HaltSource),
];
const WAIT_MAX: Duration = Duration::from_hours(24);

impl Resolver<'_> {
    /// Those that look at the body go before those that do not, each in the order of the names.
    pub(super) fn errors(&mut self, leaf: Option<&Leaf>) -> Option<Vec<ErrorRule>> {
        let resolved: Vec<_> = self
            .named(leaf)?
            .into_iter()
            .map(|(name, leaf)| {
                let raw = self.section::<RawError>(Some(&leaf))??;
                self.error(name, &leaf.key, &raw)
            })
            .collect();
        let mut rules = resolved.into_iter().collect::<Option<Vec<_>>>()?;
        rules.sort_by_key(|rule| rule.body.is_none());
        Some(rules)
    }

    fn error(&mut self, name: String, section: &KeyPath, raw: &RawError) -> Option<ErrorRule> {
        self.reader.required(raw.status.as_ref(), &section.child("status"), "a status such as 429");
        let status = self.reader.whole(raw.status.as_ref(), 100..=599).and_then(|status| u16::try_from(status).ok());
        self.reader.required(raw.action.as_ref(), &section.child("action"), "\"retry\" | \"rate_limited\" | …");
        let action = self.reader.choice(raw.action.as_ref(), &ACTIONS, &[]);
        let body_path = self.json_path(raw.body_path.as_ref());
        let equals = match &raw.body_equals {
            Some(leaf) => self.value(leaf).map(Some),
            None => Some(None),
        };
        let body = match (body_path?, equals?) {
            (Some(path), Some(equals)) => Some((path, equals)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                let problem = self.reader.problem(section, "has one of body_path and body_equals");
                self.reader.push(problem.accepted("both, or neither"));
                return None;
            }
        };
        let wait = match &raw.wait {
            Some(leaf) => self.reader.duration(Some(leaf), Duration::ZERO..=WAIT_MAX).map(Some),
            None => Some(None),
        };
        let wait_header = match &raw.wait_header {
            Some(leaf) => {
                let text = self.reader.text(Some(leaf), "the name of a header")?.to_owned();
                match HeaderName::try_from(text.as_str()) {
                    Ok(name) => Some(Some(name)),
                    Err(_) => self.reader.refuse(leaf, "is no name of a header", "such as \"retry-after\""),
                }
            }
            None => Some(None),
        };
        let wait_path = self.json_path(raw.wait_path.as_ref());
        Some(ErrorRule {
            name,
            status: status?,
            body,
            action: action?,
            wait: wait?,
            wait_header: wait_header?,
            wait_path: wait_path?,
        })
    }
}
