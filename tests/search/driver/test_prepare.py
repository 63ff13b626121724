import pickle
import subprocess
import sys

import pytest

from search.driver.prepare import Facts


@pytest.mark.parametrize("modules", ["search.driver.run, search.driver.tuning", "rps_core.budgets"])
def test_what_the_driver_needs_loads_neither_torch_nor_data_sets(modules):
    code = f"import sys, {modules}; print({{'torch', 'torchvision', 'sklearn', 'PIL'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_what_the_driver_is_told_loads_no_torch_either():
    told = pickle.dumps(Facts({"fc": (3, 4)}, ["*"], (), {}))
    code = f"import pickle, sys; print(pickle.loads({told!r}).groups, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['*'] False\n"


def test_all_public_names_of_rps_core_are_there():
    import rps_core

    assert {name for name in rps_core.__all__ if getattr(rps_core, name).__module__.startswith("rps_core.")} == set(
        rps_core.__all__
    )
