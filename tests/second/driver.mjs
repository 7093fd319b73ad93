// Calls the minimal device for tests: a JSON line asks, a JSON line answers.
import { createInterface } from "node:readline";
import * as minimal from "../../docs/minimal_device/device.mjs";

const { answerTo, blobOf, content, digestOf, dumps, loads, opened, outKey, pack, plusOne, unpack } = minimal;
const bytes = text => Buffer.from(text, "base64");
const base64 = data => data.toString("base64");
let device, clock = 0, file, said = [], log = [];

const CALLS = {
  opened({ data, key }) {
    const [body, grants, signer] = opened(bytes(data), "pi-07", key);
    const digest = body.content && digestOf(body.content);
    return { body, grants, key: signer, digest, reply_key: body.content && outKey(body) };
  },
  heartbeat({ client, time, boot, state, interval_s, running, queued, outbox, need, floor, labels }) {
    const world = { time: () => time, boot, labels: Object.keys(labels).length ? labels : undefined };
    const told = minimal.makeDevice(client, "no file", interval_s, null, world);
    const holds = (ids, kind) => ids.forEach(id => told.own.held[id] = { state: kind, c: { id }, need: need.includes(id) });
    holds(running ? [running, ...queued] : queued, "kept");
    holds(outbox, "answered");
    told.own.floor = floor;
    if (running) told.own.held[running].busy = true;
    return told.heartbeat(state);
  },
  reply({ command, worked_s, records, held, error, most }) {
    const packed = held ? unpack(bytes(held)) : [];
    const rows = records.map(([name, record]) => record ? [name, record, []] : packed.find(row => row[0] === name));
    return answerTo(command, worked_s, rows, error ?? undefined, Number(most));
  },
  content({ data }) {
    const read = loads(bytes(data));
    return { right: content(read) === true, digest: digestOf(read) };
  },
  unpack({ data }) {
    const records = unpack(bytes(data));
    const told = records.map(([name, record, pieces]) => [name, record, pieces.map(base64)]);
    return { records: told, packed: base64(pack(records)), blob: blobOf(bytes(data)) };
  },
  plus_one: ({ data, item }) => base64(plusOne(bytes(data), item)),
  loads: ({ data }) => loads(bytes(data)),

  // The device that is played: `start` begins it anew with nothing but its file.
  start({ file: path = file, key }) {
    clearTimeout(device?.timer);
    const say = (topic, text) => said.push([topic, text]);
    const leave = why => log.push(`leaves: ${why}`);
    const world = { say, leave, now: () => clock, log: line => log.push(line) };
    device = minimal.makeDevice("pi-07", file = path, 60, key, world);
    return { boot: device.boot, key: device.own.key };
  },
  hear: ({ data }) => { device.receive(bytes(data)); },
  async work() { while (await device.step()); },
  wait({ seconds }) { clock += Number(seconds); },
  told() {
    const all = { said, log };
    [said, log] = [[], []];
    return all;
  },
  now: () => loads(Buffer.from(device.heartbeat("interval"))),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { call, ...asked } = loads(Buffer.from(line), Infinity);
  let answer;
  try {
    answer = dumps({ value: (await CALLS[call](asked)) ?? null });
  } catch (why) {
    if (why instanceof ReferenceError) throw why;  // a mistake of its own
    answer = JSON.stringify({ refused: String(why) });
  }
  process.stdout.write(`${answer}\n`);
}
process.exit();
