"""What a device reads and writes in version 1 of the wire: Python's standard library, and nothing else.

Written from wire.md; [n] is its section n. Whatever these functions raise means: the bytes are refused [11].
"""
import array, hashlib, http.client, json, math, re, sys
from base64 import b64decode, b64encode
from urllib.parse import urlsplit

def need(right, why):  # [11] what raises anything while it is read, is refused
    if not right:
        raise ValueError(why)

# ---- [3] JSON. A check says whether a value is right; one that raises says that it is not.
text = lambda most: lambda x: isinstance(x, str) and len(x) <= most
like = lambda pattern: lambda x: isinstance(x, str) and re.fullmatch(pattern, x) is not None
whole = lambda low, high: lambda x: type(x) is int and low <= x <= high
number = lambda low, high: lambda x: type(x) in (int, float) and low <= x <= high
many = lambda check, most=math.inf: lambda x: isinstance(x, list) and len(x) <= most and all(map(check, x))
dumps = lambda value: json.dumps(value, separators=(",", ":"))  # [3.1] the one form
def table(keys, **checks):  # an object with these keys; one that ends with ? may be absent
    known = dict(key.split(":") for key in keys.replace("?", "").split())
    must = {key.split(":")[0] for key in keys.split() if "?" not in key}
    return lambda x: must <= x.keys() <= known.keys() and all((checks | TYPES)[known[key]](x[key]) for key in x)
def named(check, most=math.inf):  # a list of lists that begin with a name, each name once
    rows = many(lambda row: isinstance(row, list) and text(4096)(row[0]) and check(*row[1:]), most)
    return lambda x: rows(x) and len({row[0] for row in x}) == len(x)

def loads(data, most=131072):
    def once(pairs):
        need(len(dict(pairs)) == len(pairs), "a key stands twice")
        return dict(pairs)
    def real(digits):
        need(math.isfinite(float(digits)), "a number beyond binary64")
        return float(digits)
    def integer(digits):
        need(len(digits) <= 20, "too many digits")
        return int(digits)
    inside = lambda x: x.values() if isinstance(x, dict) else x
    depth = lambda x: 1 + max(map(depth, inside(x)), default=-1) if isinstance(x, dict | list) else -1
    need(len(data) <= most, "too long")
    value = json.loads(data.decode(), object_pairs_hook=once, parse_float=real, parse_constant=real, parse_int=integer)
    json.dumps(value, ensure_ascii=False).encode()  # fails at a lone surrogate
    need(depth(value) <= 16, "nested too deep")
    return value

# ---- [4] to [9] What messages are made of.
NUMBERS = {"int": lambda x: like("0|-?[1-9][0-9]*")(x) and len(x) <= 80 and int(x).bit_length() <= 256,
           "float": lambda x: float.fromhex(x).hex() == x}
BASE64 = lambda x: b64encode(b64decode(x)).decode() == x
SCALARS = NUMBERS | {"bool": lambda x: type(x) is bool, "str": text(2**26)}
def value_of(types, kind, x):  # [7.1]
    if kind in types or x != []:
        return types[kind](x) if kind in types else many(types[kind[:-1]])(x)
    return kind == "emptys" or kind[:-1] in types and kind != "packeds"
def values(**more):
    types = lambda x: NUMBERS if x["kind"] == "metrics" else SCALARS | more
    return lambda x: table("kind:kind items:items", items=named(lambda kind, v: value_of(types(x), kind, v)))(x)
RECORDS = named(lambda x: x is None or values(bytes=BASE64)(x), 4096)
ENTRY = lambda dtype, shape, stype, size: text(10000)(dtype) and many(SIZE, 64)(shape) and text(64)(stype) and SIZE(size)
ARRAYS = table("kind:any items:items", items=named(ENTRY))
PACKED = named(lambda x: ARRAYS(x) if x["kind"] == "arrays" else values(packed=SIZE)(x), 4096)
blob_of = lambda data: {"digest": hashlib.sha256(data).hexdigest(), "size": len(data)}
def content(x):  # [7]
    inline = b64decode(x.get("inline", ""))
    return (table("records:records pack?:blob inline?:base64")(x) and len(inline) <= 65536 and ("pack" in x) == any(
        r is None for _, r in x["records"]) and ("inline" not in x or blob_of(inline) == x["pack"]))

