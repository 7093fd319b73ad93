// A device of version 1 of the wire, in Node.js 18 or newer alone, written from wire.md: [n] is its section n.
//     node device.mjs HOST PORT DEVICE_ID STATE_FILE [INTERVAL_S [GATEWAY_KEY]]
import { createHash, createPublicKey, randomBytes, verify } from "node:crypto";
import fs from "node:fs";
import net from "node:net";

function work({ method, type }, records) {  // what it is for; a record is [name, what a pack's header says, its pieces]
  const plus = ([name, record, pieces]) => [name, record, pieces.map((piece, n) => plusOne(piece, record.items[n]))];
  const metrics = ["metrics", { kind: "metrics", items: [["num-examples", "int", "1"]] }, []];
  if (method === "fit") return [...records.filter(isArrays).map(plus), metrics];
  if (method === "evaluate") return [metrics];
  if (method === "query") return [["config", { kind: "configs", items: [["type", "str", type]] }, []]];
  throw new Error(`this device keeps no models: ${method}`); }

// [3] JSON. A whole number becomes a BigInt; as text it is marked by half a surrogate pair, which no string may hold
const need = (right, why) => { if (!right) throw new Error(why); };  // [11] what throws while it is read is refused
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|[^\s,:[\]{}"]+|[[\]{}:]/gs, tokens = text => text.match(TOKEN).length;
export function loads(data, most = 131072, depth = -1) {
  const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data.subarray(0, most + 1));
  const marked = text.replace(TOKEN, x => {
    const isWhole = /^-?(0|[1-9]\d*)$/.test(x), isHalf = x[0] === '"' && /\p{Surrogate}/u.test(JSON.parse(x));
    need((depth += "[{".includes(x) - "]}".includes(x)) <= 16 && !isHalf && (x.length <= 20 || !isWhole), "wrong JSON");
    return isWhole ? `"\ud800${x}"` : x; });
  const value = JSON.parse(marked, (key, x) => {
    need(key[0] !== "\ud800" && x !== Infinity && x !== -Infinity, "a number as a key, or beyond binary64");
    return x?.[0] === "\ud800" ? BigInt(x.slice(1)) : x; });
  return need(data.length <= most && tokens(dumps(value)) === tokens(text), "too long, or a key stands twice"), value; }
export const dumps = value => JSON.stringify(value, (_, x) =>  // [3.1] the one form; what is undefined is left out
  typeof x === "bigint" ? `\ud800${x}` : Number.isInteger(x) ? `\ud800${x}.0` : x).replace(/"\\ud800([^"]*)"/g, "$1")
  .replace(/[\x7f-\uffff]/g, char => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);

// [3] to [9] A check says whether a value is right; one that throws says that it is not
const any = () => true, empty = () => false, bool = x => typeof x === "boolean", str = x => typeof x === "string";
const like = pattern => x => str(x) && pattern.test(x), text = most => like(new RegExp(`^.{0,${most}}$`, "su"));
const number = (low, high) => x => ["bigint", "number"].includes(typeof x) && low <= x && x <= high;
const whole = (low, high) => x => typeof x === "bigint" && number(low, high)(x), count = whole(0, 2 ** 53);
const list = (check, most = Infinity) => x => Array.isArray(x) && x.length <= most && x.every(item => check(item));
const object = (must, may, all = { __proto__: null, ...must, ...may }) => x =>
  Object.keys(must).every(key => key in x) && Object.keys(x).every(key => all[key]?.(x[key]));
const named = (check, most) => x => new Set(x.map(([name]) => name)).size === x.length && list(row =>
  list(any)(row) && row.length === 1 + check.length && text(4096)(row[0]) && check(...row.slice(1)), most)(x);
