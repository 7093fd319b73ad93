"""A device of version 1 of the wire, in Python's standard library alone. It asks no app: `fit` adds 1 to every number.

    python device.py HOST PORT DEVICE_ID STATE_FILE [INTERVAL_S [GATEWAY_KEY]]

Written from wire.md; [n] is its section n. It knows no TLS, no login and no prefix. What it keeps, packs too, are rows
of one SQLite file, so that one commit holds a reply with all that belongs to it.
"""
import http.client, json, math, secrets, signal, sqlite3, sys, threading, time, traceback
from base64 import b64decode, b64encode

import mqtt, wire

def work(command, pack):  # what this device is for: records in, records out
    if command["method"] == "fit":
        arrays = [(name, record, [wire.plus_one(piece, item) for item, piece in zip(record["items"], pieces)])
                  for name, record, pieces in wire.unpack(pack) if record["kind"] == "arrays"]
        metrics = {"kind": "metrics", "items": [["num-examples", "int", "1"]]}
        return [*arrays, ("metrics", metrics, [])]
    if command["method"] == "evaluate":
        size = sum(len(piece) for _, _, pieces in wire.unpack(pack) for piece in pieces)
        return [("metrics", {"kind": "metrics", "items": [["num-examples", "int", "1"], ["size", "int", str(size)]]}, [])]
    if command["method"] == "query":
        return [("config", {"kind": "configs", "items": [["type", "str", command["type"]]]}, [])]
    raise NotImplementedError(f"this device keeps no models: {command['method']}")

