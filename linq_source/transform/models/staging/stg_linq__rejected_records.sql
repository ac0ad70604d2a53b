{{ linq_source.linq_rows('rejected_records') }}
