"""A cluster that does not come up is tried again, and nothing of it stays. Without Ray: what it raises, raised here."""

from types import ModuleType

import pytest

from analysis.errors import SweepError
from analysis.sweep.cluster import STARTS, start_here

TIMED_OUT = "The current node timed out during startup."


class Ray(ModuleType):
    """Its nodes come up after so many that do not.

    Attributes:
        messages: of the nodes that do not, in their order.
        nodes: of all starts.
    """

    def __init__(self, *messages: str) -> None:
        super().__init__("ray")
        self.messages = messages
        self.nodes: list[Node] = []

    def init(self, *given: object, **options: object) -> None:
        self.nodes.append(Node())
        if len(self.nodes) <= len(self.messages):
            self.nodes[-1].start(self.messages[len(self.nodes) - 1])

    def shutdown(self) -> None:
        """It knows of no node."""


class Node:
    """Processes of a cluster."""

    running = True

    def start(self, message: str) -> None:
        raise Exception(message)  # as Ray does

    def kill_all_processes(self, check_alive: bool) -> None:
        assert not check_alive  # some may have ended
        self.running = False


def test_a_start_that_timed_out_is_ended_and_tried_again():
    ray = Ray(TIMED_OUT, "Timed out waiting for a file")
    start_here(ray, 2)
    assert [node.running for node in ray.nodes] == [False, False, True]


@pytest.mark.parametrize(("messages", "starts"), [([TIMED_OUT] * STARTS, STARTS), (["no room in /dev/shm"], 1)])
def test_what_does_not_start_is_said_and_nothing_stays(messages, starts):
    ray = Ray(*messages)
    with pytest.raises(SweepError, match=f"Ray does not start on this machine: {messages[-1]}"):
        start_here(ray, 2)
    assert [node.running for node in ray.nodes] == [False] * starts
