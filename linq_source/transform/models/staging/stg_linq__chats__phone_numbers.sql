{{ linq_source.linq_rows('chats__phone_numbers') }}
