{{ linq_source.linq_rows('sync_runs') }}
