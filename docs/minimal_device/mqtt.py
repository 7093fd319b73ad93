"""As much of MQTT 5 as a device needs: a last will, one subscription, QoS 0 and 1. Other languages have a library for it."""
import io, math, select, socket, threading, time
from contextlib import suppress

def field(data):  # bytes or text with their length in front
    data = data.encode() if isinstance(data, str) else data
    return len(data).to_bytes(2, "big") + data

def varint(read):  # MQTT 5, 1.5.5
    value = shift = 0
    while True:
        byte = read(1)[0]
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value

class Connection:
    """Connects with clean start and the will at QoS 1, and subscribes at QoS 1; OSError when it cannot or is cut."""

    def __init__(self, host, port, client, interval_s, will, topic):
        self.socket, self.lock, self.last_id = socket.create_connection((host, port), 10), threading.Lock(), 1
        alive_s = min(65535, math.ceil(2 * interval_s) + 5).to_bytes(2, "big")
        self.send(0x10, field("MQTT") + b"\x05\x0e" + alive_s + b"\0" + field(client) + b"\0" + field(will[0]) + field(will[1]))
        self.expect(0x20, 1)
        self.send(0x82, b"\0\1\0" + field(topic) + b"\1")
        self.expect(0x90, -1)

    def expect(self, kind, at):
        found, body = self.read()
        if found != kind or body[at] >= 0x80:
            raise ConnectionError(f"the broker refused: {found:#x} {body!r}")

    def send(self, kind, body):
        size, head = len(body), bytearray([kind])
        while True:
            head.append(size % 128 | (128 if size > 127 else 0))
            size //= 128
            if not size:
                break
        with self.lock:
            self.socket.sendall(bytes(head) + body)

    def read(self):  # the next packet's first byte, and what follows its length
        kind = self.take(1)[0]
        return kind, self.take(varint(self.take))

    def take(self, size):
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise ConnectionError("the broker closed the connection")
            data += more
        return data

    def publish(self, topic, payload, qos):  # heartbeats are at QoS 0 and retained [2]. Whatever is lost, heartbeats mend
        self.last_id = self.last_id % 65535 + 1
        number = self.last_id.to_bytes(2, "big") if qos else b""
        with suppress(OSError):
            self.send(0x32 if qos else 0x31, field(topic) + number + b"\0" + payload.encode())

    def message(self):  # the payload, if the next packet is a message
        kind, body = self.read()
        if kind >> 4 != 3:
            return None
        rest = io.BytesIO(body)
        rest.read(int.from_bytes(rest.read(2), "big"))
        if kind & 6:
            self.send(0x40, rest.read(2))
        rest.read(varint(rest.read))
        return rest.read()

def serve(host, port, device):  # one connection after another
    while True:
        try:
            topics = f"flower/clients/{device.client}", f"commands/client/{device.client}/update"
            will = topics[0], device.heartbeat("gone")
            line = Connection(host, port, device.client, device.interval_s, will, topics[1])
            talk(device, line)
        except OSError as why:
            print("no connection:", why, flush=True)
            time.sleep(1)

def talk(device, line):
    device.say, heard = line.publish, time.monotonic()
    try:
        with device.lock:
            device.beat("connect")
            device.tell(*device.held)
        print("connected", flush=True)
        while time.monotonic() - heard < 2.5 * device.interval_s + 5:
            if select.select([line.socket], [], [], max(0.0, device.next_beat - time.monotonic()))[0]:
                heard, message = time.monotonic(), line.message()
                if message is not None:
                    device.receive(message)
            elif time.monotonic() >= device.next_beat:
                device.beat("interval")
                line.send(0xC0, b"")  # a ping: its answer shows that the broker lives
    except SystemExit:
        line.send(0xE0, b"")  # [2] whoever leaves in good order leaves no will
        raise
    finally:
        device.say = lambda *_: None
        line.socket.close()
