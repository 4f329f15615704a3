"""Requests that are wrong, or that two servers might read in two ways."""

from __future__ import annotations

HEAD = b"GET /api/products/1 HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /api/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"
# What an attacker would have somebody else's connection carry.
HIDDEN = b"GET /api/products/2 HTTP/1.1\r\nHost: x\r\n\r\n"

# name → bytes, what nginx may say, what the gateway may say. Bare line feeds are the one thing
# that nginx takes and the gateway does not; they end with nginx, which writes requests anew.
TRICKS: dict[str, tuple[bytes, set[int], set[int]]] = {
    name: (raw, edge if isinstance(edge, set) else {edge}, gateway or {400})
    for name, raw, edge, gateway in (
        ("length and chunks", CHUNKED + b"Content-Length: 4\r\n\r\n0\r\n\r\n" + HIDDEN, 400, None),
        ("chunks and length", POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
         b"0\r\n\r\n" + HIDDEN, 400, None),
        ("two lengths", POST + b"Content-Length: 0\r\nContent-Length: 40\r\n\r\n" + HIDDEN, 400,
         None),
        ("one length twice", POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400, None),
        ("list of lengths", POST + b"Content-Length: 2, 2\r\n\r\n{}", 400, None),
        ("length with plus", POST + b"Content-Length: +2\r\n\r\n{}", 400, None),
        ("negative length", POST + b"Content-Length: -2\r\n\r\n{}", 400, None),
        ("length in hex", POST + b"Content-Length: 0x2\r\n\r\n{}", 400, None),
        ("endless length", POST + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n{}", 400, None),
        ("space before colon", POST + b"Content-Length : 2\r\n\r\n{}", 400, None),
        ("space before colon of chunks", POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
         400, None),
        ("unknown coding", POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501, None),
        ("two codings", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501,
         {201}),
        ("coding twice", CHUNKED + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400, None),
        ("coding behind a tab", POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 501,
         None),
        ("folded header", HEAD + b"X-A: a\r\n b\r\n\r\n", 400, None),
        ("folded length", POST + b"X-A: a\r\n Content-Length: 40\r\n\r\n" + HIDDEN, 400, None),
        ("folded coding", POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400, None),
        ("bare line feeds", HEAD.replace(b"\r\n", b"\n") + b"\n", 200, None),
        ("bare carriage return", HEAD + b"X-A: a\rContent-Length: 40\r\n\r\n", 400, None),
        ("zero byte", HEAD + b"X-A: a\0b\r\n\r\n", 400, None),
        ("no name", HEAD + b": a\r\n\r\n", {200, 400}, None),
        ("chunk of no size", CHUNKED + b"\r\nzz\r\n{}\r\n0\r\n\r\n", 400, None),
        ("chunk of endless size", CHUNKED + b"\r\n" + b"f" * 18 + b"\r\n{}\r\n0\r\n\r\n", 400,
         None),
        ("negative chunk", CHUNKED + b"\r\n-2\r\n{}\r\n0\r\n\r\n", 400, None),
        ("chunk size with 0x", CHUNKED + b"\r\n0x2\r\n{}\r\n0\r\n\r\n", 400, None),
        ("more than the chunk", CHUNKED + b"\r\n2\r\n{}xx\r\n0\r\n\r\n", 400, None),
        ("length in the trailer", CHUNKED + b"\r\n2\r\n{}\r\n0\r\nContent-Length: 50\r\n\r\n",
         {201, 400}, {201, 400}),
        ("no host", b"GET / HTTP/1.1\r\n\r\n", 400, None),
        ("two hosts", HEAD + b"Host: y\r\n\r\n", 400, None),
        ("host with a path", b"GET / HTTP/1.1\r\nHost: a/../b\r\n\r\n", 400, {200, 400}),
        ("CONNECT", b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", {400, 405}, {400, 404, 405}),
        ("TRACE", b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, {404, 405}),
        ("unknown method", b"FROB / HTTP/1.1\r\nHost: a\r\n\r\n", 405, {400, 404, 405}),
        ("method in small letters", b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 400, None),
        ("HTTP/2 by prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, None),
        ("HTTP/3.0", b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505, None),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 40 + b"\r\n\r\n", 400,
         None),
        ("long URI", b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, None),
        ("long header", HEAD + b"X-A: " + b"a" * 40_000 + b"\r\n\r\n", 400, None),
        ("many headers", HEAD + b"".join(b"X-%d: aaaaaaaa\r\n" % n for n in range(3000)) + b"\r\n",
         400, None),
        ("large body", POST + b"Content-Length: 1000000\r\n\r\n", 413, {413}),
        ("large chunks", CHUNKED + b"\r\n" + (b"8000\r\n" + b"x" * 0x8000 + b"\r\n") * 4
         + b"0\r\n\r\n", 413, {413}),
        ("zero byte in the path", b"GET /api/%00 HTTP/1.1\r\nHost: x\r\n\r\n", 400, {400, 404}),
        ("up and out", b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 400, {400, 404}),
        ("up and out, escaped", b"GET /api/products/..%2f..%2fetc HTTP/1.1\r\nHost: x\r\n\r\n",
         {400, 404}, {400, 404}),
    )
}  # fmt: skip
