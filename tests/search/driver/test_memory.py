import pyarrow as pa

from search.driver.memory import memory_returned


def test_arrow_allocates_as_before_once_a_search_is_over():
    before = pa.default_memory_pool().backend_name
    with memory_returned():
        assert pa.default_memory_pool().backend_name == "system"
        held = pa.array(range(1000))
    assert pa.default_memory_pool().backend_name == before
    assert held.to_pylist() == list(range(1000)), "what was made meanwhile lives on"
