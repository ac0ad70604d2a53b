{{ linq_source.linq_rows('chats') }}
