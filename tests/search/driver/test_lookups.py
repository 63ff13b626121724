from ray.tune import registry

from search.driver.lookups import lookups_kept


def test_a_trainable_is_looked_up_once_and_forgotten_afterwards(monkeypatch):
    asked = []
    shared = registry._global_registry
    monkeypatch.setattr(type(shared), "get", lambda self, category, key: asked.append(key) or [key])
    monkeypatch.setattr(type(shared), "contains", lambda self, category, key: asked.append(f"{key}?") or key == "a")
    with lookups_kept():
        assert not shared.contains("trainable_class", "b")
        assert shared.contains("trainable_class", "a")
        first = shared.get("trainable_class", "a")
        assert shared.get("trainable_class", "a") is first
        assert shared.contains("trainable_class", "a")
    assert asked == ["b?", "a?", "a"]
    shared.get("trainable_class", "a")
    assert asked == ["b?", "a?", "a", "a"], "the registry is as it was"


def test_a_search_within_a_search_ends_without_an_error(monkeypatch):
    shared = registry._global_registry
    before = shared.get
    with lookups_kept():
        with lookups_kept():
            pass
        assert not shared.contains("trainable_class", "no such class")
    assert shared.get == before, "the registry is as it was"
