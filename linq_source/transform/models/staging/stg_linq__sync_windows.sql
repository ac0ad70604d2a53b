{{ linq_source.linq_rows('sync_windows') }}
