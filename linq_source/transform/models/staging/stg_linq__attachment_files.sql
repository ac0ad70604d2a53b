{{ linq_source.linq_rows('attachment_files') }}
