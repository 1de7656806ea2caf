#!/usr/bin/env python3
"""Leads an election and writes to a store that checks fencing tokens, with Python's standard library only.

usage: lead.py STORE_URL NAME [QUORATE_URL...]

The deadline counts from before each request was sent, on the monotonic clock. After it, this program acts as if it held
nothing, whatever the network does.
"""

import json
import sys
import threading
import time
import urllib.error
import urllib.request


class Ended(Exception):
    """The session is over: whatever it held belongs to somebody else by now."""


class Session:
    """A session that a thread keeps alive, at whichever member answers."""

    def __init__(self, urls, client, ttl=2.0):
        self.urls, self.ttl, self.over = urls, ttl, False
        created = {}
        while "session" not in created:
            sent = time.monotonic()
            created = self.call("POST", "/v1/sessions", {"ttlMs": int(ttl * 1000), "client": client})
        self.name = created["session"]
        self.deadline = sent + created["validForMs"] / 1000
        threading.Thread(target=self._keep_alive, daemon=True).start()

    def is_valid(self):
        return not self.over and time.monotonic() < self.deadline

    def campaign(self, election):
        """Waits until it leads; the fencing token."""
        while self.is_valid():
            body = {"session": self.name, "waitMs": 1000}
            granted = self.call("POST", f"/v1/elections/{election}/campaign", body)
            if "fencingToken" in granted:
                return granted["fencingToken"]
        raise Ended("the deadline has passed")

    def call(self, method, path, body=None):
        """Asks the members in turn. What is still waited for (504) is an answer too."""
        data = None if body is None else json.dumps(body).encode()
        for url in self.urls:
            request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"}, method=method)
            try:
                with urllib.request.urlopen(request, timeout=max(self.ttl, 2)) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                problem = json.load(error)
                if error.code == 410:
                    raise Ended(problem["detail"]) from error
                if error.code < 500:
                    raise
            except OSError:
                pass
            self.urls = self.urls[1:] + self.urls[:1]
        return {}

    def _keep_alive(self):
        while self.is_valid():
            sent = time.monotonic()
            try:
                alive = self.call("POST", f"/v1/sessions/{self.name}/keepalive")
            except Ended:
                self.over = True
                return
            if "validForMs" in alive and self.is_valid():
                self.deadline = max(self.deadline, sent + alive["validForMs"] / 1000)
            time.sleep(self.ttl / 5)


def write(store, name, token):
    headers = {"Fencing-Token": str(token)}
    request = urllib.request.Request(store, f"written by {name}".encode(), headers, method="PUT")
    urllib.request.urlopen(request, timeout=2).close()


def main():
    store, name, *urls = sys.argv[1:]
    urls = urls or ["http://127.0.0.1:17400", "http://127.0.0.1:17401", "http://127.0.0.1:17402"]
    while True:
        session = Session(urls, name)
        try:
            token = session.campaign("default/main")
            print(f"{name} leads with fencing token {token}", flush=True)
            while session.is_valid():
                write(store, name, token)
                time.sleep(0.1)
            print(f"{name} leads no more", flush=True)
        except (Ended, urllib.error.HTTPError) as why:
            print(f"{name} leads no more: {why}", flush=True)


if __name__ == "__main__":
    main()
