#!/usr/bin/env python3
"""A client for the tests: while it holds a lock, it adds one to a number that it reads from a store, again and again.

usage: guarded.py STORE_HOST:PORT NAME TTL_SECONDS QUORATE_URL...

It prints each time that it held the lock: the fencing token, from when, and until when, in seconds of the machine's monotonic clock.
"""

import http.client
import pathlib
import sys
import time
import urllib.error

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "examples/clients"))
from lead import Ended, Session


def acquire(session):
    """Tries again and again, without a place in a queue: a client that is paused has no part in it. The fencing token."""
    while session.is_valid():
        try:
            granted = session.call("POST", "/v1/locks/default/counter/acquire", {"session": session.name})
            if "fencingToken" in granted:
                return granted["fencingToken"]
        except urllib.error.HTTPError:
            time.sleep(0.02)  # Somebody else holds it.
    raise Ended("the deadline has passed")


def add_while_valid(session, store, token):
    while session.is_valid():
        store.request("GET", "/")
        number = int(store.getresponse().read())
        time.sleep(0.002)  # It thinks about the number.
        store.request("PUT", "/", str(number + 1), {"Fencing-Token": str(token)})
        answer = store.getresponse()
        answer.read()
        if answer.status == 409:
            return


def main():
    address, name, ttl, *urls = sys.argv[1:]
    store = http.client.HTTPConnection(address)
    while True:
        session = Session(urls, name, float(ttl))
        try:
            token = acquire(session)
        except Ended:
            continue
        began = time.monotonic()
        add_while_valid(session, store, token)
        ended = min(time.monotonic(), session.deadline)
        if began < ended:  # Otherwise it was paused until its lock had run out, and never held it.
            print(token, began, ended, flush=True)


if __name__ == "__main__":
    main()