ID, SIZE = "[a-zA-Z0-9][a-zA-Z0-9:_-]{0,127}", whole(0, 2**40)
TYPES = {"v": whole(1, 1), "device": like(f"(?!gateway$){ID}"), "id": like(ID), "command": like("[0-9a-f]{32}"),
    "ids": many(like("[0-9a-f]{32}"), 256), "digest": like("[0-9a-f]{64}"), "seed": like("[0-9a-f]{16}"), "size": SIZE,
    "count": whole(0, 2**53), "seconds": number(0, 1e9), "time": number(0, 1e15), "any": lambda x: True,
    "t32": text(32), "t64": text(64), "t256": text(256), "t1024": text(1024), "body": text(131072), "base64": BASE64,
    "sig": lambda x: text(128)(x) and BASE64(x), "kind": like("metrics|configs"), "content": content, "records": RECORDS,
    "method": like("get_parameters|set_parameters|fit|evaluate|query"), "verb": like("GET|PUT"), "key": like("[!-~]{1,512}"),
    "url": lambda x: like(r"https?://[!#-\[\]-~]+")(x) and len(x) <= 4096 and urlsplit(x).hostname,
    "blob": table("digest:digest size:size"), "config": table("records:one", one=lambda x: RECORDS(x) and len(x) == 1
        and x[0][0] == "config" and x[0][1]["kind"] == "configs"),
    "grants": many(table("method:verb key:key url:url size:size ttl_s:seconds"), 256)}
ENVELOPE = table("v:v client:device method:t32 body:body sig:sig key:sig grants?:grants")
COMMAND = table("v:v id:command client:device method:method type:t256 run:id number:count epoch:count floor:count "
    "ttl_s:seconds created_at:time content:content group?:t1024 bundle?:blob config?:config seed?:seed ext?:any")
BODIES = {method: table("v:v client:device method:any epoch:count floor:count ext?:any " + more) for method, more in (
    ("ack", "acks?:ids"), ("cancel", "ids?:ids"), ("grant", "ids?:ids"), ("rollcall", "ids?:ids boot?:t64"))}

def unpack(data):  # [8] [(name, record, its pieces), ...]
    size, found = int.from_bytes(data[8:16], "little"), []
    need(len(data) >= 16 and data[:8] == b"WFPACK1\n" and size <= len(data) - 16, "no pack")
    header, at = loads(data[16 : 16 + size], 2**26), 16 + size
    need(table("records:packed", packed=PACKED)(header), "no header of a pack")
    for name, record in header["records"]:
        sizes, pieces = [item[4] if record["kind"] == "arrays" else item[2] for item in record["items"]
                         if record["kind"] == "arrays" or item[1] in ("packed", "packeds")], []
        for size in sum((size if isinstance(size, list) else [size] for size in sizes), []):
            at += -at % 64 + size
            pieces.append(data[at - size : at])
        found.append((name, record, pieces))
    need(at + -at % 64 == len(data), "a pack of another size")
    return found

def pack(records):
    head = dumps({"records": [[name, record] for name, record, _ in records]}).encode()
    data = b"WFPACK1\n" + len(head).to_bytes(8, "little") + head
    for piece in sum((pieces for _, _, pieces in records), []):
        data += bytes(-len(data) % 64) + piece
    return data + bytes(-len(data) % 64)

NPY = rb"\x93NUMPY\x01\x00(..)({'descr': '([<>])f4', 'fortran_order': (?:True|False), 'shape': \(([0-9, ]*)\), } *\n?)"
def plus_one(data, item):  # [8.1] float32 as numpy.save writes it; any other array is passed on untouched
    if item[1] != "float32" or item[3] != "numpy.ndarray":
        return data
    found = re.match(NPY, data, re.DOTALL)
    need(found and int.from_bytes(found[1], "little") == len(found[2]), "no array of float32")
    need([int(n) for n in found[4].split(b",") if n.strip()] == item[2], "another shape")
    need(len(data) - found.end() == 4 * math.prod(item[2]), "another size")
    numbers = array.array("f", data[found.end() :])
    swap = (found[3] == b"<") != (sys.byteorder == "little") and numbers.byteswap() is None
    numbers = array.array("f", (number + 1 for number in numbers))
    swap and numbers.byteswap()
    return data[: found.end()] + numbers.tobytes()