const sha = data => createHash("sha256").update(data).digest("hex"), bytesOf = text => Buffer.from(text, "base64");
const base64 = x => str(x) && bytesOf(x).toString("base64") === x, size = whole(0, 2 ** 40), secs = number(0, 1e9);
const digest = like(/^[0-9a-f]{64}$/), command = like(/^[0-9a-f]{32}$/), seed = like(/^[0-9a-f]{16}$/), v = whole(1, 1);
const id = like(/^[^\W_][\w:-]{0,127}$/), client = x => id(x) && x !== "gateway", ids = list(command, 256);
export const blobOf = data => ({ digest: sha(data), size: BigInt(data.length) }), blob = object({ digest, size });
const fits = (data, { digest, size }) => dumps(blobOf(data)) === dumps({ digest, size });
const FLOAT = /^(nan|-?inf|-?0x(0\.0p\+0|0\.(?!0{13})[0-9a-f]{13}p-1022|1\.[0-9a-f]{13}p(\+0|[+-][1-9]\d{0,3})))$/;
const float = x => FLOAT.test(x) && number(-1022, 1023)(Number(x.split("p")[1] ?? 0)), boot = text(64);  // [7.2]
const int = x => x.length <= 80 && like(/^(0|-?[1-9]\d*)$/)(x) && BigInt(x) ** 2n < 2n ** 512n;
const values = more => record => object({ kind: like(/^(metrics|configs)$/), items: named((kind, x) => {  // [7.1]
  const [, type, s] = /^(int|float|bool|str|bytes|packed|empty)(s?)$/.exec(str(kind) && kind);
  const check = { int, float, empty, ...(record.kind === "configs" && { bool, str, ...more }) }[type];
  return check && (s ? list(check)(x) && (type !== "packed" || x.length > 0) : check(x)); }) })(record);
const array = (type, shape, kind, bytes) => text(10000)(type) && list(size, 64)(shape) && text(64)(kind) && size(bytes);
const packed = x => (x.kind === "arrays" ? object({ kind: any, items: named(array) }) : values({ packed: size }))(x);
const records = named(x => x === null || values({ bytes: base64 })(x), 4096), isArrays = ([, r]) => r.kind === "arrays";
export const content = x => object({ records }, { pack: blob, inline: base64 })(x) && (!("inline" in x)  // [7]
  || (x.pack.size <= 65536 && fits(bytesOf(x.inline), x.pack))) && "pack" in x === x.records.some(r => r[1] === null);
