"""A profile as a batch script for Slurm: a head, its workers and the search, in one job."""

from __future__ import annotations

import json
import shlex

from clusters.entry import search_command
from clusters.kinds import SlurmProfile
from clusters.names import object_name
from clusters.versions import CLIENT_VERSIONS, versions

# In the folder from which the job is submitted.
LOG_FILE = "rps-%j.log"

SCRIPT = """\
#!/bin/bash
{directives}
# shellcheck disable=SC1090,SC1091  # The commands of the profile's setup may read files that are not here.
# Run it with: sbatch FILE SPEC STORAGE PROFILE
# SPEC: a spec; STORAGE: URI of the experiment folder, which all nodes reach; PROFILE: this profile's file or name.
# The same command again goes on with the search where it stopped.
set -eo pipefail
spec=${{1:?name the spec}} storage=${{2:?name the experiment folder}} profile=${{3:?name the profile}}

{setup}
# Only from here on: what modules and environments run when they are loaded often asks for variables that are not set.
set -u
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
# What the search was rendered with; the search compares it with what it finds here.
export {marker}={versions}
# The home folder is shared between the nodes; only its owner may read the token.
export RAY_AUTH_TOKEN_PATH="${{RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}}"
export PYTHONPATH="$PWD${{PYTHONPATH:+:$PYTHONPATH}}"
python -m clusters.token

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
read -r head_ip _ < <(srun --overlap --nodes=1 --ntasks=1 --nodelist="${{nodes[0]}}" hostname --ip-address)
export RAY_ADDRESS="$head_ip:$((20000 + SLURM_JOB_ID % 20000))"
on_node=(srun --overlap --nodes=1 --ntasks=1 --cpus-per-task={cpus}{gpu_option})
offer=(--num-cpus={cpus} --num-gpus={gpus}{custom} --temp-dir="/tmp/ray-$SLURM_JOB_ID" --block)
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT

"${{on_node[@]}}" --nodelist="${{nodes[0]}}" ray start --head --node-ip-address="$head_ip" \\
  --port="${{RAY_ADDRESS##*:}}" --include-dashboard=false "${{offer[@]}}" &
for attempt in {{1..60}}; do
  ray health-check --address "$RAY_ADDRESS" && break
  if [ "$attempt" -eq 60 ]; then echo "the head of the Ray cluster did not start in 2 minutes" >&2; exit 1; fi
  sleep 2
done
for node in "${{nodes[@]:1}}"; do
  "${{on_node[@]}}" --nodelist="$node" ray start --address="$RAY_ADDRESS" "${{offer[@]}}" &
done

# Slurm sends TERM two minutes before the time is over: the search then stops as it does at Ctrl-C. It may also come
# while the search is being started.
search="" told=""
trap 'if [ -n "$search" ]; then kill -TERM "$search"; else told=1; fi' TERM
{command} &
search=$!
if [ -n "$told" ]; then kill -TERM "$search"; fi
while kill -0 "$search" 2>/dev/null; do wait "$search" && code=0 || code=$?; done
exit "$code"
"""


def batch_script(profile: SlurmProfile) -> str:
    """Return the script; its arguments are the spec, the experiment folder's URI and the profile."""
    machine = profile.head
    command = search_command("SPEC", "STORAGE", "PROFILE")
    arguments = {"SPEC": '"$spec"', "STORAGE": '"$storage"', "PROFILE": '"$profile"'}
    return SCRIPT.format(
        directives="\n".join(f"#SBATCH --{option}" for option in _options(profile)),
        setup="\n".join(profile.setup),
        cpus=machine.cpus,
        gpus=machine.gpus,
        gpu_option=f" --gpus-per-node={machine.gpus}" if machine.gpus else "",
        custom=f" --resources={shlex.quote(json.dumps(machine.custom))}" if machine.custom else "",
        command=" ".join(arguments.get(part, part) for part in command),
        marker=CLIENT_VERSIONS,
        versions=shlex.quote(json.dumps(versions())),
    )


def _options(profile: SlurmProfile) -> list[str]:
    machine = profile.head
    options = {
        "job-name": object_name(f"rps-{profile.name}"),
        "nodes": profile.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": machine.cpus,
        "gpus-per-node": machine.gpus or None,
        "mem": f"{machine.memory // 2**20}M" if machine.memory else None,
        "time": profile.time_limit,
        "partition": profile.partition,
        "account": profile.account,
        "output": LOG_FILE,
        "signal": "B:TERM@120",
    }
    return [f"{name}={value}" for name, value in options.items() if value is not None]
