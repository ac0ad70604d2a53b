{{ linq_source.linq_rows('contacts') }}