P, D, BASE_Y = 2**255 - 19, -121665 * pow(121666, -1, 2**255 - 19), 4 * pow(5, -1, 2**255 - 19) % (2**255 - 19)
def point(data):  # [5.2] Ed25519: RFC 8032, 5.1.3
    y, odd = int.from_bytes(data, "little") % 2**255, data[31] >> 7
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if x * x % P == square else x * pow(2, (P - 1) // 4, P) % P
    need(len(data) == 32 and y < P and x * x % P == square and (x or not odd), "no point of the curve")
    return (x if x % 2 == odd else P - x), y, 1, (x if x % 2 == odd else P - x) * y % P
def add(p, q):  # 5.1.4
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    return (b - a) * (d - c) % P, (d + c) * (b + a) % P, (d - c) * (d + c) % P, (b - a) * (b + a) % P
def times(n, p):
    return add(times(n // 2, add(p, p)), p if n % 2 else (0, 1, 1, 0)) if n else (0, 1, 1, 0)
def is_signed(key, said, signature):  # 5.1.7
    s, k = int.from_bytes(signature[32:], "little"), hashlib.sha512(signature[:32] + key + said).digest()
    a = times(s, point(BASE_Y.to_bytes(32, "little")))
    b = add(point(signature[:32]), times(int.from_bytes(k, "little"), point(key)))
    small = len(signature) == 64 and s < 2**252 + 27742317777372353535851937790883648493
    return small and all((a[i] * b[2] - b[i] * a[2]) % P == 0 for i in (0, 1))

def opened(data, client, pinned):  # [5.2] its six steps
    envelope = loads(data)
    need(ENVELOPE(envelope) and pinned in (None, envelope["key"]), "no envelope, or another key")
    grants = envelope.get("grants", [])
    said = ["windflower wire 1", envelope["body"], *(f"{g['method']} {g['key']} {g['url']}" for g in grants)]
    sealed = is_signed(b64decode(envelope["key"]), "\n".join(said).encode(), b64decode(envelope["sig"]))
    need(sealed, "a seal that does not fit")
    body = loads(envelope["body"].encode())
    need(BODIES.get(envelope["method"], COMMAND)(body), "no body")
    need(body["method"] == envelope["method"] and body["client"] == envelope["client"] == client, "for another")
    return body, {(g["method"], g["key"]): g["url"] for g in grants}, envelope["key"]

def digest_of(x):  # [7.3] of a content, whichever way its keys are ordered
    records = [[name, record and {key: record[key] for key in ("kind", "items")}] for name, record in x["records"]]
    named_pack = {key: x["pack"][key] for key in ("digest", "size")} if "pack" in x else None
    return hashlib.sha256(dumps([records, named_pack]).encode()).hexdigest()

def answer_to(command, worked_s, records=None, error=None):  # [6] [7]: the reply, and its pack if that is not inline
    packed = pack([record for record in records or [] if record[1]["kind"] == "arrays"])
    body = {"records": [[name, None if record["kind"] == "arrays" else record] for name, record, _ in records or []]}
    whole_pack = any(record is None for _, record in body["records"])
    if whole_pack:
        body["pack"] = blob_of(packed)
    if whole_pack and len(packed) <= 65536:
        body["inline"] = b64encode(packed).decode()
    reply = {"v": 1} | {key: command[key] for key in ("client", "id", "method", "run", "epoch")}
    reply |= {"digest": digest_of(body), "worked_s": worked_s}
    if whole_pack and "inline" not in body:
        reply["path"] = out_key(command)
    return reply | ({"error": error} if error else {"content": body}), packed if "path" in reply else b""
out_key = lambda command: "out/{run}/{client}/{id}".format(**command)


def heartbeat(client, now, boot, state, interval_s, running, queued, outbox, need_, floor, labels=None):  # [4]
    lists = {"running": running, "queued": queued[:256], "outbox": outbox[:256], "need": need_[:256], "floor": floor}
    said = {"v": 1, "client": client, "time": now, "boot": boot, "state": state, "interval_s": interval_s}
    said |= {key: value for key, value in lists.items() if value} | {"speaks": [1]}
    return dumps(said | ({"labels": labels} if labels else {}))

def reply_topic(method, client):  # [2]
    return f"{ {'get_parameters': 'parameters', 'set_parameters': 'set'}.get(method, method)}/client/{client}/sent"

DEAD, TAKEN = (400, 401, 403, 404, 405, 410), (409, 412)
def transfer(method, url, data=None):  # [9.3] PermissionError: the grant is dead. Any other error: try again later
    if url is None:
        raise PermissionError("no grant")
    kind = http.client.HTTPSConnection if url.startswith("https:") else http.client.HTTPConnection
    link = kind(urlsplit(url).netloc, timeout=30)
    try:
        path = url.split(urlsplit(url).netloc, 1)[1] or "/"
        link.request(method, path, data, {} if data is None else {"If-None-Match": "*"})
        answer = link.getresponse()
        if answer.status in DEAD:
            raise PermissionError(answer.status)
        if answer.status // 100 != 2 and not (method == "PUT" and answer.status in TAKEN):
            raise ConnectionError(answer.status)
        return answer.read()
    finally:
        link.close()
