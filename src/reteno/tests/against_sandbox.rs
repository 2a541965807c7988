//! Every call that writes, against the sandbox, which reads the bytes by rules of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use secrecy::SecretString;
use url::Url;

use crate::clock::{Clock, Timestamp};
use crate::contact::{Field, Personal, Wanted};
use crate::plan::answer::{DeedAnswer, ImportAnswer, SubmitAnswer, SubscribeAnswer};
use crate::random::Random;
use crate::reteno::body::{BulkContact, BulkRequest, DedupeOn, bulk_body};
use crate::reteno::lists::{DetachBody, EmailsBody, subscriptions_body};
use crate::reteno::start::{FileDedupeOn, SubscribeOptions, UploadRequest, subscribe_body, upload_body};
use crate::reteno::{AccessTokens, Client, NoToken};
use crate::sandbox::{Sandbox, SandboxOptions};

struct OneToken(SecretString);

impl AccessTokens for OneToken {
    fn access_token(&self) -> BoxFuture<'_, Result<SecretString, NoToken>> {
        async { Ok(self.0.clone()) }.boxed()
    }

    fn refused<'a>(&'a self, _: &'a SecretString) -> BoxFuture<'a, Result<SecretString, NoToken>> {
        async { Err(NoToken::NeedsAuthorization) }.boxed()
    }
}

fn stage() -> (Client, Sandbox) {
    let clock = Clock::simulated(Timestamp(1_770_000_000_000));
    let sandbox = Sandbox::new(SandboxOptions::default(), clock.clone());
    let tokens = Arc::new(OneToken(sandbox.issue_tokens().access_token.into()));
    let api_url = Url::parse("https://reteno.com/api").expect("a url");
    (Client::new(sandbox.exchange(), api_url, tokens, clock, Random::seeded(3)), sandbox)
}

fn value(field: Field, text: &str) -> (Field, Wanted) {
    (field, Wanted::Value(Personal::new(text)))
}

/// Puts a contact into the segment VIP; returns Reteno's id of it.
async fn import(client: &Client, sandbox: &Sandbox, external_id: &str, email: &str) -> i64 {
    let fields = [value(Field::ExternalCustomerId, external_id), value(Field::Email, email)];
    let body = bulk_body(&BulkRequest {
        contacts: &[BulkContact { id: None, fields: &fields }],
        dedupe_on: DedupeOn::ExternalCustomerId,
        mask: &[Field::Email],
        restore_deleted: false,
        group_names: &["VIP".to_owned()],
        group_names_exclude: &[],
        event_key_for_new_contacts: Some("newContact"),
    });
    let told = client.submit_contacts(body.expect("a body")).await;
    assert!(matches!(told, SubmitAnswer::Accepted { .. }), "{told:?}");
    tokio::time::advance(Duration::from_secs(6)).await;
    sandbox.contact_by_external_id(external_id).expect("a contact").id
}

#[tokio::test(start_paused = true)]
async fn deeds_are_done() {
    let (client, sandbox) = stage();
    let ann = import(&client, &sandbox, "1", "a@example.com").await;
    let bob = import(&client, &sandbox, "2", "b@example.com").await;
    assert_eq!(sandbox.events_fired().len(), 2);

    let emails = || EmailsBody::of(&Personal::new("a@example.com"), &[Personal::new("x@example.com")]);
    assert_eq!(client.unsubscribe(emails()).await, DeedAnswer::Done);
    assert_eq!(sandbox.unsubscribed().len(), 2);
    assert_eq!(client.resubscribe(emails()).await, DeedAnswer::Done);
    assert!(sandbox.unsubscribed().is_empty());

    let by_id = DetachBody::of_contact_ids(ann, &[]).expect("a body");
    assert_eq!(client.detach(9401, by_id.clone()).await, DeedAnswer::Done);
    let by_external_id = DetachBody::of_external_ids(&Personal::new("2"), &[]).expect("a body");
    assert_eq!(client.detach(9401, by_external_id).await, DeedAnswer::Done);
    assert_eq!((sandbox.tally().contacts_detached, sandbox.tally().segments_emptied.len()), (2, 0));
    assert_eq!(client.detach(9999, by_id).await, DeedAnswer::NotThere);

    assert_eq!(client.set_subscriptions(ann, subscriptions_body(&["news", "offers"])).await, DeedAnswer::Done);
    assert_eq!(sandbox.contact_by_external_id("1").expect("a contact").subscriptions.len(), 2);
    let told = client.set_subscriptions(ann, subscriptions_body(&["nothing"])).await;
    let reason = "Unknown subscription category nothing".to_owned();
    assert_eq!(told, DeedAnswer::Refused { status: 400, reason });

    assert_eq!(client.delete_contact(ann).await, DeedAnswer::Done);
    assert!(sandbox.contact_by_external_id("1").expect("a contact").deleted);
    assert_eq!(client.erase_contact(bob).await, DeedAnswer::Done);
    assert_eq!(sandbox.contact_by_external_id("2"), None);
    assert_eq!(client.erase_contact(bob).await, DeedAnswer::NotThere);
}

#[tokio::test(start_paused = true)]
async fn a_double_opt_in_is_taken_once() {
    let (client, sandbox) = stage();
    let fields =
        [value(Field::ExternalCustomerId, "1"), value(Field::Email, "a@example.com"), value(Field::Town, "Kyiv")];
    let options = SubscribeOptions {
        form_type: Some("Footer".into()),
        groups: vec!["Form".into()],
        subscriptions: vec!["news".into()],
    };
    let body = subscribe_body(&fields, &options);
    let told = client.subscribe(body.clone()).await;
    let made = sandbox.contact_by_external_id("1").expect("a contact");
    let email_status = Some("NEED_CONFIRMATION".to_owned());
    assert_eq!(told, SubscribeAnswer::Taken { id: made.id, email_status, is_new: Some(true) });
    assert_eq!((made.segments.len(), made.subscriptions.len(), made.fields["town"].as_str()), (1, 1, "Kyiv"));
    assert_eq!(client.subscribe(body).await, SubscribeAnswer::RepeatedWithinMinute);
    assert_eq!(sandbox.tally().workflows_started, 1);
}

#[tokio::test(start_paused = true)]
async fn an_upload_is_an_import_to_be_asked_about() {
    let (client, sandbox) = stage();
    let body = upload_body(&UploadRequest {
        link: "https://crm.example.com/exports/a.csv",
        dedupe_on: FileDedupeOn::Email,
        group_names: &["Loaded".to_owned()],
        group_names_exclude: &[],
        restore_deleted: false,
        event_key_for_new_contacts: None,
    });
    let told = client.upload(body.clone()).await;
    assert!(matches!(told, SubmitAnswer::Refused { status: 200, .. }), "nothing to fetch: {told:?}");
    let file = Bytes::from_static(b"Email\na@example.com\n");
    sandbox.set_downloader(Arc::new(move |_| {
        let file = file.clone();
        async move { Ok(file) }.boxed()
    }));
    let told = client.upload(body).await;
    let SubmitAnswer::Accepted { session, .. } = told else { panic!("{told:?}") };
    tokio::time::advance(Duration::from_secs(6)).await;
    let ended = client.import_status(&session).await;
    assert!(matches!(ended, ImportAnswer::Finished { mapping: Some(_) }), "{ended:?}");
    assert!(sandbox.contacts()[0].segments.contains("Loaded"));
}
