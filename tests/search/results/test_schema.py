import hashlib
import json

import pyarrow as pa

from search.results import SCHEMA_VERSION, TABLES
from search.results.schema import KEYS


def test_the_columns_are_those_of_their_version() -> None:
    """Whoever changes a column raises SCHEMA_VERSION, and then this value."""
    columns = {name: [[f.name, str(f.type), f.nullable] for f in schema] for name, schema in TABLES.items()}
    digest = hashlib.sha256(json.dumps(columns, sort_keys=True).encode()).hexdigest()[:16]
    assert (SCHEMA_VERSION, digest) == (1, "142ddf60b07aec47")


def test_every_column_is_documented_and_every_key_required() -> None:
    for name, schema in TABLES.items():
        assert all(field.metadata[b"description"].endswith(b".") for field in schema)
        assert not any(schema.field(key).nullable for key in KEYS[name])
        assert len(set(schema.names)) == len(schema.names)


def test_times_are_utc() -> None:
    times = [field for schema in TABLES.values() for field in schema if field.name.endswith("_at")]
    assert len(times) == 4
    assert all(field.type == pa.timestamp("us", tz="UTC") for field in times)
