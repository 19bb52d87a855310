"""fedloom's own form on disk, for large populations: examples memory-mapped, random access by client id.

A folder with three files:

- `examples.arrow`: an Arrow IPC file, not compressed. A record batch holds the examples of whole clients, one client after the other.
- `clients.arrow`: an Arrow IPC file with one record batch, a row per client in the order of the data set: `id`, `size`, the record batch
  that holds the client (`batch`) and the row where it begins there (`start`); and `by_id`, the positions of the ids in sorted order, for a
  look-up by bisection.
- `fedloom.json`: what this is, its version, counts, and the sizes of the two other files. It is written last.

Opening maps the files and goes over `clients.arrow` once, to check it; examples are read, and checked, a client at a time.
Free to change: how many rows make a record batch. With care: the files, which must stay readable; a change needs a new version.
"""

from __future__ import annotations

import pyarrow as pa

MANIFEST, CLIENTS, EXAMPLES = "fedloom.json", "clients.arrow", "examples.arrow"
FORMAT, VERSION = "fedloom clients", 1
CLIENT_FIELDS = {"id": pa.large_string(), "size": pa.int64(), "batch": pa.int32(), "start": pa.int32(), "by_id": pa.int32()}
