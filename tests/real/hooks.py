"""The CRM and the senders of hooks.sh: a small CRM that answers by id, and webhooks at a steady rate.

hooks.py CRM_PORT HOOK_PORT RATE SECONDS TRUTH.json | hooks.py compare TRUTH.json CONTACTS.jsonl

A delivery that gets no 2xx is sent again until it does, as CRMs do. Ends its sending after SECONDS and writes what each
contact must be by then; goes on as the CRM until it is killed.
"""
import heapq
import http.client
import json
import random
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

PEOPLE = 2000
SENDERS = 16
TOKEN = "hooks-hooks-hooks-hooks-hooks-hooks"
AGAIN_AFTER = 1.0

lock = threading.Lock()
people = {}


class Crm(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        asked = parse_qs(urlparse(self.path).query)
        with lock:
            if "id[]" in asked:
                ids = [part for each in asked["id[]"] for part in each.split(",")]
                found = [dict(people[key]) for key in ids if key in people]
            else:
                # read by the first load alone, before anybody is there
                size, page = int(asked["size"][0]), int(asked["page"][0])
                found = sorted(people.values(), key=lambda person: person["id"])[size * (page - 1) : size * page]
        body = json.dumps({"people": found}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Sending:
    """Deliveries by the time at which each is due, taken by several senders."""

    def __init__(self, port):
        self.port, self.due, self.ready = port, [], threading.Condition()
        self.times, self.refused, self.cut, self.number, self.left = [], 0, 0, 0, 0

    def add(self, at, path, body, is_new=True):
        with self.ready:
            self.number += 1
            self.left += is_new
            heapq.heappush(self.due, (at, self.number, path, body))
            self.ready.notify()

    def take(self):
        with self.ready:
            while True:
                now = time.monotonic()
                if self.due and self.due[0][0] <= now:
                    return heapq.heappop(self.due)
                self.ready.wait(self.due[0][0] - now if self.due else 0.1)

    def work(self):
        connection = None
        while True:
            at, _, path, body = self.take()
            began = time.monotonic()
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
                connection.request("POST", path, body, {"content-type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                is_kept = 200 <= answer.status < 300
                with self.ready:
                    self.times.append(time.monotonic() - began)
                    self.refused += not is_kept
                    self.left -= is_kept
            except OSError:
                is_kept, connection = False, None
                with self.ready:
                    self.cut += 1
            except http.client.HTTPException:
                is_kept, connection = False, None
                with self.ready:
                    self.cut += 1
            if not is_kept:
                self.add(time.monotonic() + AGAIN_AFTER, path, body, is_new=False)


def send(crm_port, hook_port, rate, seconds, truth_path):
    crm = ThreadingHTTPServer(("127.0.0.1", crm_port), Crm)
    threading.Thread(target=crm.serve_forever, daemon=True).start()
    sending, draw, truth = Sending(hook_port), random.Random(1), {}
    for _ in range(SENDERS):
        threading.Thread(target=sending.work, daemon=True).start()
    began = time.monotonic()
    for number in range(rate * seconds):
        wait = began + number / rate - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        key = str(draw.randrange(PEOPLE))
        # a millisecond of its own each: a record that comes late says how old it is
        person = {"id": key, "email": f"{key}@example.com", "town": f"town {number}", "at": f"{1_795_435_200_000 + number}"}
        if number % 2:
            with lock:
                people[key] = {**person, "email": f"c{key}@example.com", "at": 1_795_435_200 + number}
            truth[f"crm-{key}"] = person["town"]
            sending.add(time.monotonic(), f"/hooks/crm/{TOKEN}", json.dumps({"id": key}))
        else:
            truth[f"shop-{key}"] = person["town"]
            body = {**person, "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(1_795_435_200 + number)) + "Z"}
            sending.add(time.monotonic(), f"/hooks/shop/{TOKEN}", json.dumps(body))
    deadline = time.monotonic() + 60
    while sending.left and time.monotonic() < deadline:
        time.sleep(0.1)
    times = sorted(sending.times)
    at = lambda share: 1000 * times[min(len(times) - 1, int(share * len(times)))]
    print(
        f"{rate * seconds} events in {rate * seconds / rate:.0f} s, {sending.left} never kept, {len(times)} answers, "
        f"{sending.refused} refused, {sending.cut} cut and sent again; p50 {at(0.5):.1f} ms, p99 {at(0.99):.1f} ms, "
        f"worst {1000 * times[-1]:.0f} ms",
        flush=True,
    )
    with open(truth_path, "w", encoding="utf-8") as file:
        json.dump(truth, file)
    threading.Event().wait()


def compare(truth_path, contacts_path):
    with open(truth_path, encoding="utf-8") as file:
        truth = json.load(file)
    held = {}
    with open(contacts_path, encoding="utf-8") as file:
        for contact in map(json.loads, file):
            held[contact.get("externalCustomerId")] = contact.get("town")
    lost = [key for key, town in truth.items() if held.get(key) != town]
    for key in lost[:10]:
        print(f"  {key}: CRM {truth[key]}, sandbox {held.get(key)}")
    print(f"lost {len(lost)} of the last edits of {len(truth)} contacts; unknown to the CRMs {len(held.keys() - truth.keys())}")
    return not lost


if sys.argv[1] == "compare":
    sys.exit(0 if compare(*sys.argv[2:]) else 1)
send(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
