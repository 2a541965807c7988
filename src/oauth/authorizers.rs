//! Everyone whose authorization this process may complete. An answer is completed by the one that the pending
//! authorization names, whoever's listener it reaches.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::authorize::{Authorizer, CallbackPage, complete_callback};
use super::desk::{AuthorizationDesk, DeskError};

/// Reteno's authorizer, and those of CRMs by their sources.
#[derive(Clone)]
pub struct Authorizers {
    reteno: Arc<Authorizer>,
    crms: BTreeMap<String, Arc<Authorizer>>,
}

impl Authorizers {
    /// Reteno's, and those of `crms`, each named by its mandate.
    #[must_use]
    pub fn of(reteno: Arc<Authorizer>, crms: impl IntoIterator<Item = Arc<Authorizer>>) -> Self {
        let named = |authorizer: Arc<Authorizer>| (authorizer.mandate().source.clone(), authorizer);
        Self { reteno, crms: crms.into_iter().map(named).collect() }
    }

    /// The one that the pending authorization names; Reteno's where there is none, or where its source is not configured
    /// any more: nothing waits for an answer then, and that is what it says.
    pub async fn awaited(&self, desk: &dyn AuthorizationDesk) -> Result<&Arc<Authorizer>, DeskError> {
        let pending = desk.pending().await?;
        let crm = pending.and_then(|(record, _)| self.crms.get(&record.source));
        Ok(crm.unwrap_or(&self.reteno))
    }

    /// Completes a callback by the one that it is for, and says the source of that one, where it is a CRM's. To be run as
    /// [`complete_callback`] is.
    pub async fn complete_callback(&self, desk: &dyn AuthorizationDesk, query: &str) -> (CallbackPage, Option<String>) {
        // a desk that cannot be read is told by whoever tries to complete it
        let authorizer = self.awaited(desk).await.unwrap_or(&self.reteno);
        let page = complete_callback(authorizer, desk, query).await;
        let source = authorizer.mandate().source.clone();
        (page, self.crms.contains_key(&source).then_some(source))
    }
}
