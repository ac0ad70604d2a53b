{{ linq_source.linq_rows('chats__chat_handles') }}
