"""Read-only pages and metrics over ledgers, runs and, at a coordinator, its pool.

`source_watch` follows the sources, `snapshot` is what it saw, `views` and `alerts` say it in plain
values, `pages` and `metrics` print those, `asgi_app` answers requests and `serving` opens the port.
"""
