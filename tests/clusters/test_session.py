import json
import os
import subprocess
import sys
import textwrap

import pytest

from clusters import ClusterError, load_profile, parse_profile
from clusters.profile import named_profiles
from clusters.session import session

pytestmark = pytest.mark.ray


def profile(**fields):
    return parse_profile(fields)


def run(program, timeout=90, **environment):
    """Run a program in a process of its own: a Ray must not be there before."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_a_local_session_from_start_to_end(tmp_path):
    program = """
        import json, os, ray, psutil
        from clusters import ClusterError, parse_profile
        from clusters.session import session
        before = dict(os.environ)
        profile = parse_profile({"kind": "local", "cpus": 3, "gpus": 2, "custom": {"fpga": 1}})
        with session(profile) as here:
            outside = [
                c.laddr.ip
                for p in [psutil.Process(), *psutil.Process().children(recursive=True)]
                for c in p.net_connections()
                if c.status == "LISTEN" and c.laddr.ip not in ("127.0.0.1", "::ffff:127.0.0.1", "::1")
            ]
            refused = []
            for wants in [(4, 0, {}), (1, 3, {}), (1, 0, {"tpu": 1})]:
                try: here.check_placement(*wants)
                except ClusterError as error: refused.append(str(error))
            here.check_placement(1, 0.5, {"fpga": 1})
            with session(profile):
                pass
            print(json.dumps([
                here.resources(), len(here.nodes()), outside, refused, ray.is_initialized(),
                [here.max_concurrent(*wants) for wants in [(1, 0), (1, 0.5), (1, 0.25), (0.5, 1)]],
            ]))
        assert not ray.is_initialized()
    """
    done = run(program, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    resources, nodes, outside, refused, joined_stays, fit = json.loads(done.stdout)
    assert (resources, nodes) == ({"CPU": 3, "GPU": 2, "fpga": 1}, 1)
    assert outside == [], "everything listens on loopback only"
    assert ["lower resources.cpus" in refused[0], "3 GPU" in refused[1], "1 tpu" in refused[2]] == [True] * 3
    assert joined_stays, "an inner session leaves the Ray that was there"
    assert fit == [3, 3, 3, 2]
    token = tmp_path / ".ray" / "auth_token"
    assert oct(token.stat().st_mode)[-3:] == "600"
    assert token.read_text() not in done.stdout + done.stderr
    assert done.stderr.strip() == "", "Ray starts without a word"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "no Ray answers at 127.0.0.1:1 .*http://HOST:8265"),
        ("no-such-host.invalid:6379", "no Ray answers at no-such-host"),
    ],
)
def test_an_unreachable_address_is_one_sentence(address, message):
    with pytest.raises(ClusterError, match=message), session(profile(kind="existing", address=address)):
        pass


def test_a_cluster_is_submitted_to_from_outside(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    path = tmp_path / "lab.yaml"
    path.write_text(named_profiles()["ssh"])
    message = f"submit it with `rps-search launch SPEC --cluster {path}`"
    with pytest.raises(ClusterError, match=message), session(load_profile(str(path))):
        pass


@pytest.mark.parametrize("found", [None, "127.0.0.1:1"])
def test_no_ray_to_join(monkeypatch, found):
    """Neither none nor the remains of one that died keeps a search waiting."""
    monkeypatch.setattr("ray._private.services.canonicalize_bootstrap_address", lambda address: found)
    with (
        pytest.raises(ClusterError, match="there is no Ray on this machine to join"),
        session(load_profile("existing")),
    ):
        pass
