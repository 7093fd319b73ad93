"""Flower's Grid in a few lines, as a twin: it calls the ClientApp, here and now.

Nothing travels, nothing is encoded, nothing waits. Nodes have the ids that the fleet's devices
have, and draw from the sources that a run with the same seed gives them, so that whatever differs
is what windflower did on the way.
"""

import copy
import random
import threading
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from flwr.app import Context, Error, Message, Metadata, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from conformance.fleet import node_config
from windflower.core.identity import device_seed, node_of
from windflower.flower.loading import seed_sources
from windflower.flower.private import make_message


class NaiveGrid(Grid):
    """Answers each message by a call of the ClientApp.

    Args:
        client: the app.
        devices: their ids.
        run_config: the app's configuration.
        seed: the run's.
    """

    def __init__(
        self, client: ClientApp, devices: Sequence[str], run_config: Mapping[str, Any], seed: int
    ) -> None:
        self._client, self._seed = client, seed
        self._names = {node_of(device): device for device in devices}
        self._contexts = {
            node_of(device): Context(
                run_id=1,
                node_id=node_of(device),
                node_config={"device-id": device, **node_config(number)},
                state=RecordDict(),
                run_config=dict(run_config),
            )
            for number, device in enumerate(devices)
        }
        self._worked: Counter[tuple[int, str]] = Counter()
        self._replies: dict[str, Message] = {}
        self._turn = threading.Lock()

    def set_run(self, run: Any) -> None:  # noqa: ANN401 - Flower's
        """There is one run."""

    @property
    def run(self) -> Any:  # noqa: ANN401 - Flower's Run
        """The run."""
        return SimpleNamespace(run_id=1)

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Build a message."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return all nodes."""
        return sorted(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Answer messages, and keep the answers."""
        return [self._push(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return answers, by node."""
        replies = [self._replies.pop(i) for i in message_ids if i in self._replies]
        return sorted(replies, key=lambda reply: reply.metadata.src_node_id)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Answer messages; from several threads one after another."""
        del timeout
        with self._turn:
            return self.pull_messages(list(self.push_messages(messages)))

    def _push(self, message: Message) -> str:
        md = message.metadata
        id_ = f"message-{self._worked.total()}"
        metadata = Metadata(
            1, id_, 1, md.dst_node_id, "", md.group_id, md.created_at, md.ttl, md.message_type
        )
        sent = make_message(metadata, content=copy.deepcopy(message.content))
        self._worked[md.dst_node_id, md.message_type] += 1
        plain, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002 - what apps draw from
        try:
            self._replies[id_] = self._work(sent)
        finally:
            random.setstate(plain)
            np.random.set_state(arrays)  # noqa: NPY002
        return id_

    def _work(self, sent: Message) -> Message:
        node, kind = sent.metadata.dst_node_id, sent.metadata.message_type
        seed = device_seed(
            run_seed=self._seed,
            device=self._names[node],
            message_type=kind,
            occurrence=self._worked[node, kind],
        )
        seed_sources(int(seed, 16), is_secret=False)
        try:
            return copy.deepcopy(self._client(sent, self._contexts[node]))
        except Exception:  # noqa: BLE001 - the app is anybody's code
            return Message(Error(2, traceback.format_exc()), reply_to=sent)
