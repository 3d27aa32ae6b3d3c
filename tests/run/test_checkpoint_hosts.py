"""Checkpoints of several hosts: processes of this machine."""

import os
import socket
import subprocess
import sys

HOST = """
import sys, time
import jax, numpy as np
from orbax.checkpoint._src.checkpointers import async_checkpointer

rank, port, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{port}", 2, rank)

from research.core.mesh import make_mesh, replicated
from research.run.checkpoint import Checkpoints

commit = async_checkpointer._background_wait_for_commit_futures

def slow(directory, *args, **kwargs):  # host 1 comes late to every barrier, and latest to that of the first folder
    time.sleep(rank * (2 if "checkpoints" in str(directory) else 1))
    commit(directory, *args, **kwargs)

async_checkpointer._background_wait_for_commit_futures = slow
state = jax.device_put({"w": np.arange(4.0)}, replicated(make_mesh({"data": 2})))
places = [Checkpoints(f"{folder}/{name}", 1) for name in ("checkpoints", "best")]
for place in places:
    place.save(1, state, {})
for place in places:
    place.wait()
    assert place.steps() == [1]
    place.close()
print("saved", flush=True)
jax.distributed.shutdown()
"""


def test_two_folders_saved_at_once_meet_at_barriers_of_their_own(tmp_path):
    """Their commits end in threads of each host. At one barrier for both, one host failed at once and the other waited for ten
    minutes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    hosts = [
        subprocess.Popen([sys.executable, "-c", HOST, str(rank), port, str(tmp_path)], env=env, **pipes)
        for rank in range(2)
    ]
    try:
        said = [host.communicate(timeout=120)[0] for host in hosts]
    finally:
        for host in hosts:
            host.kill()
    assert [host.returncode for host in hosts] == [0, 0] and all("saved" in words for words in said), said
