#!/usr/bin/env python3
"""A store that checks fencing tokens: it refuses whoever shows a smaller one than it has seen.

usage: store.py PORT

This is all that a resource has to do to be safe from a holder that was paused and does not know that it has lost.
"""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Store(BaseHTTPRequestHandler):
    newest, value = 0, b""

    def do_PUT(self):
        value = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        token = self.headers.get("Fencing-Token", "")
        if not token.isdigit():
            return self.answer(400, b"show your fencing token in the header Fencing-Token\n")
        if int(token) < Store.newest:
            return self.answer(409, f"token {token} is old: {Store.newest} has been here\n".encode())
        Store.newest, Store.value = int(token), value
        return self.answer(200, b"written\n")

    def do_GET(self):
        self.answer(200, b"%d %s\n" % (Store.newest, Store.value))

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    HTTPServer(("127.0.0.1", int(sys.argv[1])), Store).serve_forever()
