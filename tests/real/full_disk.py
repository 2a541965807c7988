"""A CRM whose refresh tokens work once: python3 full_disk.py PORT LOG. Access tokens live eight seconds.

Each token that is given out, and each refusal, is a line of LOG.
"""
import http.server
import json
import sys
import urllib.parse

log = open(sys.argv[2], "a", buffering=1)
state = {"count": 0, "live": None}


class Crm(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def say(self, code, answer, headers=()):
        body = json.dumps(answer).encode()
        self.send_response(code)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        address = urllib.parse.urlsplit(self.path)
        asked = urllib.parse.parse_qs(address.query)
        if address.path == "/oauth":
            back = asked["redirect_uri"][0] + "?" + urllib.parse.urlencode({"code": "C1", "state": asked["state"][0]})
            return self.say(302, {}, [("Location", back)])
        if self.headers.get("Authorization") != f"Bearer access-{state['count']}":
            return self.say(401, {})
        self.say(200, [{"id": "1", "email": "ann@example.com"}])

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        asked = {name: values[0] for name, values in urllib.parse.parse_qs(body).items()}
        given = asked.get("code") if asked["grant_type"] == "authorization_code" else asked.get("refresh_token")
        if given != (state["live"] or "C1"):
            print("refused", file=log)
            return self.say(400, {"error": "invalid_grant"})
        state["count"] += 1
        state["live"] = f"refresh-{state['count']}"
        print("given", state["count"], file=log)
        self.say(200, {
            "token_type": "bearer", "expires_in": 8,
            # signed statements are long
            "access_token": f"access-{state['count']}", "refresh_token": state["live"], "scope": "x" * 6000,
        })


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Crm).serve_forever()
