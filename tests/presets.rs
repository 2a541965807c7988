//! Every preset over the answers of its CRM (tests/fixtures/crm): list, next page, empty page, the next read, fetch,
//! deletions, opt-outs, webhook, errors, tokens. The names say preset and capability: this is the table of what is proven.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, missing_docs, reason = "tests")]

mod support;

#[path = "presets/harness.rs"]
mod harness;

#[path = "presets/amocrm.rs"]
mod amocrm;
#[path = "presets/bitrix24.rs"]
mod bitrix24;
#[path = "presets/creatio.rs"]
mod creatio;
#[path = "presets/espocrm.rs"]
mod espocrm;
#[path = "presets/hubspot.rs"]
mod hubspot;
#[path = "presets/keycrm.rs"]
mod keycrm;
#[path = "presets/odoo.rs"]
mod odoo;
#[path = "presets/pipedrive.rs"]
mod pipedrive;
#[path = "presets/salesforce.rs"]
mod salesforce;
#[path = "presets/tokens.rs"]
mod tokens;
#[path = "presets/wix.rs"]
mod wix;
#[path = "presets/zoho.rs"]
mod zoho;

use std::collections::BTreeSet;

use reteno_sync::source::presets;

/// A preset that is here and not below would be proven by nothing.
#[test]
fn every_preset_is_driven() {
    let driven: BTreeSet<&str> = harness::MINIMAL.iter().map(|(name, _)| *name).collect();
    assert_eq!(presets::names().collect::<BTreeSet<_>>(), driven);
}

/// What an operator does without is as if the preset did not have it.
#[tokio::test]
async fn false_takes_a_part_of_a_preset_away() {
    let table = "vars.subdomain = \"x\"\nauth.token = \"T\"\npreflight = false\ndeletes.events = false\nrate_limit = false\n\
                 contact.lastName = false\nwebhook = false\nerrors.unpaid = false";
    let crm = harness::Crm::new("amocrm", table, |_| harness::status(500)).await;
    let reteno_sync::config::SourceKind::Http(description) = &crm.config.sources[0].kind else { panic!("an API") };
    assert!(description.preflight.is_none() && description.deletes.is_empty() && description.rate_limit.is_none());
    let names: Vec<&str> = description.errors.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["blocked", "too_many"]);
    assert!(crm.config.sources[0].field(reteno_sync::contact::Field::LastName).is_none());
    let table = "auth.token = \"T\"\nconsent = false";
    assert!(harness::Crm::new("hubspot", table, |_| harness::status(500)).await.config.sources[0].consent.is_none());
}

/// The smallest table of each, as docs/crms.md shows it.
#[tokio::test]
async fn every_preset_needs_no_more_than_its_page_says() {
    for (name, table) in harness::MINIMAL {
        let crm = harness::Crm::new(name, table, |_| harness::status(500)).await;
        assert!(crm.webhook.is_none(), "{name}: no webhook without its secret");
        let page = include_str!("../docs/crms.md");
        for line in table.lines().filter(|line| !line.trim().is_empty()) {
            assert!(page.contains(line.trim()), "docs/crms.md lacks {line:?} of {name}");
        }
    }
}

/// The example of a webhook at the end of the page is one that works.
#[tokio::test]
async fn the_pages_webhook_can_be_configured() {
    let page = include_str!("../docs/crms.md");
    let (_, example) = page.split_once("[source.crm.webhook]\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let table = format!("{}\n[source.crm.webhook]\n{example}", harness::minimal("hubspot"));
    let crm = harness::Crm::new("hubspot", &table, |_| harness::status(500)).await;
    assert!(crm.webhook.is_some());
}