const config = x => object({ records })(x) && `${x.records.map(([name, r]) => [name, r.kind])}` === "config,configs";
const url = x => text(4096)(x) && like(/^https?:\/\/(?![/?#])[!#-[\]-~]+$/)(x) && new URL(x);
const grants = list(object({ method: like(/^(GET|PUT)$/), key: like(/^[!-~]{1,512}$/), url, size, ttl_s: secs }), 256);
const ENVELOPE = object({ v, client, method: text(32), body: str, sig: base64, key: base64 }, { grants });
const both = { v, client, epoch: count, floor: count }, METHOD = /^(get_parameters|set_parameters|fit|evaluate|query)$/;
const COMMAND = object({ ...both, id: command, method: like(METHOD), type: text(256), run: id, number: count, content,
  ttl_s: secs, created_at: number(0, 1e15) }, { group: text(1024), bundle: blob, config, seed, ext: any });
const CONTROLS = { __proto__: null, ack: { acks: ids }, cancel: { ids }, grant: { ids }, rollcall: { ids, boot } };
export function opened(data, client, pinned) {  // [5.2] the body, the grants, the gateway's key
  const envelope = loads(data), { method, body, sig, key, grants = [] } = envelope, more = CONTROLS[method];
  need(ENVELOPE(envelope) && (pinned ?? key) === key, "no envelope, or another key");
  const said = ["windflower wire 1", body, ...grants.map(g => `${g.method} ${g.key} ${g.url}`)].join("\n");
  const jwk = { kty: "OKP", crv: "Ed25519", x: bytesOf(key).toString("base64url") };
  need(verify(null, Buffer.from(said), createPublicKey({ key: jwk, format: "jwk" }), bytesOf(sig)), "another seal");
  const read = loads(Buffer.from(body)), is = more ? object({ ...both, method: any }, { ext: any, ...more }) : COMMAND;
  need(is(read) && read.method === method && read.client === envelope.client, "no body of this envelope");
  return need(read.client === client, "for another device"), [read, grants, key]; }
export function unpack(data, at = 16 + Number(data.readBigUInt64LE(8))) {  // [8] a pack, as `work` takes it
  const read = loads(data.subarray(16, at), 2 ** 26), piece = size => data.subarray(at += -at & 63, at += Number(size));
  need(data.toString("latin1", 0, 8) === "WFPACK1\n" && object({ records: named(packed, 4096) })(read), "no pack");
  const sizes = ({ kind, items }) => items.flatMap(x => kind === "arrays" ? x[4] : /^packeds?$/.test(x[1]) ? x[2] : []);
  const found = read.records.map(([name, record]) => [name, record, sizes(record).map(piece)]);
  return need(at + (-at & 63) === data.length, "a pack of another size"), found; }
export function pack(records) {
  const head = dumps({ records: records.map(([name, record]) => [name, record]) }), pieces = records.flatMap(r => r[2]);
  const start = Buffer.from(`WFPACK1\n01234567${head}`), padded = data => [data, Buffer.alloc(-data.length & 63)];
  return start.writeBigUInt64LE(BigInt(head.length), 8), Buffer.concat([start, ...pieces].flatMap(padded)); }
const NPY = /^\x93NUMPY\x01\0..{'descr': '<f4', 'fortran_order': (?:True|False), 'shape': \(([\d, ]*)\), } *\n?$/s;
export function plusOne(data, [, dtype, shape, stype]) {  // [8.1] float32 as NumPy writes it; others are not touched
  if (dtype !== "float32" || stype !== "numpy.ndarray") return data;
  const head = data.toString("latin1", 0, 10 + data.readUInt16LE(8)), bytes = shape.reduce((size, n) => size * n, 4n);
  const out = Buffer.from(data), tuple = shape.length === 1 ? `${shape},` : shape.join(", ");
  need(NPY.exec(head)[1] === tuple && BigInt(data.length - head.length) === bytes, "another shape or size");
  for (let at = head.length; at < out.length; at += 4) out.writeFloatLE(out.readFloatLE(at) + 1, at);
  return out; }
export const outKey = c => `out/${c.run}/${c.client}/${c.id}`, digestOf = x => sha(dumps([x.records, x.pack ?? null]));
export function answerTo(c, worked_s, records, error, most = 65536) {  // [6] [7] its reply; `most` bytes are inline
  const data = records.some(isArrays) ? pack(records.filter(isArrays)) : undefined, away = data?.length > most;
  const body = { records: records.map(x => [x[0], isArrays(x) ? null : x[1]]), pack: data && blobOf(data) };
  const { client, id, method, run, epoch } = c, path = away ? outKey(c) : undefined, text = data?.toString("base64");
  const said = { v: 1n, client, id, method, run, epoch, digest: digestOf(body), worked_s, path };
  const reply = dumps({ ...said, ...(error ? { error } : { content: { ...body, inline: away ? undefined : text } }) });
  return away ? { reply, pack: text } : { reply, state: "answered" }; }
async function transfer(method, url, body) {  // [9.3] the bytes, or why there are none: "dead" or "later"
  try { const got = await fetch(url, { method, body, redirect: "manual", headers: body && { "If-None-Match": "*" } });
    const data = Buffer.from(await got.arrayBuffer()), isTaken = body && /409|412/.test(got.status);
    return got.ok || isTaken ? data : /400|401|403|404|405|410/.test(got.status) ? "dead" : "later"; }
  catch { return url ? "later" : "dead"; } }

// [10] The exchange. A row is what is known of a command c: it is "kept", then "answered", then "ack" or "cancel"
export function makeDevice(client, file, interval_s = 60, key = null, world = {}) {
  const own = fs.existsSync(file) ? loads(fs.readFileSync(file), 1e12) : { key, floor: 0n, held: {} }, { held } = own;
  const me = { client, interval_s, own, boot: randomBytes(8).toString("hex"), say() {}, leave() {}, log: console.log,
    topic: `flower/clients/${client}`, now: () => performance.now() / 1000, time: () => Date.now() / 1000, ...world };
  const rows = (...states) => Object.values(held).filter(({ state }) => states.includes(state));
  const isOld = (run, epoch) => Object.values(held).some(row => row.c.run === run && row.epoch > epoch);
  const begin = row => Object.assign(row, { due: 0, tries: 0, busy: 0, need: 0, ends: me.now() + Number(row.c.ttl_s) });
  const keep = (next = `${file}.new`) => {  // durable when it returns: "as" writes through to the disk
    fs.rmSync(next, { force: true }), fs.writeFileSync(next, dumps(own), { flag: "as" }), fs.renameSync(next, file);
    const folder = fs.openSync(file.replace(/[^/]*$/, ".")); fs.fsyncSync(folder), fs.closeSync(folder); };
  const tell = told => { for (const { state, c: { method }, reply } of told) if (state === "answered")
    me.say(`${method.replace("get_", "").replace("set_parameters", "set")}/client/${client}/sent`, reply, 1); };
  const beat = me.beat = state => (clearTimeout(me.timer), me.timer = setTimeout(beat, interval_s * 1000, "interval"),
    me.say(me.topic, me.heartbeat(state), 0), /connect|rollcall/.test(state) && tell(rows("answered")));
  me.heartbeat = state => {  // [4] [10.2]
    const ids = found => found.length ? found.slice(0, 256).map(({ c }) => c.id) : undefined, open = rows("kept");
    return dumps({ v: 1n, client, time: me.time(), boot: me.boot, state, interval_s,
      running: open.find(x => x.busy)?.c.id, queued: ids(open.filter(x => !x.busy)), outbox: ids(rows("answered")),
      need: ids(open.filter(x => x.need)), floor: own.floor || undefined, speaks: [1n], labels: me.labels }); };
  const take = ({ ext, ...c }, { id, epoch } = c) => {  // [10.1] Returns what is to be answered again
    const { state, by } = held[id] ?? {}, isOver = state === "ack" || (state === "cancel" && by >= epoch);
    if (isOver || c.number < own.floor || isOld(c.run, epoch)) return me.log(`refused: ${id}`), [];
    if (!state || state === "cancel") held[id] = begin({ state: "kept", c });
    const row = held[id], ends = Math.max(row.ends, me.now() + Number(c.ttl_s));
    return [Object.assign(row, { epoch, ends, state: row.pack ? "kept" : row.state })]; };
  me.receive = (data, body, grants) => {  // bytes that came on the command topic
    try { [body, grants, own.key] = opened(data, client, own.key); } catch (why) { return me.log(`refused: ${why}`); }
    const { method, epoch, acks = [], ids = acks } = body, told = method in CONTROLS ? [] : take(body);
    for (const { c: { id, run, number }, epoch: taken, state, reply } of rows("kept", "answered"))  // [5.4]
      if (ids.includes(id) && !isOld(run, epoch) && { ack: reply, cancel: state === "kept" }[method])
        held[id] = { state: method, by: epoch, epoch: taken, c: { id, run, number } };
    if (body.floor > own.floor) own.floor = body.floor;
    for (const [id, { c }] of Object.entries(held)) if (c.number < own.floor) delete held[id];
    for (const { method, key, url } of grants) for (const row of rows("kept", "answered"))  // [9.2]
      if (key === (method === "PUT" ? outKey(row.c) : `blobs/${row.c.content.pack?.digest}`))
        Object.assign(row, { [method]: url, due: 0, need: false });
    keep(), tell(told);  // a pack that was uploaded is so again: the gateway may have lost it
    if (body.boot === me.boot) me.leave(`another agent runs under the id ${client}`, 1);  // [10.4]
    else if (method === "rollcall") beat("rollcall"); };
  const answer = async ({ c, ends, tries, GET }, begun = me.now()) => {  // its reply, or why it has to wait
    const { pack, inline } = c.content, isLate = begun > ends || tries >= 20, isAway = pack && inline === undefined;
    let error, code = 3n, records = [], data = isAway && !isLate ? await transfer("GET", GET) : bytesOf(inline ?? "");
    if (str(data) || (isAway && !isLate && !fits(data, pack))) return str(data) ? data : "later";
    try { need(!isLate, "too late, or its pack could not be had"), me.log(`works on ${c.id} ${c.method}`);
      const given = pack ? unpack(data) : [], names = c.content.records.filter(x => x[1] === null).map(x => x[0]);
      need(dumps(given.map(x => x[0])) === dumps(names), "another pack"), code = 2n, records = work(c, given); }
    catch (why) { error = { code, reason: why.stack.slice(0, 2000).replace(/\p{Surrogate}/gu, "?") }; }
    return answerTo(c, me.now() - begun, records, error); };
  me.step = async () => {  // fetches for, works on or uploads for one command; false where none can go on
    const waiting = new Set(), isNext = ({ c, due }) => !waiting.has(c.run) && (due <= me.now() || !waiting.add(c.run));
    const row = rows("kept").find(isNext), { reply, pack, PUT, tries, asked } = row ?? {};
    if (row) row.busy = !reply; else return false;
    const found = reply ? await transfer("PUT", PUT, bytesOf(pack)) : await answer(row), dead = found === "dead";
    if (held[row.c.id] !== row) return true;  // it was cancelled, or is over
    const due = dead ? Infinity : me.now() + Math.min(30, 2 ** tries / 2), need = dead || tries > 1;
    if (str(found)) Object.assign(row, { due, need, tries: tries + !dead, asked: asked || dead, busy: false });
    if (str(found)) return dead && !asked && beat("need"), true;
    Object.assign(row, reply ? { state: "answered" } : found, { tries: 0, need: false, busy: false });
    return keep(), me.log(`${row.state} ${row.c.id}`), tell([row]), beat("task"), true; };
  return rows("kept", "answered").forEach(begin), me; }

const chars = text => [...Buffer.from(text)], field = text => [...short(chars(text).length), ...chars(text)];
const short = n => [n >> 8, n & 255], sized = n => n < 128 ? [n] : [(n & 127) | 128, ...sized(n >> 7)];
const packet = (kind, ...parts) => Buffer.from([kind, ...sized(parts.flat().length), ...parts.flat()]);
const varint = (data, at, end = data.findIndex((byte, n) => n >= at && byte < 128) + 1) =>  // a number, where it ends
  [data.subarray(at, end).reduce((sum, byte, n) => sum + (byte & 127) * 128 ** n, 0), end || Infinity];
function connect(host, port, me, wait_s = 1) {  // [2] as much of MQTT 5 as a device needs; others have a library for it
  const { client, interval_s } = me, silence_s = Math.min(65535, Math.ceil(2.5 * interval_s) + 5);
  const socket = net.connect({ host, port, noDelay: true }), send = (...parts) => socket.write(packet(...parts));
  let heard = me.now(), rest = Buffer.alloc(0), last = 0, will = [me.topic, me.heartbeat("gone")].map(field);
  const pulse = setInterval(() => me.now() - heard > silence_s ? socket.destroy() : send(0xc0), interval_s * 1000);
  send(0x10, field("MQTT"), [5, 14, ...short(silence_s), 0], field(client), [0], ...will);
  send(0x82, [0, 1, 0], field(`commands/client/${client}/update`), [1]);
  const say = (to, x, qos) => send(0x31 + qos, field(to), qos ? short(last = last % 65535 + 1) : [], [0], chars(x));
  const hear = (kind, body) => {
    if (kind === 0x90 && body.at(-1) > 127) return socket.destroy(new Error("the broker lets nobody subscribe"));
    if (kind >> 4 !== 3) return kind === 0x90 && (wait_s = 1, me.say = say, me.log("connected"), me.beat("connect"));
    const at = 2 + body.readUInt16BE(), to = at + (kind & 6), [skip, start] = varint(body, to);
    me.receive(body.subarray(start + skip)), kind & 6 && send(0x40, [...body.subarray(at, to)]); };
  socket.on("data", chunk => { rest = Buffer.concat([rest, chunk]), heard = me.now();
    for (let size, at; [size, at] = varint(rest, 1), rest.length >= at + size; rest = rest.subarray(at + size))
      hear(rest[0], rest.subarray(at, at + size)); });
  socket.on("error", why => me.log(`no connection: ${why.message}`)).on("close", () => {
    clearInterval(pulse), setTimeout(connect, wait_s * 1000, host, port, me, Math.min(30, 2 * wait_s)); });
  me.leave = (why, code) => { me.log(why), send(0xe0), setTimeout(process.exit, 200, code); }; }

if (import.meta.url.endsWith(encodeURI(fs.realpathSync(process.argv[1] ?? "/")))) {
  const [host, port, client, file, interval_s = 60, key] = process.argv.slice(2);
  const me = makeDevice(client, file, Number(interval_s), key); process.umask(0o77);  // its file holds grants
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => me.leave("ends", 0));
  for (connect(host, port, me); ;) await new Promise(async wake => setTimeout(wake, await me.step() ? 0 : 50)); }
