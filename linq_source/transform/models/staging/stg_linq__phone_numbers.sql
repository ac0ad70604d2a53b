{{ linq_source.linq_rows('phone_numbers') }}
