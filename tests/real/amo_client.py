"""One amoCRM library against the sandbox CRM: what it reads must be what the CRM says.

usage: amo_client.py amocrm_api|aioamocrm CRM-URL REDIRECT-URI"""

import asyncio
import http.server
import json
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

SUBDOMAIN = "examplecrm"
ACCESS_TOKEN_SECONDS = 3
WAIT_SECONDS = 20


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def act(crm, what):
    with urllib.request.urlopen(f"{crm}/sandbox/{what}") as answer:
        return answer.read().decode()


def living(crm):
    people = [json.loads(line) for line in act(crm, "truth.jsonl").splitlines() if line]
    return {person["id"]: person for person in people if not person["deleted"]}


def code(crm):
    """What a person who allows the app brings back."""
    try:
        urllib.request.build_opener(NoRedirect).open(f"{crm}/oauth?client_id=crm-client&state=x")
    except urllib.error.HTTPError as redirect:
        query = urllib.parse.urlparse(redirect.headers["Location"]).query
        return urllib.parse.parse_qs(query)["code"][0]
    raise AssertionError("the page did not redirect")


def whole_name(person):
    return f"{person['first_name']} {person['last_name']}"


def amocrm_api(crm, redirect):
    from amocrm.v2 import Contact, Event, tokens

    storage = tokens.FileTokensStorage(tempfile.mkdtemp())
    manager = tokens.default_token_manager
    manager("crm-client", "crm-secret", SUBDOMAIN, redirect, storage)
    manager.init(code(crm))
    first = storage.get_refresh_token()
    truth = living(crm)
    seen = {contact.id: contact.name for contact in Contact.objects.all()}
    assert seen == {number: whole_name(person) for number, person in truth.items()}, "not everybody, or not as they are"
    number = min(truth)
    act(crm, f"edit?id={number}")
    time.sleep(ACCESS_TOKEN_SECONDS + 1)
    one = Contact.objects.get(number)
    assert (one.id, one.name) == (number, whole_name(truth[number]))
    assert storage.get_refresh_token() != first, "no new refresh token came"
    act(crm, f"delete?id={number}")
    events = [(event.type, event.entity_id) for event in Event.objects.all()]
    assert events[0] == ("contact_deleted", number), events[:3]
    try:
        Contact.objects.get(number)
    except Exception as error:
        assert type(error).__name__ == "NotFound", repr(error)
    else:
        raise AssertionError("a deleted contact is still there")
    return f"{len(seen)} contacts, one by id, a deletion among {len(events)} events, tokens refreshed"


class Hooks(http.server.BaseHTTPRequestHandler):
    bodies = []

    def do_POST(self):
        Hooks.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


async def aioamocrm(crm, redirect):
    from aioamocrm import AmoCRMClient, AuthError, OAuth2, parse_webhook

    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hooks)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    oauth = OAuth2("crm-client", "crm-secret", redirect, refresh_margin=0)
    async with AmoCRMClient(subdomain=SUBDOMAIN, auth=oauth) as amo:
        first = await amo.exchange_code(code(crm))
        account = await amo.account.get(with_="is_api_filter_enabled")
        assert account.subdomain == SUBDOMAIN and account.model_extra["is_api_filter_enabled"] is True
        truth = living(crm)
        contacts = {c.id: c async for c in amo.contacts.iterate(order={"updated_at": "asc"})}
        assert set(contacts) == set(truth), "not everybody"
        for number, person in truth.items():
            contact = contacts[number]
            assert contact.updated_at == person["changed"] // 1000, number
            for name, field in (("PHONE", "phone"), ("EMAIL", "email")):
                values = contact.field_values(name)
                assert (person[field] in values) if person[field] else len(values) <= 1, (number, field)
        some = sorted(truth)[5:8]
        found = [c.id async for c in amo.contacts.iterate(filter={"id": some})]
        assert found == some
        since = max(c.updated_at for c in contacts.values()) + 1
        nobody = [c async for c in amo.contacts.iterate(filter={"updated_at": {"from": since}})]
        assert nobody == [], "204 is an empty page"
        fields = {field.code async for field in amo.contacts.custom_fields.iterate()}
        assert {"PHONE", "EMAIL"} <= fields

        hook = f"http://127.0.0.1:{receiver.server_address[1]}/hooks/secret"
        await amo.request("POST", "webhooks", json={"destination": hook, "settings": ["update_contact", "delete_contact"]})
        number = next(n for n, person in truth.items() if person["phone"])
        act(crm, f"edit?id={number}")
        act(crm, f"delete?id={some[0]}")
        until = time.monotonic() + WAIT_SECONDS
        while len(Hooks.bodies) < 2 and time.monotonic() < until:
            await asyncio.sleep(0.05)
        webhooks = [parse_webhook(body) for body in Hooks.bodies]
        events = {event.action: event for webhook in webhooks for event in webhook.events}
        assert all(webhook.subdomain == SUBDOMAIN for webhook in webhooks)
        assert (events["update"].entity, events["update"].id) == ("contacts", number)
        assert events["update"].field_value("PHONE") == truth[number]["phone"]
        assert events["delete"].id == some[0]

        await asyncio.sleep(ACCESS_TOKEN_SECONDS)
        contact = await amo.contacts.get(number)
        assert contact.id == number and contact.updated_at >= since - 1
        act(crm, "expire")  # the library does not know, so its next call is answered 401
        assert (await amo.contacts.get(number)).id == number
        second = await oauth.storage.load()
        assert second.refresh_token != first.refresh_token
        await oauth.storage.save(first)
        stale = OAuth2("crm-client", "crm-secret", redirect, storage=oauth.storage)
        async with AmoCRMClient(subdomain=SUBDOMAIN, auth=stale) as other:
            try:
                await other.contacts.get(number)
            except AuthError:
                pass
            else:
                raise AssertionError("a replaced refresh token still works")
    return f"{len(contacts)} contacts with channels, filters, fields, {len(webhooks)} webhooks, tokens rotated"


if __name__ == "__main__":
    client, crm_url, redirect_uri = sys.argv[1:]
    if client == "aioamocrm":
        print(asyncio.run(aioamocrm(crm_url, redirect_uri)))
    else:
        print(amocrm_api(crm_url, redirect_uri))
