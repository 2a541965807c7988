//! Where events go: the webhooks that were registered, and whether their receiver still gets any. Sends nothing.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Timestamp;

use super::options::{CrmWebhook, Dialect};

/// amoCRM disables a webhook after more bad answers than this within [`BAD_WINDOW`], if the latest is bad too.
const AMOCRM_BAD_MAX: usize = 100;
const BAD_WINDOW: Duration = Duration::from_hours(2);
/// Pipedrive bans a receiver whose first attempts failed this often, and what happens meanwhile is lost.
const PIPEDRIVE_FAILURES_MAX: u32 = 10;
const PIPEDRIVE_BAN: Duration = Duration::from_mins(30);
/// What all of amoCRM's contact events are called when they are asked for.
const AMOCRM_SETTINGS: [&str; 5] =
    ["add_contact", "update_contact", "delete_contact", "restore_contact", "responsible_contact"];

/// One registered webhook.
#[derive(Clone, Debug)]
pub(super) struct Hook {
    pub(super) id: u64,
    pub(super) to: CrmWebhook,
    /// amoCRM: which events; Pipedrive: its one action or `*`.
    pub(super) settings: Vec<String>,
    pub(super) made: Timestamp,
    pub(super) disabled: bool,
    bad: VecDeque<Timestamp>,
    failures: u32,
    banned_until: Option<Timestamp>,
}

impl Hook {
    /// Whether an event that happens now has somewhere to go.
    pub(super) fn takes(&self, now: Timestamp, setting: &str) -> bool {
        let wanted = self.settings.iter().any(|wanted| wanted == "*" || wanted == setting);
        wanted && !self.disabled && self.banned_until.is_none_or(|until| until <= now)
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Hooks {
    all: Vec<Hook>,
    next: u64,
}

impl Hooks {
    pub(super) fn new(webhooks: &[CrmWebhook]) -> Self {
        let mut hooks = Self { all: Vec::new(), next: 839_601 };
        for webhook in webhooks {
            hooks.add(webhook.clone(), None, Timestamp(0));
        }
        hooks
    }

    /// Registers one for everything, or for some `settings`. The same URL of the same vendor is replaced.
    pub(super) fn add(&mut self, to: CrmWebhook, settings: Option<Vec<String>>, now: Timestamp) -> &Hook {
        self.all.retain(|hook| (hook.to.dialect, &hook.to.url) != (to.dialect, &to.url));
        let all = || match to.dialect {
            Dialect::AmoCrm => AMOCRM_SETTINGS.map(str::to_owned).to_vec(),
            Dialect::HubSpot | Dialect::Pipedrive => vec!["*".to_owned()],
        };
        let settings = settings.unwrap_or_else(all);
        let id = self.next;
        self.next += 1;
        let (bad, failures, banned_until) = (VecDeque::new(), 0, None);
        self.all.push(Hook { id, to, settings, made: now, disabled: false, bad, failures, banned_until });
        &self.all[self.all.len() - 1]
    }

    pub(super) fn of(&self, dialect: Dialect) -> impl Iterator<Item = &Hook> {
        self.all.iter().filter(move |hook| hook.to.dialect == dialect)
    }

    pub(super) fn get(&self, id: u64) -> Option<&Hook> {
        self.all.iter().find(|hook| hook.id == id)
    }

    /// Removes what `which` chooses; whether there was any.
    pub(super) fn remove(&mut self, which: impl Fn(&Hook) -> bool) -> bool {
        let before = self.all.len();
        self.all.retain(|hook| !which(hook));
        self.all.len() < before
    }

    /// What a receiver's answer does to its webhook.
    pub(super) fn answered(&mut self, id: u64, good: bool, attempt: u32, now: Timestamp) {
        let Some(hook) = self.all.iter_mut().find(|hook| hook.id == id) else { return };
        match hook.to.dialect {
            Dialect::AmoCrm => {
                while hook.bad.pop_front_if(|at| at.plus(BAD_WINDOW) <= now).is_some() {}
                if !good {
                    hook.bad.push_back(now);
                    hook.disabled = hook.bad.len() > AMOCRM_BAD_MAX;
                }
            }
            Dialect::HubSpot => {}
            Dialect::Pipedrive => {
                if attempt == 1 {
                    hook.failures = if good { 0 } else { hook.failures + 1 };
                }
                if hook.failures >= PIPEDRIVE_FAILURES_MAX {
                    hook.failures = 0;
                    hook.banned_until = Some(now.plus(PIPEDRIVE_BAN));
                }
            }
        }
    }
}
