{{ linq_source.linq_rows('chat_messages') }}
