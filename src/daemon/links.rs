//! The ways to the CRMs of a configuration, each made once: their rates, tokens and blocks belong to the process, not to
//! one read.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{Config, SourceConfig, SourceKind};
use crate::http::Exchange;
use crate::http::socket::{HttpExchange, Timeouts};
use crate::source::HttpSource;
use crate::source::http::Link;

use super::compose::Surroundings;
use super::crms::connect_source;

/// No answer of a CRM is longer: a page of 2,000 records with all their fields takes a few MB.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// The CRMs by the names of their sources.
#[derive(Clone, Default)]
pub struct CrmLinks(BTreeMap<String, HttpSource>);

impl CrmLinks {
    /// The CRMs of a configuration, over real sockets.
    #[must_use]
    pub fn connect(config: &Config, around: &Surroundings) -> Self {
        let reteno = &config.reteno;
        let timeouts =
            Timeouts { connect: reteno.connect_timeout, read: reteno.read_timeout, total: reteno.request_timeout };
        // made only where it is needed: it loads the machine's certificates
        let mut exchange: Option<Arc<dyn Exchange>> = None;
        let mut over =
            || Arc::clone(exchange.get_or_insert_with(|| Arc::new(HttpExchange::new(timeouts, ANSWER_BYTES_MAX))));
        Self::of(config, around, &mut over)
    }

    /// The same over an exchange.
    #[must_use]
    pub fn over(config: &Config, around: &Surroundings, exchange: &Arc<dyn Exchange>) -> Self {
        Self::of(config, around, &mut || Arc::clone(exchange))
    }

    fn of(config: &Config, around: &Surroundings, exchange: &mut dyn FnMut() -> Arc<dyn Exchange>) -> Self {
        let crm_of = |source: &SourceConfig| {
            let SourceKind::Http(description) = &source.kind else { return None };
            let (clock, random) = (around.clock.clone(), around.random.clone());
            let link =
                Link::new(Arc::clone(description), exchange(), connect_source(config, source, around), clock, random);
            Some((source.name.clone(), HttpSource::new(Arc::new(link))))
        };
        Self(config.sources.iter().filter_map(crm_of).collect())
    }

    /// The CRM of a source.
    #[must_use]
    pub fn find(&self, source: &str) -> Option<&HttpSource> {
        self.0.get(source)
    }
}
