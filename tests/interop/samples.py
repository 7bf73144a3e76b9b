"""What is put to the original when it is recorded, and to ours when the recordings are compared."""

from __future__ import annotations

TEXTS: tuple[str, ...] = (
    "",
    "serialized_data",
    '{"foo": "bar", "n": [1, 2.5, null]}',
    "quote \" backslash \\ slash / apostrophe '",
    "".join(map(chr, range(0x20))),
    "\x7f\x80\x9f\xa0\xad",
    "Grüße, ελληνικά, русский, 日本語, עברית",
    "\u2028 \u2029 \u200b \ufeff \ufffd \uffff",
    "\U0001f98c \U0010ffff \U0001f468\u200d\U0001f469",
    "<script>&amp;</script>",
    "%s {0} $x \\u0041 \\n",
    "a" * 5000,
)
"""Texts that JSON writers treat differently."""

_GOOD = '{"request_uuid":5,"timeout":10,"action":"a","payload":null}'


def _uuid(text: str) -> str:
    return f'{{"request_uuid":{text},"timeout":10,"action":"a","payload":null}}'


def _timeout(text: str) -> str:
    return f'{{"request_uuid":5,"timeout":{text},"action":"a","payload":null}}'


def _texts(text: str) -> str:
    return f'{{"request_uuid":5,"timeout":10,"action":{text},"payload":{text}}}'


def _payload(text: str) -> str:
    return f'{{"request_uuid":5,"timeout":10,"action":"a","payload":{text}}}'


def _extra(text: str) -> str:
    return f'{_GOOD[:-1]},"more":{text}}}'


WIRE: dict[str, bytes] = {
    "as written": _GOOD.encode(),
    "spaces": b' {"action" : "a", "timeout": 10,\n\t"payload":"p", "request_uuid":5} \r\n',
    "unknown field": _extra('{"a":[1,{"b":null}]}').encode(),
    "unknown field twice": ('{"x":1,"x":2,' + _GOOD[1:]).encode(),
    "unknown field nested 200 deep": _extra("[" * 200 + "]" * 200).encode(),
    "unknown field 1e999": _extra("1e999").encode(),
    "unknown field with half a surrogate pair": _extra('"\\ud800"').encode(),
    "unknown field NaN": _extra("NaN").encode(),
    "field twice": b'{"request_uuid":5,"request_uuid":6,"timeout":10,"action":"a","payload":null}',
    "payload twice": b'{"request_uuid":5,"timeout":10,"action":"a","payload":null,"payload":null}',
    "array": b'[5,10,"a",null]',
    "array of text": b'["a"]',
    "text": b'"a"',
    "number": b"5",
    "null": b"null",
    "empty": b"",
    "only spaces": b"  ",
    "not JSON": b"nope",
    "empty object": b"{}",
    "cut short": _GOOD[:-1].encode(),
    "trailing text": (_GOOD + "x").encode(),
    "trailing object": (_GOOD + _GOOD).encode(),
    "trailing comma": (_GOOD[:-1] + ",}").encode(),
    "byte order mark": b"\xef\xbb\xbf" + _GOOD.encode(),
    "no uuid": b'{"timeout":10,"action":"a","payload":null}',
    "no timeout": b'{"request_uuid":5,"action":"a","payload":null}',
    "no action": b'{"request_uuid":5,"timeout":10,"payload":null}',
    "no payload": b'{"request_uuid":5,"timeout":10,"action":"a"}',
    "capitals": b'{"Request_UUID":5,"timeout":10,"action":"a","payload":null}',
    "uuid 0": _uuid("0").encode(),
    "uuid 2**128-1": _uuid(str(2**128 - 1)).encode(),
    "uuid 2**128": _uuid(str(2**128)).encode(),
    "uuid of 200 digits": _uuid("9" * 200).encode(),
    "uuid of 5000 digits": _uuid("9" * 5000).encode(),
    **{f"uuid {text}": _uuid(text).encode() for text in ("-1", "1.0", "1e3", '"5"', "null", "05", "true", "+5", "[5]")},
    **{f"timeout {text}": _timeout(text).encode()
       for text in ("0", "1", "65535", "65536", "-1", "10.0", "1e1", '"10"', "null", "true", "010", "NaN")},
    **{f"texts {text!a}": _texts(text).encode()
       for text in ('""', '"\\u0000"', '"\\u00e9\\/\\b\\f\\n\\r\\t\\"\\\\"', '"\\ud83d\\ude00"', '"\\uD83D\\uDE00"',
                    '"\\ud800"', '"\\udc00\\ud800"', '"\\ud800x"', '"\x01"', '"\t"', '"\n"', '"\x7f"', '"\\x41"', '"\\u12"',
                    '"é日\U0001f98c"', "'a'", '"a')},
    "action null": b'{"request_uuid":5,"timeout":10,"action":null,"payload":null}',
    **{f"payload {text}": _payload(text).encode() for text in ("5", "1.5", "{}", "[]", "false", '"x"', "nul")},
    "text not UTF-8": _payload('"?"').encode().replace(b"?", b"\xff"),
    "surrogate as UTF-8": _payload('"?"').encode().replace(b"?", b"\xed\xa0\x80"),
}  # fmt: skip
"""Entries of an event stream, good and bad."""
