"""A Ray Tune trainable that owns a lane of a pack: a thin process, while the trial runs in that of its device.

To Tune it is a trial like any other: it occupies its part of a device, reports, is stopped and is started again. This
module must not import torch: there are as many of these processes as trials at a time.
"""

from __future__ import annotations

import os
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


class LaneActor(tune.Trainable):
    """Asks the host of its lane for each epoch. If the host dies, so does this trial, and Tune starts it again."""

    def setup(self, config: dict[str, Any], *, office: Any) -> None:  # type: ignore[override]  # as TrialActor
        """Take a lane on this device and begin the first trial."""
        context = ray.get_runtime_context()
        self._lane = context.get_actor_id()
        gpus = tuple(str(number) for number in ray.get_gpu_ids())
        self._host: Any = ray.get(office.assign.remote(self._lane, context.get_node_id(), gpus))
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial on this lane."""
        ray.get(self._host.begin.remote(self._lane, new_config["trial"]))
        return True

    def step(self) -> dict[str, Any]:
        """Have one epoch trained."""
        return ray.get(self._host.step.remote(self._lane))

    def cleanup(self) -> None:
        """Give the lane back."""
        self._host.leave.remote(self._lane)


class LaneOffice:
    """Assigns lanes: it owns the hosts, one for every ``width`` lanes of a device, which end when it ends.

    Args:
        data: Reference to the images in the object store, in a list so that they are not fetched here.
        settings: What all trials of the search share (:class:`search.driver.runner.RunSettings`).
        width: Lanes of a host.
    """

    def __init__(self, data: list[Any], settings: Any, width: int) -> None:
        self._data = data
        self._settings = settings
        self._width = width
        self._hosts: dict[tuple[str, tuple[str, ...]], list[Any]] = {}

    def assign(self, lane: str, node: str, gpus: tuple[str, ...]) -> Any:
        """Return the host that has taken a lane in.

        Args:
            lane: Name of the lane.
            node: Ray's id of the node its owner runs on.
            gpus: What its owner may see of the node's GPUs.
        """
        hosts = self._hosts.setdefault((node, gpus), [])
        for host in list(hosts):
            try:
                if ray.get(host.join.remote(lane)):
                    return host
            except RayActorError:
                hosts.remove(host)
        hosts.append(self._start(node, gpus))
        ray.get(hosts[-1].join.remote(lane))
        return hosts[-1]

    def _start(self, node: str, gpus: tuple[str, ...]) -> Any:
        """Start a host. Its owners hold the resources that it uses."""
        return (
            ray.remote(_Host)
            .options(
                num_cpus=0,
                # Every lane may wait for an epoch while others come and go.
                max_concurrency=2 * self._width + 2,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            )
            .remote(self._data[0], self._settings, self._width, gpus)
        )


class _Host:
    """The process of a :class:`search.driver.pack.PackHost`."""

    def __init__(self, data: Any, settings: Any, width: int, gpus: tuple[str, ...]) -> None:
        # Ray hides GPUs from a process that holds none; this one computes on behalf of those that do.
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        import logging

        import torch

        from clusters.placement import limit_gpu_memory
        from search.driver.pack import PackHost

        if torch.cuda.is_available():
            torch.cuda.init()  # Now: Ray may hide them again before the next call.
        logging.basicConfig(level=logging.INFO)
        limit_gpu_memory(settings.gpus)
        self._host = PackHost(data, settings, width)

    def join(self, lane: str) -> bool:
        return self._host.join(lane)

    def begin(self, lane: str, config: str) -> None:
        self._host.begin(lane, config)

    def step(self, lane: str) -> dict[str, Any]:
        return self._host.step(lane)

    def leave(self, lane: str) -> None:
        self._host.leave(lane)