class Device:  # [10] `say(topic, text, qos)` publishes. `held` is in memory what the file keeps of each command
    def __init__(self, client, file, interval_s=60.0, key=None, say=lambda *_: None):
        self.client, self.interval_s, self.say, self.boot = client, interval_s, say, secrets.token_hex(8)
        self.lock, self.more, self.running, self.next_beat = threading.RLock(), threading.Event(), None, 0.0
        self.file = sqlite3.connect(file, check_same_thread=False)
        self.file.execute("CREATE TABLE IF NOT EXISTS held(id PRIMARY KEY, row)")
        rows = self.file.execute("SELECT id, row FROM held ORDER BY rowid")
        self.held = {id: json.loads(row) for id, row in rows}
        self.own = self.held.pop("device", {"key": key, "floor": 0})
        self.grants, self.tries, self.due, self.need, self.asked = {}, {}, {}, set(), set()
        self.ends = {id: time.monotonic() + row["command"]["ttl_s"] for id, row in self.held.items() if "command" in row}

    def keep(self, *ids):  # durable when it returns; what is held no longer goes
        rows = [(id, json.dumps(self.own if id == "device" else self.held.get(id))) for id in ids]
        with self.file:
            self.file.executemany("INSERT INTO held VALUES (?, ?) ON CONFLICT DO UPDATE SET row = excluded.row", rows)
            self.file.execute("DELETE FROM held WHERE row = 'null'")

    def receive(self, data):  # bytes that came on the command topic
        try:
            body, grants, key = wire.opened(data, self.client, self.own["key"])
        except Exception as why:  # [11]
            return print("refused", repr(why)[:200], flush=True)
        with self.lock:
            if self.own["key"] is None:  # [5.2] pinning
                self.own["key"] = key
                self.keep("device")
            (self.control if body["method"] in wire.BODIES else self.command)(body)
            for id, row in self.held.items():  # [9.2] grants only for what is held
                for name in grants.keys() & set(map(tuple, row["names"])):
                    self.grants[name] = grants[name]
                    self.due.pop(id, None)
                    self.need.discard(id)
            self.more.set()

    def epoch_of(self, run):
        return max((row["epoch"] for row in self.held.values() if row["run"] == run), default=0)

    def raise_floor(self, floor):
        if floor > self.own["floor"]:
            self.own["floor"] = floor
            over = [id for id, row in self.held.items() if row["number"] < floor]
            self.held = {id: row for id, row in self.held.items() if id not in over}
            self.keep("device", *over)

    def command(self, c):  # [10.1] keep
        id, row = c["id"], self.held.get(c["id"], {"state": "new"})
        if c["number"] < self.own["floor"] or c["epoch"] < self.epoch_of(c["run"]):
            return print("refused", id, "over, or of an old epoch", flush=True)
        if row["state"] == "acked" or (row["state"] == "cancelled" and row["by"] >= c["epoch"]):
            return print("refused", id, row["state"], flush=True)
        self.raise_floor(c["floor"])
        self.ends[id] = max(self.ends.get(id, 0.0), time.monotonic() + c["ttl_s"])
        if row["state"] in ("new", "cancelled"):
            away = "pack" in c["content"] and "inline" not in c["content"]
            names = [["GET", "blobs/" + c["content"]["pack"]["digest"]]] if away else []
            row = {"state": "kept", "command": c, "run": c["run"], "number": c["number"],
                   "names": [*names, ["PUT", wire.out_key(c)]]}
        if row["state"] == "answered" and row["pack"]:
            row["state"] = "done"  # the gateway may have lost the pack
        self.held[id] = row | {"epoch": c["epoch"]}
        self.keep(id)
        self.tell(id)

    def control(self, c):  # [5.4]
        self.raise_floor(c["floor"])
        for id in [id for id in c.get("acks", c.get("ids", [])) if id in self.held]:
            row = self.held[id]
            open_ = {"ack": ("done", "answered"), "cancel": ("kept", "done")}.get(c["method"], ())
            if row["state"] in open_ and c["epoch"] >= self.epoch_of(row["run"]):
                state = {"state": "acked" if c["method"] == "ack" else "cancelled", "by": c["epoch"], "names": []}
                self.held[id] = {key: row[key] for key in ("run", "number", "epoch")} | state
                self.need.discard(id)
                self.keep(id)
        if c["method"] == "rollcall":
            if c.get("boot") == self.boot:
                raise SystemExit(f"another agent runs under the id {self.client}")  # [10.4]
            self.beat("rollcall")
            self.tell(*self.held)

    def tell(self, *ids):
        for row in [self.held[id] for id in ids]:
            if row["state"] == "answered":
                self.say(wire.reply_topic(row["command"]["method"], self.client), row["reply"], 1)

    def heartbeat(self, state):  # [10.2]
        with self.lock:
            running = self.running if self.held.get(self.running, {}).get("state") == "kept" else None
            held = lambda *states: [id for id, row in self.held.items() if row["state"] in states and id != running]
            lists = running, held("kept", "done"), held("answered"), [id for id in self.held if id in self.need]
            return wire.heartbeat(self.client, time.time(), self.boot, state, self.interval_s, *lists, self.own["floor"])

    def beat(self, state):
        self.next_beat = time.monotonic() + self.interval_s
        self.say("flower/clients/" + self.client, self.heartbeat(state), 0)

    def step(self):  # fetch for, work on, or upload for one command; False where there is none that can go on
        with self.lock:
            waiting = set()  # runs whose first command waits
            for id, row in self.held.items():
                if row["state"] in ("kept", "done") and row["run"] not in waiting:
                    if self.due.get(id, 0.0) <= time.monotonic():
                        break
                    waiting.add(row["run"])
            else:
                return False
            self.running = id
        try:
            answer = self.answer(id, row) if row["state"] == "kept" else self.upload(row)
        except (OSError, http.client.HTTPException) as why:
            self.postpone(id, dead=isinstance(why, PermissionError))
        else:
            self.tries[id] = 0
            with self.lock:
                if self.held.get(id, {}).get("state") == row["state"]:  # else it was cancelled, or is over
                    self.held[id] = row | answer
                    self.keep(id)
                    print(self.held[id]["state"], id, flush=True)
                self.running = None
                self.tell(*{id} & self.held.keys())
                self.beat("task")
        return True

    def answer(self, id, row):
        started, c = time.monotonic(), row["command"]
        records, error, content = None, None, c["content"]
        if started > self.ends[id] or self.tries.get(id, 0) >= 20:
            error = {"code": 3, "reason": "it waited for longer than its ttl_s, or its pack could not be had"}
        else:
            pack = b64decode(content["inline"]) if "inline" in content else None
            if "pack" in content and pack is None:
                pack = wire.transfer("GET", self.grants.get(tuple(row["names"][0])))
                if wire.blob_of(pack) != content["pack"]:
                    raise ConnectionError("other bytes than were named")
            print("works on", id, c["method"], flush=True)
            try:
                records = work(c, pack)
            except Exception:
                error = {"code": 2, "reason": traceback.format_exc()[-2000:].encode(errors="replace").decode()}
        reply, pack = wire.answer_to(c, time.monotonic() - started, records, error)
        return {"state": "done" if pack else "answered", "reply": wire.dumps(reply), "pack": b64encode(pack).decode()}

    def upload(self, row):
        wire.transfer("PUT", self.grants.get(tuple(row["names"][-1])), b64decode(row["pack"]))
        return {"state": "answered"}

    def postpone(self, id, *, dead):
        with self.lock:
            self.running, first = None, dead and id not in self.asked
            if dead:
                self.due[id] = math.inf  # until another grant comes
                self.asked.add(id)
            else:
                self.tries[id] = self.tries.get(id, 0) + 1
                self.due[id] = time.monotonic() + min(30, 0.5 * 2 ** (self.tries[id] - 1))
            if dead or self.tries[id] >= 3:
                self.need.add(id)
            if first:
                self.beat("need")

def forever(device):
    while True:
        device.more.clear()
        if not device.step():
            device.more.wait(0.1)

def main(host, port, client, file, interval_s="60", key=None):
    device = Device(client, file, float(interval_s), key)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    threading.Thread(target=forever, args=[device], daemon=True).start()
    mqtt.serve(host, int(port), device)

if __name__ == "__main__":
    main(*sys.argv[1:])
